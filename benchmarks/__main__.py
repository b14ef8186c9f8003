"""All benchmarks, each in a process of its own, then the tables of the documents.

`python -m benchmarks` runs all but `versions`, the test suite; `python -m benchmarks cuda growth`
those that are named.
"""

import argparse
import subprocess
import sys
import time

from benchmarks.documents import BENCHMARKS


def main() -> int:
    """Run them; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or [name for name in BENCHMARKS if name != "versions"]
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"{unknown[0]}: is none of {', '.join(BENCHMARKS)}")
    began, failed = time.perf_counter(), []
    for name in (*names, "documents"):
        start = time.perf_counter()
        status = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], check=False
        ).returncode
        print(f"{name}: {time.perf_counter() - start:.0f} s, exit status {status}", flush=True)
        failed += [name] * bool(status)
    print(
        f"all: {time.perf_counter() - began:.0f} s",
        f"failed: {', '.join(failed)}" if failed else "",
    )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
