"""The model of the caching allocator beside real builds of it, and how fast it replays.

`python -m benchmarks.allocator` replays the random scripts of `tests/simulate/data` that went
through builds of torch, and compares every address and statistic; then it takes the requests of
every script that `cuda_record` recorded, each free for the youngest request of its size, and says
how many events a second it replays, the best of three.
"""

import time

from benchmarks.allocator_recordings import CASES, replayed
from benchmarks.cuda import records
from benchmarks.results import Benchmark, markdown, run
from pytest_memreq.simulate.allocator.replay import Event, replay
from pytest_memreq.simulate.allocator.settings import parse_settings

RUNS = 3
SETTINGS = ("", "expandable_segments:True", "max_split_size_mb:64,garbage_collection_threshold:0.8")
CARD_BYTES = 80 * 2**30


def events_of(sizes):
    """Requests in order, a free as the negative of its request, as events."""
    live = {}
    for number, size in enumerate(sizes):
        if size > 0:
            live.setdefault(size, []).append(number)
            yield Event("allocate", number, size)
        elif live.get(-size):
            yield Event("free", live[-size].pop())


def compared():
    """Of each build and settings: scripts, requests, and how many have all as it was."""
    found = {}
    for case in CASES.values():
        offsets, statistics = replayed(case)
        row = found.setdefault(f"{case['torch']} {case['name']}", [0, 0, 0, 0])
        row[0] += 1
        row[1] += len(offsets)
        row[2] += offsets == case["offsets"]
        row[3] += statistics == case["stats"]
    return found


def rates():
    """Events a second by settings."""
    scripts = [list(events_of(row["events"])) for row in next(records())["scripts"].values()]
    count = sum(map(len, scripts))
    found = {}
    for text in SETTINGS:
        settings = parse_settings(text, card_bytes=CARD_BYTES)
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            for events in scripts:
                replay(events, settings)
            times.append(time.perf_counter() - start)
        found[text or "none"] = round(count / min(times))
    return {"events": count, "scripts": len(scripts), "rates": found}


def tables(runs):
    """What is equal, and the rates."""
    (kept,) = runs.values()
    equal, speed = kept.found["equal"], kept.found["speed"]
    return {
        "about": kept.about,
        "equal": markdown(
            (
                "build, settings",
                "scripts",
                "requests",
                "equal in all addresses",
                "in all statistics",
            ),
            [(name, *row) for name, row in equal.items()],
        ),
        "rates": markdown(
            ("settings", f"events a second, of {speed['events']:,} of {speed['scripts']} scripts"),
            [(name, f"{rate:,}") for name, rate in speed["rates"].items()],
        ),
    }


BENCHMARK = Benchmark(
    name="allocator",
    measure=lambda: {"equal": compared(), "speed": rates()},
    tables=tables,
)

if __name__ == "__main__":
    run(BENCHMARK)
