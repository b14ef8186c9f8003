"""Simulated peaks beside what others measured on cards and published.

`python -m benchmarks.published` runs every case of `published_cases` on the card that is named
there; `data/published.json` has the published figures.
"""

import json
from pathlib import Path

from benchmarks.errors import HEAD, errors_of, percent
from benchmarks.published_cases import CASES
from benchmarks.results import Benchmark, markdown, run
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


def measure():
    """A row a figure: what was published, half of its last digit, and what was simulated."""
    return [
        {
            "id": case.id,
            "figure": value["label"],
            "published_bytes": value["bytes"],
            "half_step_bytes": value["half_step_bytes"],
            "simulated_bytes": simulated(case, value["label"]),
        }
        for case in CASES
        for value in PUBLISHED[case.id]["values"]
    ]


def off_bytes(row):
    """Simulated less published."""
    return row["simulated_bytes"] - row["published_bytes"]


def is_within(row):
    """Whether the rounding of what was printed explains the difference."""
    return abs(off_bytes(row)) <= row["half_step_bytes"]


def tables(runs):
    """Totals, and every figure."""
    (kept,) = runs.values()
    rows = kept.found
    exact = [row for row in rows if not row["half_step_bytes"]]
    pairs = [(row["simulated_bytes"], row["published_bytes"]) for row in rows]
    return {
        "about": kept.about,
        "summary": f"{len(rows)} figures of {len({row['id'] for row in rows})} publications: "
        f"{sum(map(is_within, rows))} are within the rounding of what was printed; of {len(exact)} "
        f"that are printed to the byte, {sum(map(is_within, exact))} are equal to the byte.",
        "errors": markdown(HEAD, [errors_of(pairs).cells]),
        "all": markdown(
            ("case", "figure", "published, bytes", "simulated less that", "within its rounding"),
            [cells(row) for row in rows],
        ),
    }


def cells(row):
    """Of the table of all figures."""
    published = f"{row['published_bytes']:,} ± {row['half_step_bytes']:,}"
    off = f"{off_bytes(row):+,} ({percent(off_bytes(row) / row['published_bytes'])})"
    case = f"{row['id']} {PUBLISHED[row['id']]['title']}"
    return case, row["figure"], published, off, "yes" if is_within(row) else "**no**"


BENCHMARK = Benchmark(name="published", measure=measure, tables=tables, packages=("transformers",))

if __name__ == "__main__":
    run(BENCHMARK)
