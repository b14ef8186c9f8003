"""How many events a second the model of the caching allocator replays.

`python -m benchmarks.allocator` takes the requests of every script that `cuda_record` recorded,
each free for the youngest request of its size, and prints a Markdown table, the best of three.
"""

import time

from benchmarks.cuda import records
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


def main():
    """Replay all, with several settings."""
    record = next(records())
    scripts = [list(events_of(row["events"])) for row in record["scripts"].values()]
    count = sum(map(len, scripts))
    print(f"{count:,} events of {len(scripts)} scripts\n")
    print("| settings | events a second |\n|---|---|")
    for text in SETTINGS:
        settings = parse_settings(text, card_bytes=CARD_BYTES)
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            for events in scripts:
                replay(events, settings)
            times.append(time.perf_counter() - start)
        print(f"| {text or 'none'} | {count / min(times):,.0f} |")


if __name__ == "__main__":
    main()
