"""The published schemas are those of the types, and take what the readers take."""

import json
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pytest_memreq import MemreqError
from pytest_memreq.gate.baseline import Before, DeviceClass, Entry, baseline_of
from pytest_memreq.gate.baseline_text import from_text, to_text
from pytest_memreq.gate.hints import Hint
from pytest_memreq.gate.largest import Largest, Thing
from pytest_memreq.gate.verdict import VERDICT_WORDS
from pytest_memreq.packing.rooms import Room, Together
from pytest_memreq.reports import schema
from pytest_memreq.reports.descriptions import DESCRIPTIONS
from pytest_memreq.reports.reading import results_of
from pytest_memreq.requirement import Breakdown, DevicePeak, Peak, Site, Survivor
from pytest_memreq.results import (
    Environment,
    RankResult,
    Results,
    Simulated,
    TestResult,
    to_json,
)
from pytest_memreq.strict_json import READERS
from tests.gate.baselines import BASELINES, H200
from tests.reports.hostile import NAMES
from tests.reports.schemas import errors_of, published, validator
from tests.reports.test_reading import RUNS, VALUES

FILES = {"memreq": schema.REPORT, "memreq-baseline": schema.BASELINE}
PEAK = Peak(allocated_bytes=2)
SITE = Site(
    bytes=1, category="activations", module="head", shape=(1, 2), dtype="int8", source="a:1"
)
BEFORE = Before(verdict="over", device=H200, peak=PEAK, tolerance="1 %, 2.00 MiB")
FULL = TestResult(
    nodeid="a", mode="measured", gpu="L4", verdict="over", reason="x", outcome="failed",
    cause="skipped", peak=PEAK,
    peak_at="step", budget={"allocated_bytes": 1}, breakdown=Breakdown(activations_bytes=1),
    simulated=Simulated(gpu="L4", peak=PEAK, breakdown=Breakdown(), sites=(SITE,),
                        timeline=((0, 1),), baseline=BEFORE, grew=("x",), divergence=("y",)),
    absolute_peak=PEAK, devices=(DevicePeak(index=0, name="L4", peak=PEAK, absolute_peak=PEAK),),
    unknown={"device": "no NVML"}, held_bytes=1, held_by=(("test_b", 3),), fixtures_bytes=1,
    leaked_bytes=-1, survivors=(Survivor(bytes=1, shape=(1,), dtype="int8", referrers=("x",)),),
    snapshot="a.pickle", sites=(SITE,), timeline=((0, 1),), baseline=BEFORE, grew=("x",),
    notes=("x",),
    hints=(Hint(word="a", evidence="b", advice="c"),), file="a.py", line=1,
    ranks=(RankResult(rank=1, verdict="over", reason="x", peak=PEAK, held_bytes=0),),
    rooms=(Room(card=1, bytes=1, waited_seconds=0.5, begun_seconds=1.5, ended_seconds=2.5),),
)  # fmt: skip
RUN = Results(
    tests=(FULL,), environment=Environment(mode="measured", gpu="L4", gpu_bytes=1),
    together=(Together(card=1, tests=2, rooms_bytes=3, peak=PEAK),),
)  # fmt: skip
THING = Thing(category="other", module="head", shape=(2,), dtype="int8", bytes=1)
ENTRY = Entry(
    nodeid="a", device=H200, peak=PEAK, breakdown=Breakdown(other_bytes=1),
    largest=Largest(things=(THING,), rest_bytes=0),
)  # fmt: skip
TEXTS = {"memreq": to_json(RUN), "memreq-baseline": to_text(baseline_of([ENTRY]))}
READ = {"memreq": results_of, "memreq-baseline": from_text}
MORE_VALUES = [*VALUES, -(2**63), 2**63 - 1, 0.5, -1e300, "over", "measured", "passed", "end"]


@pytest.mark.parametrize("name", FILES)
def test_what_is_published_is_made_from_the_types(name):
    """Where a type has changed: python docs/write_schemas.py."""
    assert published(name) == schema.schema_of(FILES[name])
    Draft202012Validator.check_schema(published(name))


def test_there_is_a_schema_for_each_type_that_is_read():
    assert set(schema.SCHEMAS) == set(READERS)


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_described(name):
    """By the published schema, and nothing is described that is in none of them."""
    objects = {schema.schema_of(FILES[name])["title"]: published(name), **published(name)["$defs"]}
    for each in objects.values():
        assert each["description"]
        assert all(inner["description"] for inner in each["properties"].values())


