"""Simulated peaks beside what others measured on cards and published.

`python -m benchmarks.published` prints a Markdown table, a row a figure.
"""

import json
import sys
from pathlib import Path

from benchmarks.published_cases import CASES
from pytest_memreq import simulate

PUBLISHED = {
    case["id"]: case
    for case in json.loads(Path(__file__).parent.joinpath("data/published.json").read_text())
}


def simulated(case, label):
    """What the case's own reading gives on the pretended card."""
    read = []
    simulate(lambda: read.append(case.runs[label]()), gpu=case.gpu, **case.settings(label))
    return read[0]


def rows():
    """(id, label, published bytes, half of the last digit, simulated bytes) of each figure."""
    for case in CASES:
        for value in PUBLISHED[case.id]["values"]:
            figures = (value["bytes"], value["half_step_bytes"], simulated(case, value["label"]))
            yield (case.id, value["label"], *figures)


def main():
    """Print the table and how many figures are within their rounding."""
    print("| case | figure | published, bytes | simulated less published | within rounding |")
    print("|---|---|---|---|---|")
    within = []
    for id_, label, published, half_step, found in rows():
        within.append(abs(found - published) <= half_step)
        print(
            f"| {id_} | {label} | {published:,} ± {half_step:,} | {found - published:+,} "
            f"({(found - published) / published:+.3%}) | {'yes' if within[-1] else 'no'} |",
            flush=True,
        )
    print(f"\n{sum(within)} of {len(within)} figures within their rounding")


if __name__ == "__main__":
    sys.exit(main())
