"""All benchmarks, each in a process of its own, then the tables of the documents.

`python -m benchmarks` runs all but `versions`, the test suite; `python -m benchmarks cuda growth`
those that are named. Those that count bytes alone run side by side, each of the others by itself.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks.documents import BENCHMARKS, named_benchmark


def run(names: Sequence[str]) -> Iterator[str]:
    """Run them side by side; those that failed."""
    began = time.perf_counter()
    running = [
        (name, subprocess.Popen([sys.executable, "-m", f"benchmarks.{name}"])) for name in names
    ]
    for name, process in running:
        status = process.wait()
        seconds = time.perf_counter() - began
        print(f"{name}: over after {seconds:.0f} s, exit status {status}", flush=True)
        if status:
            yield name


def main() -> int:
    """Run them; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or [name for name in BENCHMARKS if name != "versions"]
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"{unknown[0]}: is none of {', '.join(BENCHMARKS)}")
    untimed = [name for name in names if not named_benchmark(name).is_timed]
    alone = [[name] for name in (*names, "documents") if name not in untimed]
    began = time.perf_counter()
    failed = [name for group in (untimed, *alone) for name in run(group)]
    print(
        f"all: {time.perf_counter() - began:.0f} s",
        f"failed: {', '.join(failed)}" if failed else "",
    )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