def test_nothing_is_described_that_is_in_no_schema():
    schemas = [published(name) for name in FILES]
    found = {"Results": schemas[0], "Baseline": schemas[1]}
    found |= {name: each for one in schemas for name, each in one["$defs"].items()}
    assert {name: {"", *each["properties"]} for name, each in found.items()} == {
        name: set(told) for name, told in DESCRIPTIONS.items()
    }


def test_the_full_test_has_every_field():
    """So that what is changed in it below can be anything."""
    plain = TestResult(nodeid="", mode=None, verdict="within", reason="")
    same = {
        each.name for each in fields(FULL) if getattr(FULL, each.name) == getattr(plain, each.name)
    }
    assert same == {"duration_seconds"}


@given(RUNS)
def test_a_report_is_valid(results):
    assert errors_of("memreq", to_json(results)) == []


@given(BASELINES)
def test_a_baseline_is_valid(baseline):
    assert errors_of("memreq-baseline", to_text(baseline)) == []


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_is_valid(name):
    site = Site(bytes=1, category=name, module=name, source=name)
    device = DeviceClass(mode=name, gpu=name, torch=name)
    tests = [
        TestResult(nodeid=f"{name}{n}", mode=None, verdict=verdict, reason=name, sites=(site,),
                   held_by=((name, 1),), unknown={name: name}, file=name, notes=(name,),
                   baseline=Before(device=device))
        for n, verdict in enumerate(VERDICT_WORDS)
    ]  # fmt: skip
    assert errors_of("memreq", to_json(Results(tests=tuple(tests)))) == []
    entry = Entry(nodeid=name, device=device, peak=PEAK)
    assert errors_of("memreq-baseline", to_text(baseline_of([entry]))) == []


def is_read(name, raw):
    try:
        READ[name](json.dumps(raw).encode(), "")
    except MemreqError:
        return False
    return True


def places(raw, path=()):
    """Every place in an object, as the keys on the way."""
    keys = raw if isinstance(raw, dict) else range(len(raw)) if isinstance(raw, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(raw[key], (*path, key))


PLACES = {name: [*places(json.loads(text))] for name, text in TEXTS.items()}


def changed(name, path, change):
    """The file with something else in a place."""
    raw = inner = json.loads(TEXTS[name])
    *way, key = path
    for step in way:
        inner = inner[step]
    change(inner, key)
    return raw


@pytest.mark.parametrize("name", FILES)
def test_the_files_that_are_changed_below_are_valid_and_read(name):
    assert errors_of(name, TEXTS[name]) == []
    assert is_read(name, json.loads(TEXTS[name]))


@pytest.mark.parametrize("name", FILES)
@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_another_value_is_valid_where_it_is_read_and_nowhere_else(name, data):
    path = data.draw(st.sampled_from(PLACES[name]))
    value = data.draw(st.sampled_from(MORE_VALUES))
    raw = changed(name, path, lambda inner, key: inner.__setitem__(key, value))
    assert validator(name).is_valid(raw) == is_read(name, raw)


@pytest.mark.parametrize("name", FILES)
def test_a_value_that_lacks_is_valid_where_it_is_read_and_nowhere_else(name):
    for path in PLACES[name]:
        raw = changed(name, path, lambda inner, key: inner.pop(key))
        assert validator(name).is_valid(raw) == is_read(name, raw), path


def add(inner, _):
    if isinstance(inner, dict):
        inner["more"] = 1


@pytest.mark.parametrize("name", FILES)
def test_a_value_more_is_valid_where_it_is_read_and_nowhere_else(name):
    for path in PLACES[name]:
        raw = changed(name, path, add)
        assert validator(name).is_valid(raw) == is_read(name, raw), path


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("memreq", lambda raw: raw["tests"].append(raw["tests"][0])),
        ("memreq-baseline", lambda raw: raw["entries"].insert(0, raw["entries"][0])),
        ("memreq-baseline", lambda raw: raw["entries"].reverse()),
        ("memreq-baseline", lambda raw: raw["entries"][0]["largest"].reverse()),
    ],
)
def test_what_no_schema_can_say_is_left_to_the_reader(name, change):
    raw = json.loads(TEXTS[name])
    change(raw)
    assert validator(name).is_valid(raw)
    assert not is_read(name, raw)
