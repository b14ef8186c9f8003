"""Why it grew: from what was live at two peaks."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memreq.gate.account import Account, account_of
from pytest_memreq.gate.baseline import DeviceClass, Entry
from pytest_memreq.gate.change import signed
from pytest_memreq.gate.explain import explain, explanation_lines
from pytest_memreq.gate.largest import largest_of
from pytest_memreq.gate.matching import grouped
from pytest_memreq.requirement import WORDS, Breakdown, Peak, Site
from pytest_memreq.simulate import simulate
from pytest_memreq.units import UNIT_BYTES

GIB, MIB = 2**30, 2**20


def site(size, category="activations", module="head", shape=(4, 1024), **more):
    given = {"dtype": "float32", "source": "model.py:88", **more}
    return Site(bytes=size, category=category, module=module, shape=shape, **given)


def breakdown_of(sites):
    sums = dict.fromkeys((word for word in WORDS if word != "context"), 0)
    for each in sites:
        sums[each.category] += each.bytes
    return Breakdown(**{f"{word}_bytes": size for word, size in sums.items()})


def account(*sites, most=None, **more):
    """All of it is known but for the list, which has the largest `most`."""
    listed = sorted(sites, key=lambda each: -each.bytes)[:most]
    given = {
        "total_bytes": sum(each.bytes for each in sites),
        "breakdown": breakdown_of(sites),
        "sites": tuple(listed),
        **more,
    }
    return Account(**given)


def lines_of(base, head, most=3):
    return list(explanation_lines(explain(base, head), most=most))


HEAD = site(GIB, shape=(8, 50257))


def layers(count, shape=(4, 1024), dtype="bfloat16", size=MIB, *, names="layers.{}.attn"):
    return [
        site(size, module=names.format(n), shape=shape, dtype=dtype, category=word)
        for n in range(count)
        for word in ("activations", "parameters")
    ]


@pytest.mark.parametrize(
    ("base", "head", "said"),
    [
        pytest.param(
            [HEAD],
            [HEAD, site(6 * GIB // 5, module="layers.3.attn", shape=(8, 16, 2048, 2048))],
            [
                "+1.20 GiB against the baseline: activations +1.20 GiB",
                (
                    "+1.20 GiB activations in layers.3.attn: (8, 16, 2048, 2048) float32 at "
                    "model.py:88, not in the baseline"
                ),
            ],
            id="a new tensor",
        ),
        pytest.param(
            [HEAD, site(GIB, module="mask")],
            [HEAD],
            [
                "-1.00 GiB against the baseline: activations -1.00 GiB",
                (
                    "-1.00 GiB activations in mask: (4, 1024) float32 at model.py:88, "
                    "only in the baseline"
                ),
            ],
            id="a tensor that is gone",
        ),
        pytest.param(
            layers(24),
            layers(24, shape=(8, 1024), size=2 * MIB),
            [
                "+48.00 MiB against the baseline: activations +24.00 MiB, parameters +24.00 MiB",
                (
                    "+24.00 MiB activations in layers.*.attn (24 modules): "
                    "(4, 1024) -> (8, 1024) bfloat16 at model.py:88"
                ),
                (
                    "+24.00 MiB parameters in layers.*.attn (24 modules): "
                    "(4, 1024) -> (8, 1024) bfloat16 at model.py:88"
                ),
            ],
            id="a batch that doubled",
        ),
        pytest.param(
            layers(24),
            layers(24, dtype="float32", size=2 * MIB),
            [
                "+48.00 MiB against the baseline: activations +24.00 MiB, parameters +24.00 MiB",
                (
                    "+24.00 MiB activations in layers.*.attn (24 modules): "
                    "(4, 1024) bfloat16 -> float32, twice the bytes at model.py:88"
                ),
                (
                    "+24.00 MiB parameters in layers.*.attn (24 modules): "
                    "(4, 1024) bfloat16 -> float32, twice the bytes at model.py:88"
                ),
            ],
            id="a dtype twice as wide",
        ),
        pytest.param(
            layers(24),
            layers(25),
            [
                "+2.00 MiB against the baseline: activations +1.00 MiB, parameters +1.00 MiB",
                (
                    "+2.00 MiB in layers.24 (25 of them instead of 24), not in the baseline: "
                    "activations +1.00 MiB, parameters +1.00 MiB, the largest activations "
                    "layers.24.attn (4, 1024) bfloat16 at model.py:88"
                ),
            ],
            id="a layer more",
        ),
        pytest.param(
            layers(24),
            layers(12),
            [
                "-24.00 MiB against the baseline: activations -12.00 MiB, parameters -12.00 MiB",
                (
                    "-24.00 MiB in layers.*, 12 layers (12 of them instead of 24), only in the "
                    "baseline: activations -12.00 MiB, parameters -12.00 MiB, the largest "
                    "activations layers.12.attn (4, 1024) bfloat16 at model.py:88"
                ),
            ],
            id="layers less",
        ),
        pytest.param(
            layers(24),
            layers(24, names="layers.{}.attention"),
            [
                "+0 B against the baseline",
                "layers.*.attn is now layers.*.attention (24 modules)",
            ],
            id="a module renamed in every layer",
        ),
        pytest.param(
            [site(GIB, module="fc"), HEAD],
            [site(2 * GIB, module="mlp", shape=(8, 1024)), HEAD],
            [
                "+1.00 GiB against the baseline: activations +1.00 GiB",
                "+1.00 GiB activations in mlp: (4, 1024) -> (8, 1024) float32 at model.py:88",
                "fc is now mlp",
            ],
            id="a module renamed, and a batch that doubled",
        ),
        pytest.param(
            [HEAD, *(site(MIB, category="optimizer_states", module=None, count=6),)],
            [HEAD, *(site(2 * MIB, category="optimizer_states", module=None, count=12),)],
            [
                "+1.00 MiB against the baseline: optimizer_states +1.00 MiB",
                "+1.00 MiB optimizer_states: 6 -> 12 x (4, 1024) float32 at model.py:88",
            ],
            id="more of the same",
        ),
        pytest.param(
            [HEAD],
            [HEAD, *(site(MIB, module=f"layers.{n}.lora", category="parameters") for n in (0, 1))],
            [
                "+2.00 MiB against the baseline: parameters +2.00 MiB",
                (
                    "+2.00 MiB in layers, not in the baseline: parameters +2.00 MiB, the largest "
                    "parameters layers.0.lora (4, 1024) float32 at model.py:88"
                ),
            ],
            id="a whole module",
        ),
        pytest.param(
            [site(MIB, category="workspaces", module="fc", shape=(MIB,))],
            [site(MIB, category="workspaces", module="head", shape=(MIB,))],
            ["+0 B against the baseline"],
            id="a library's workspace is no module's",
        ),
        pytest.param(
            [site(2 * MIB, module=f"attn.{n}") for n in "qkv"],
            [site(2 * MIB, module=f"attn.{n}_proj") for n in "vkq"],
            ["+0 B against the baseline"],
            id="several renamed, and nothing tells which to which",
        ),
        pytest.param(
            [site(2 * MIB)],
            [site(5 * MIB // 2)],
            [
                "+512.00 KiB against the baseline: activations +512.00 KiB",
                (
                    "+512.00 KiB activations in head: (4, 1024) float32, in blocks of another "
                    "size at model.py:88"
                ),
            ],
            id="the same in larger blocks",
        ),
    ],
)
def test_what_is_said(base, head, said):
    assert lines_of(account(*base), account(*head)) == said


@pytest.mark.parametrize(
    ("base", "head", "said"),
    [
        ([site(MIB, count=2)], [site(2 * MIB, count=4)], "(4, 1024) float32, 1.00 MiB -> 2.00 MiB"),
        (
            layers(24),
            layers(24, shape=(8, 1024), size=2 * MIB),
            "(4, 1024) -> (8, 1024) bfloat16",
        ),
        (
            [site(MIB, count=2)],
            [site(2 * MIB, count=2, dtype="float64")],
            "(4, 1024) float32 -> float64, twice the bytes",
        ),
        ([site(MIB, count=2, module="a")], [site(MIB, count=2, module="b")], None),
    ],
)
def test_a_baseline_does_not_say_how_many_there_were(base, head, said):
    lines = lines_of(account(*kinds_of(base), are_grouped=True), account(*head))
    if said is None:
        assert lines == ["+0 B against the baseline", "a is now b"]
    else:
        assert f": {said} at model.py:88" in lines[1]


def entry_of(sites):
    total_bytes = sum(each.bytes for each in sites)
    return Entry(
        nodeid="test_a",
        device=DeviceClass(mode="simulated", gpu=None, torch=None),
        peak=Peak(allocated_bytes=total_bytes),
        breakdown=breakdown_of(sites),
        largest=largest_of(sites, breakdown_of(sites)),
    )


def test_an_entry_of_a_baseline_is_an_account():
    base = account_of(entry_of([HEAD, *SMALL]))
    assert lines_of(base, account(HEAD, *SMALL, NEW)) == [
        "+3.00 MiB against the baseline: activations +3.00 MiB",
        "+3.00 MiB activations in new: (786432,) float32 at model.py:88, not in the baseline",
    ]
    # It lists twenty: of the other four layers only the sum is known.
    base = account_of(entry_of([*layers(24, (MIB,), size=2 * MIB)]))
    lines = lines_of(base, account(*layers(24, (MIB,), size=2 * MIB), NEW))
    assert lines[1].startswith("+3.00 MiB activations in new: ")
    assert len(lines) == 2
    nothing = Entry(nodeid="a", device=entry_of([]).device, peak=Peak(reserved_bytes=5))
    assert account_of(nothing) is None


def test_the_rest_is_said_in_one_and_the_largest_come_first():
    grown = [site(n * MIB, module=f"m{chr(96 + n)}") for n in (5, 1, 4, 2, 3)]
    lines = lines_of(account(HEAD), account(HEAD, *grown))
    assert [line.split()[0] for line in lines] == ["+15.00", "+5.00", "+4.00", "+3.00", "+3.00"]
    assert lines[-1] == "+3.00 MiB elsewhere, in 2 smaller changes"


def test_the_base_has_the_name_that_it_is_given():
    explained = explain(account(HEAD), account(HEAD, site(MIB)))
    assert "not in main" in explanation_lines(explained, "main")[1]


def test_modules_are_summed():
    explained = explain(
        account(HEAD), account(HEAD, site(MIB, module="head", shape=(1,)), site(MIB, module=None))
    )
    assert dict(explained.modules) == {"head": MIB, None: MIB}


SMALL = [
    site(MIB, module="norm", shape=(MIB // 4,)),
    site(MIB // 2, module="drop", shape=(MIB // 8,)),
]
NEW = site(3 * MIB, module="new", shape=(3 * MIB // 4,))


def test_a_bounded_list_does_not_say_that_what_it_lacks_is_not_there():
    """The module was there before, among those that the baseline did not list."""
    base, head = account(HEAD, *SMALL, most=1), account(HEAD, *SMALL)
    assert lines_of(base, head) == ["+0 B against the baseline"]
    lines = lines_of(base, account(HEAD, *SMALL, site(MIB, module="drop", shape=(8,))))
    assert lines[1] == (
        "+1.00 MiB activations that the lists of sites do not tell apart; not among the sites "
        "that the baseline lists: 1.00 MiB drop (8,) float32 at model.py:88; "
        "1.00 MiB norm (262144,) float32 at model.py:88"
    )
    assert not any("not in the baseline" in line for line in lines)


def test_what_is_larger_than_all_that_a_bounded_list_left_out_is_new():
    base = account(HEAD, *SMALL, most=2)
    lines = lines_of(base, account(HEAD, *SMALL, NEW))
    assert lines[1] == (
        "+3.00 MiB activations in new: (786432,) float32 at model.py:88, not in the baseline"
    )
    assert len(lines) == 2


def test_what_is_as_large_as_the_smallest_that_is_listed_may_have_been_left_out():
    twin = site(MIB, module="twin", shape=(MIB // 4,))
    base = account(HEAD, *SMALL, twin, most=2)
    lines = lines_of(base, account(HEAD, *SMALL, twin, twin))
    assert not any("not in the baseline" in line for line in lines)


def test_a_list_that_is_not_in_order_bounds_nothing():
    base = account(HEAD, *SMALL, NEW)
    base = replace(base, sites=(SMALL[0], HEAD, SMALL[1]))
    lines = lines_of(base, account(HEAD, *SMALL, NEW, site(MIB, module="drop")))
    assert not any("not in the baseline" in line for line in lines)


def test_a_bounded_list_does_not_say_how_many_layers_there_were():
    """Only of each tensor is it known that it was not there."""
    big = [*layers(24, shape=(MIB,), size=2 * MIB), *SMALL]
    more = [*layers(25, shape=(MIB,), size=2 * MIB), *SMALL]
    lines = lines_of(account(*big, most=49), account(*more))
    assert lines[1:] == [
        f"+2.00 MiB {word} in layers.24.attn: (1048576,) bfloat16 at model.py:88, "
        "not in the baseline"
        for word in ("activations", "parameters")
    ]


def test_without_sites_the_words_tell():
    base = account(HEAD, *SMALL, sites=())
    assert lines_of(base, account(HEAD, HEAD, *SMALL))[:2] == [
        "+1.00 GiB against the baseline: activations +1.00 GiB",
        (
            "+1.00 GiB activations that the lists of sites do not tell apart; not among the sites "
            "that the baseline lists: 2.00 GiB head 2 x (8, 50257) float32 at model.py:88; "
            "1.00 MiB norm (262144,) float32 at model.py:88"
        ),
    ]


def test_without_anything_but_totals_nothing_is_made_up():
    base = Account(total_bytes=GIB)
    assert lines_of(base, account(HEAD, HEAD)) == [
        "+1.00 GiB against the baseline",
        "+1.00 GiB elsewhere, which the lists of sites do not tell",
    ]


def test_a_rename_is_found_in_bounded_lists_too():
    shape = (MIB, 2)
    base = account(*layers(6, shape, size=4 * MIB), *SMALL, site(9, module="x"), most=14)
    blocks = layers(6, shape, size=4 * MIB, names="blocks.{}.attn")
    head = account(*blocks, *SMALL, site(9, module="x"))
    assert lines_of(base, head) == [
        "+0 B against the baseline",
        "layers is now blocks (6 modules)",
    ]


def test_names_below_the_bound_follow_those_above_it():
    def net(root):
        norms = layers(6, (MIB,), "bool", names=root + ".{}.norm")
        return [*layers(6, (MIB, 2), size=4 * MIB, names=root + ".{}.attn"), *norms]

    base, head = account(*net("layers"), most=17), account(*net("blocks"))
    assert lines_of(base, head) == [
        "+0 B against the baseline",
        "layers is now blocks (9 modules)",
    ]


def test_what_kept_all_sizes_but_one_is_the_same_whatever_grew_more():
    base = [site(720, shape=(90, 8)), site(640, shape=(10, 64))]
    head = [site(810, shape=(90, 9)), site(1280, shape=(20, 64))]
    assert [line.split(": ")[1] for line in lines_of(account(*base), account(*head))[1:]] == [
        "(10, 64) -> (20, 64) float32 at model.py:88",
        "(90, 8) -> (90, 9) float32 at model.py:88",
    ]


MODULES = st.sampled_from([None, "a", "b", "c", "layers.0.q", "layers.1.q", "layers.2", "b.1.x"])


def block(category, module, shape, dtype, source, count, slack):
    """As an allocator has it: the data, rounded up by no more than a little."""
    size = max(1, math.prod(shape or (3,)) * {"float32": 4}.get(dtype, 2) + slack)
    more = {"shape": shape, "dtype": dtype, "source": source, "count": count}
    return site(count * size, category, module, **more)


SITES = st.builds(
    block,
    category=st.sampled_from(["activations", "parameters", "workspaces", "other"]),
    module=MODULES,
    shape=st.none() | st.lists(st.sampled_from([1, 2, 3, 7, 20]), max_size=3).map(tuple),
    dtype=st.sampled_from(["float32", "bfloat16", None]),
    source=st.sampled_from([None, "a.py:1", "b.py:2"]),
    count=st.integers(1, 3),
    slack=st.sampled_from([0, 0, 1, 5]),
)
ALL_SITES = st.lists(SITES, max_size=12)
BOUNDS = st.none() | st.integers(0, 12)


@st.composite
def accounts(draw):
    """An account, and all that was really there."""
    sites, are_grouped = draw(ALL_SITES), draw(st.booleans())
    truth = kinds_of(sites) if are_grouped else sites
    made = account(*truth, most=draw(BOUNDS), are_grouped=are_grouped)
    if draw(st.booleans()):
        made = replace(made, breakdown=None)
    return made, truth


def kinds_of(sites):
    """As a baseline has them: by category, module, shape and dtype, and not how many."""
    sums = {}
    for each in sites:
        kind = replace(each, bytes=0, source=None, count=0)
        sums[kind] = sums.get(kind, 0) + each.bytes
    return [replace(kind, bytes=size) for kind, size in sums.items()]


def bytes_by_key(sites):
    return {(s.category, s.module, s.shape, s.dtype): s.bytes for s in grouped(sites)}


@given(accounts(), accounts(), st.integers(0, 6))
def test_what_is_told_adds_up_to_the_change_of_the_total(base, head, most):
    explained = explain(base[0], head[0])
    told = [*explained.changes, *explained.unlisted]
    assert sum(part.bytes for part in told) + explained.elsewhere_bytes == explained.total_bytes
    for change in explained.changes:
        assert change.bytes == sum(size for _, size in change.words)
        if change.kind in ("new", "gone", "changed"):
            sizes = [part.bytes if part else 0 for part in (change.base, change.head)]
            assert change.bytes == sizes[1] - sizes[0]
    for word, size in explained.words:
        of_word = sum(s for c in explained.changes for w, s in c.words if w == word)
        assert size == of_word + sum(u.bytes for u in explained.unlisted if u.word == word)


def shown_bytes(line):
    number, unit = re.match(r"([+-][0-9.]+) (\w+)", line).groups()
    return float(number) * UNIT_BYTES[unit]


@given(accounts(), accounts(), st.integers(0, 6))
def test_the_numbers_on_the_lines_add_up(base, head, most):
    explained = explain(base[0], head[0])
    total, *parts = [
        line for line in explanation_lines(explained, most=most) if " is now " not in line
    ]
    assert total.startswith(signed(explained.total_bytes))
    rounding_bytes = 6 * (1 + len(parts))  # two decimals of KiB
    shown = sum(map(shown_bytes, parts))
    assert shown == pytest.approx(explained.total_bytes, abs=rounding_bytes)


@given(ALL_SITES, ALL_SITES)
def test_where_all_is_listed_the_changes_are_everything(base, head):
    explained = explain(account(*base), account(*head))
    assert (explained.elsewhere_bytes, explained.unlisted) == (0, ())


@given(ALL_SITES)
def test_the_same_has_no_changes(sites):
    explained = explain(account(*sites), account(*sites))
    assert (explained.changes, explained.words, explained.renames) == ((), (), ())


@settings(max_examples=400)
@given(accounts(), accounts())
def test_what_is_said_to_be_new_or_gone_is(base, head):
    """Held against all that was there, whatever the lists left out."""
    was, now = bytes_by_key(base[1]), bytes_by_key(head[1])
    explained = explain(base[0], head[0])
    old_names = {rename.head for rename in explained.renames}
    for change in explained.changes:
        for part, other in ((change.head, was), (change.base, now)):
            key = part and (part.category, part.module, part.shape, part.dtype)
            if change.kind in ("new", "gone") and part is not None and change.modules == 1:
                assert key not in other
        both = change.base is not None and change.head is not None
        if both and change.modules == 1 and not old_names:
            key, old_key = (
                (s.category, s.module, s.shape, s.dtype) for s in (change.head, change.base)
            )
            assert change.bytes == now[key] - was[old_key]


def test_a_batch_that_doubled_in_the_simulator():
    """From the plugin's own figures: nothing is left unexplained, and the batch is named."""
    import torch
    from torch import nn

    def step(batch):
        model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(8))).cuda()
        model(torch.randn(batch, 64, device="cuda")).sum().backward()

    def found(batch):
        finding = simulate(step, batch)
        peak_bytes = finding.peak.allocated_bytes
        return Account(total_bytes=peak_bytes, breakdown=finding.breakdown, sites=finding.sites)

    explained = explain(found(1024), found(2048))
    lines = explanation_lines(explained)
    assert explained.elsewhere_bytes == 0
    assert "activations in * (7 modules): (1024, 64) -> (2048, 64) float32" in "\n".join(lines)


@pytest.mark.parametrize(
    "strange",
    [
        {"module": ".".join(["layers"] * 50_000)},
        {"module": ".".join(["7"] * 50_000)},
        {"shape": (2**62,) * 50_000},
        {"shape": (-1, 0, 2**62), "count": -5},
        {"count": 0, "dtype": "float" + "9" * 50_000},
        {"dtype": "\n::error::", "module": "\x1b[31m", "source": "|", "category": "@x"},
    ],
    ids=range(6),
)
def test_what_no_simulation_gives_is_told_quickly_too(strange):
    """Files may hold anything that is of the right type."""
    odd = [replace(site(MIB), **strange), replace(site(MIB, module="x"), **strange)]
    for base, head in ((odd, [HEAD]), ([HEAD], odd), (odd, odd[:1])):
        accounts = [Account(total_bytes=5 * GIB, sites=tuple(each)) for each in (base, head)]
        assert explanation_lines(explain(*accounts))


def test_many_modules_are_matched_quickly():
    many = [site(MIB, module=f"net.a{n}.x") for n in range(20_000)]
    other = [site(MIB, module=f"net.b{n}.x") for n in range(20_000)]
    assert explain(account(*many), account(*other)).elsewhere_bytes == 0
