"""Results to make pages of."""

from pytest_memreq.gate.baseline import Before
from pytest_memreq.gate.hints import Hint
from pytest_memreq.requirement import Breakdown, DevicePeak, Peak, Site, Survivor
from pytest_memreq.results import Environment, Results, Simulated, TestResult

GIB = 2**30
OUTCOMES = dict.fromkeys(("over", "regressed", "error", "unchecked"), "failed")
POINTS = tuple((at, (GIB * (at % 40)) // 13) for at in range(100))


def sites_of(name, count=30):
    words = ("activations", "parameters", "temporaries")
    return tuple(
        Site(
            bytes=GIB // (at + 3), category=words[at % 3], module=f"{name}.{at // 4}",
            operator=name, source=f"{name}:{at}", shape=(8, at), dtype=name,
        )
        for at in range(count)
    )  # fmt: skip


def full(name, verdict="over", **more):
    """A test with something in every field, `name` wherever text may be anybody's."""
    peak = Peak(requested_bytes=3 * GIB - 9, allocated_bytes=3 * GIB, reserved_bytes=4 * GIB)
    before = Before(peak=Peak(allocated_bytes=2 * GIB), tolerance=name)
    breakdown = Breakdown(activations_bytes=2 * GIB, parameters_bytes=GIB, other_bytes=5)
    device = DevicePeak(index=1, name=name, peak=peak, absolute_peak=peak)
    given = {
        "reason": f"because of {name}; {name}",
        "outcome": OUTCOMES.get(verdict, "passed"),
        "gpu": name,
        "peak": peak,
        "peak_at": name,
        "budget": {"allocated_bytes": 2 * GIB + 5, "device_bytes": GIB},
        "baseline": before,
        "breakdown": breakdown,
        "unknown": {"device": name},
        "held_by": ((name, 7),),
        "fixtures_bytes": 9,
        "leaked_bytes": 11,
        "survivors": (Survivor(bytes=5, shape=(2,), dtype=name, source=name, referrers=(name,)),),
        "devices": (device,),
        "snapshot": name,
        "sites": sites_of(name),
        "timeline": POINTS,
        "grew": (f"+1.00 GiB against {name}", f"+1.00 GiB activations in {name}", "-5 B elsewhere"),
        "hints": (Hint(word=name, evidence=name, advice=name),),
        "notes": (name,),
        "simulated": Simulated(gpu=name, peak=peak, reason=name, grew=(name,), divergence=(name,)),
        "file": name,
        "line": 3,
        "duration_seconds": 1.25,
        **more,
    }
    return TestResult(nodeid=name, mode="measured", verdict=verdict, **given)


def plain(name="test_a.py::test_a", verdict="within", **more):
    """A test with little to say."""
    given = {"peak": Peak(allocated_bytes=GIB), "outcome": OUTCOMES.get(verdict, "passed"), **more}
    return TestResult(nodeid=name, mode="simulated", verdict=verdict, reason="for this", **given)


def run_of(*tests, **more):
    environment = Environment(mode="simulated", gpu="NVIDIA L4", gpu_bytes=24 * GIB, torch="2.13.0")
    return Results(tests=tests, **{"environment": environment, **more})
