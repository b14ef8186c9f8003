"""`memreq diff`, from outside: what it prints in each form, and its exit codes."""

import json
import re
from dataclasses import replace

import pytest

from pytest_memreq.cli import main
from pytest_memreq.gate.baseline import baseline_of
from pytest_memreq.gate.baseline_text import to_text
from pytest_memreq.reports.recording import entries_of
from pytest_memreq.requirement import Breakdown, Peak, Site
from pytest_memreq.results import Environment, Results, TestResult, to_json
from tests.reports.hostile import NAMES
from tests.reports.html_reader import Reader

GIB = 2**30
ENVIRONMENT = Environment(mode="simulated", gpu="NVIDIA H200", torch="2.13.0")


def result(nodeid="test_a.py::test_a", *activations, parameters=GIB, verdict="within", **more):
    """A test with parameters, and activations of so many bytes each, in modules a, b, ..."""
    sites = [Site(bytes=parameters, category="parameters", module="head")]
    sites += [
        Site(
            bytes=size,
            category="activations",
            module=chr(97 + at),
            shape=(size // 4,),
            dtype="float32",
            source="model.py:88",
        )
        for at, size in enumerate(activations)
    ]
    total = sum(site.bytes for site in sites)
    given = {
        "mode": "simulated",
        "reason": "",
        "peak": Peak(allocated_bytes=total, reserved_bytes=2 * total),
        "breakdown": Breakdown(parameters_bytes=parameters, activations_bytes=sum(activations)),
        "sites": tuple(sorted(sites, key=lambda site: -site.bytes)),
        **more,
    }
    return TestResult(nodeid=nodeid, verdict=verdict, **given)


def of_tests(tests):
    return Results(tests=tuple(tests), environment=ENVIRONMENT)


@pytest.fixture
def diff(tmp_path, monkeypatch, capsys):
    """(exit code, what is printed) of `memreq diff` on two reports."""
    monkeypatch.chdir(tmp_path)

    def run(base, head, *options):
        for name, side in (("base", base), ("head", head)):
            results = side if isinstance(side, Results) else of_tests(side)
            (tmp_path / f"{name}.json").write_text(to_json(results))
        code = main(["diff", "base.json", "head.json", *options])
        printed = capsys.readouterr()
        assert not printed.err
        return code, printed.out

    return run


def test_what_grew_is_told_below_its_row(diff):
    code, out = diff([result()], [result("test_a.py::test_a", GIB // 2)])
    assert code == 1
    assert out.splitlines() == [
        "base.json -> head.json: peaks of allocated, tolerance that of baselines",
        "regressed    1.00 GiB    1.50 GiB +512.00 MiB (+50.0%)  test_a.py::test_a",
        "    allocated +512.00 MiB, reserved +1.00 GiB",
        "    +512.00 MiB against the base: activations +512.00 MiB",
        "    +512.00 MiB activations in a: (134217728,) float32 at model.py:88, not in the base",
        "1 regressed",
    ]


def test_modules_are_summed_where_there_are_more_changes_than_modules(diff):
    head = result("test_a.py::test_a", GIB, GIB)
    more = Site(bytes=GIB, category="gradients", module="a", shape=(3,), dtype="float32")
    peak = Peak(allocated_bytes=4 * GIB)
    head = replace(head, peak=peak, sites=(*head.sites, more), breakdown=None)
    _, out = diff([result("test_a.py::test_a", GIB // 2, GIB // 2)], [head])
    assert "    by module: a +1.50 GiB, b +512.00 MiB\n" in out


@pytest.mark.parametrize(
    ("base", "head", "options", "code", "summary"),
    [
        ([result()], [result()], (), 0, "1 within"),
        ([result()], [result(parameters=GIB - 1)], (), 0, "1 improved"),
        ([result()], [result(parameters=GIB + 1)], (), 1, "1 regressed"),
        ([result()], [result(parameters=GIB + 1)], ("--tolerance", "1 B"), 0, "1 within"),
        ([result()], [result(parameters=2 * GIB)], ("--tolerance", "99 %"), 1, "1 regressed"),
        ([result()], [result(parameters=2 * GIB)], ("--tolerance", "100%"), 0, "1 within"),
        ([result()], [result(parameters=GIB + 1)], ("--metric", "reserved"), 1, "1 regressed"),
        ([result()], [result(parameters=GIB + 1)], ("--metric", "device"), 2, "1 unchecked"),
        ([result()], [result(peak=Peak())], (), 2, "1 unchecked"),
        ([result()], [result(verdict="error")], (), 2, "1 unchecked"),
        ([result(verdict="unchecked")], [result()], (), 2, "1 unchecked"),
        ([result(verdict="over")], [result(verdict="over")], (), 0, "1 within"),
        ([result()], [result(mode="measured")], (), 2, "1 unchecked"),
        ([], [], (), 2, "no test on either side"),
        ([result("a")], [result("b")], (), 2, "1 new, 1 gone"),
        ([result("a"), result("b")], [result("b"), result("c")], (), 0, "1 new, 1 gone, 1 within"),
        (
            [result("a"), result("b")],
            [result("a", verdict="error"), result("b", GIB)],
            (),
            1,
            "1 regressed, 1 unchecked",
        ),
    ],
)
@pytest.mark.parametrize("form", ["terminal", "markdown", "json"])
def test_the_exit_code_is_that_of_the_worst(diff, base, head, options, code, summary, form):
    found, out = diff(base, head, *options, "--format", form)
    assert found == code
    if form == "json":
        counts = json.loads(out)["summary"]
        assert [f"{n} {word}" for word, n in counts.items() if n] == (
            [] if summary.startswith("no") else summary.split(", ")
        )
    else:
        lines = out.splitlines()
        assert (lines[-1] if form == "terminal" else lines[0]).endswith(summary)


@pytest.mark.parametrize("which", [0, 1])
def test_a_run_that_did_not_finish_cannot_be_told_from(diff, which):
    sides = [Results(tests=(result(),)), Results(tests=(result(),))]
    sides[which] = replace(sides[which], status="incomplete")
    code, out = diff(*sides)
    name = ("base.json", "head.json")[which]
    assert code == 2
    assert f"cannot tell: {name}: the run did not finish\n" in out
    grown = replace(sides[1], tests=(result("test_a.py::test_a", GIB),))
    assert diff(sides[0], grown)[0] == 1  # what is known to have regressed has


def test_why_it_cannot_be_told_is_said(diff):
    _, out = diff([result()], [result(verdict="error", reason="the test failed")])
    assert "    head, error: the test failed\n" in out
    _, out = diff([result()], [result(mode="measured")])
    assert "    simulated in the base, measured in the head\n" in out
    _, out = diff([result()], [result(peak=Peak())])
    assert "    the allocated peak is not known in the head\n" in out


def test_what_differs_in_the_environment_is_noted(diff):
    head = Results(tests=(result(),), environment=replace(ENVIRONMENT, torch="2.14.0"))
    code, out = diff([result()], head)
    assert code == 0
    assert "note: torch: 2.13.0 in the base, 2.14.0 in the head\n" in out


def test_the_worst_comes_first_and_what_stayed_is_only_counted(diff):
    names = ["same", "less", "more", "most"]
    base = [result(name, parameters=GIB) for name in names] + [result("gone")]
    sizes = (GIB, GIB // 2, 2 * GIB, 3 * GIB)
    head = [result(n, parameters=s) for n, s in zip(names, sizes, strict=True)] + [result("new")]
    _, out = diff(base, head)
    rows = [line.split()[-1] for line in out.splitlines() if not line.startswith(" ")]
    assert rows[1:-1] == ["most", "more", "less", "new", "gone"]
    assert rows[-1] == "within"


def test_json_has_every_figure(diff):
    _, out = diff([result()], [result("test_a.py::test_a", GIB // 2)], "--format", "json")
    document = json.loads(out)
    (test,) = document["tests"]
    assert (document["status"], document["metric"], document["tolerance"]) == (
        "regressed",
        "allocated",
        None,
    )
    assert test["change"] == {"allocated_bytes": GIB // 2, "reserved_bytes": GIB}
    explanation = test["explanation"]
    assert explanation["breakdown"] == {"activations_bytes": GIB // 2}
    assert explanation["modules"] == [{"module": "a", "bytes": GIB // 2}]
    (change,) = explanation["changes"]
    assert (change["kind"], change["bytes"], change["base"]) == ("new", GIB // 2, None)
    assert change["head"]["source"] == "model.py:88"
    assert explanation["elsewhere_bytes"] == 0


TAGS = {("table",), ("tr",), ("th",), ("td",), ("td", "colspan"), ("code",), ("b",), ("br",)}
OURS = re.compile(r"[a-z0-9 ,]*")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_stay_text(diff, name):
    """No markup, no link, no mention, no other cell comes from what is in a report."""
    odd = Site(
        bytes=GIB, category=name, module=name, source=name, operator=name, shape=(1,), dtype=name
    )
    head = replace(result(name), sites=(odd,), verdict="within", mode="simulated", breakdown=None)
    base = [result(name, parameters=GIB // 2), result("other " + name)]
    elsewhere = Results(tests=(head,), environment=replace(ENVIRONMENT, gpu=name))
    try:
        _, out = diff(base, elsewhere, "--format", "markdown")
    except UnicodeEncodeError:
        pytest.skip("no such name is in a file")
    heading, blank, *table = out.splitlines()
    assert OURS.fullmatch(heading.removeprefix("### GPU memory: "))
    assert (blank, table[0], table[-1]) == ("", "<table>", "</table>")
    assert all(line.strip() and line.isprintable() for line in table)
    reader = Reader()
    reader.feed("\n".join(table))
    assert set(reader.tags) <= TAGS
    assert reader.depth == 0
    assert all(OURS.fullmatch(text.strip()) for text in reader.plain)
    _, text = diff(base, elsewhere)
    for line in text.splitlines():
        assert line.isprintable()
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
        assert len(line) < 400


def test_markdown_fits_a_comment(diff):
    names = [f"test_{n}_{'&' * 300}" for n in range(300)]
    base = [result(name) for name in names]
    code, out = diff(base, [result(name, GIB, GIB) for name in names], "--format", "markdown")
    assert code == 1
    assert len(out) < 65_536
    assert re.search(r"and \d+ more", out)
    assert "300 regressed" in out.splitlines()[0]


def test_a_folder_is_its_report(diff, tmp_path, capsys):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "memreq.json").write_text(to_json(Results(tests=(result(),))))
    assert main(["diff", "report", "report"]) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("none.json", "none.json"), "none.json"),
        (("bad.json", "bad.json"), "bad.json: is not JSON"),
        (("good.json",), "the following arguments are required: HEAD"),
        (("good.json", "good.json", "--format", "xml"), "invalid choice: 'xml'"),
        (("good.json", "good.json", "--tolerance", "much"), "--tolerance: 'much' is not"),
    ],
)
def test_bad_usage_ends_in_one_line(tmp_path, monkeypatch, capsys, argv, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.json").write_text(to_json(Results()))
    (tmp_path / "bad.json").write_text("{")
    assert main(["diff", *argv]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("memreq: ")
    assert said in line


def entries(*results, environment=ENVIRONMENT):
    return entries_of(Results(tests=results, environment=environment))[0]


A10G = replace(ENVIRONMENT, gpu="NVIDIA A10G")
TORCH_2_12 = replace(ENVIRONMENT, torch="2.12.1")
TEST = "test_a.py::test_a"


@pytest.fixture
def against(tmp_path, monkeypatch, capsys):
    """(exit code, lines) of `memreq diff`; a side is a report's results or a baseline's entries."""
    monkeypatch.chdir(tmp_path)

    def run(base, head, *options):
        for name, side in (("base", base), ("head", head)):
            is_report = isinstance(side, Results)
            text = to_json(side) if is_report else to_text(baseline_of(side))
            (tmp_path / f"{name}.json").write_text(text)
        code = main(["diff", "base.json", "head.json", *options])
        printed = capsys.readouterr()
        assert not printed.err
        return code, printed.out.splitlines()

    return run


def test_a_report_is_held_against_a_baseline(against):
    head = of_tests([result(TEST, GIB // 2), result("test_a.py::test_new")])
    code, out = against(entries(result(), result("test_a.py::test_gone")), head)
    assert code == 1
    assert out[1:] == [
        "regressed    1.00 GiB    1.50 GiB +512.00 MiB (+50.0%)  test_a.py::test_a",
        "    allocated +512.00 MiB, reserved +1.00 GiB",
        "    +512.00 MiB against the base: activations +512.00 MiB",
        "    +512.00 MiB activations in a: (134217728,) float32 at model.py:88, not in the base",
        "new                 -    1.00 GiB              test_a.py::test_new",
        "gone         1.00 GiB           -              test_a.py::test_gone",
        "1 regressed, 1 new, 1 gone",
    ]


def test_two_baselines_are_compared_device_by_device(against):
    base = [*entries(result()), *entries(result(parameters=GIB // 2), environment=A10G)]
    head = [*entries(result()), *entries(result(parameters=GIB), environment=A10G)]
    code, out = against(base, head)
    assert code == 1
    assert out[1].endswith("test_a.py::test_a (simulated on NVIDIA A10G, torch 2.13)")
    assert out[-1] == "1 regressed, 1 within"


def test_a_baseline_of_another_card_says_nothing(against):
    code, out = against(entries(result(), environment=A10G), of_tests([result()]))
    assert code == 2
    assert out[1:3] == [
        "unchecked           -    1.00 GiB              test_a.py::test_a",
        "    the baseline has it for other devices: simulated on NVIDIA A10G, torch 2.13",
    ]
    both = [*entries(result()), *entries(result(), environment=A10G)]
    assert against(both, of_tests([result()])) == (0, [out[0], "1 within"])
    assert against(of_tests([result()]), both) == (0, [out[0], "1 within"])


@pytest.mark.parametrize(
    ("environment", "more_bytes", "code"),
    [(ENVIRONMENT, 1, 1), (TORCH_2_12, 2**20, 0), (TORCH_2_12, 2**26, 1)],
)
def test_another_version_of_torch_may_differ_a_little(against, environment, more_bytes, code):
    base = entries(result(), environment=environment)
    assert against(base, of_tests([result(parameters=GIB + more_bytes)]))[0] == code


def test_the_nearest_is_the_very_device(against):
    base = [
        *entries(result(parameters=GIB // 2), environment=TORCH_2_12),
        *entries(result()),
    ]
    code, out = against(base, of_tests([result()]))
    assert (code, out[-1]) == (0, "1 within")


@pytest.mark.parametrize(
    "text", ['{"format": 1, "entries": 5}', '{"format": 2, "entries": ["end"]}', '{"entries": []}']
)
def test_a_malformed_baseline_ends_in_one_line(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.json").write_text(text)
    assert main(["diff", "base.json", "base.json"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("memreq: base.json: ")
