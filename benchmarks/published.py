"""Simulated peaks beside what others measured on cards and published.

`python -m benchmarks.published` runs every case of `published_cases` on the card that is named
there; `data/published.json` has the published figures.
"""

import json
from pathlib import Path

from benchmarks.errors import HEAD, errors_of, percent
from benchmarks.published_cases import CASES
from benchmarks.published_left_out import LEFT_OUT, LEFT_OUT_FIGURES
from benchmarks.results import Benchmark, markdown, run
from pytest_memreq import simulate

PUBLISHED = {
    case["id"]: case
    for case in json.loads(Path(__file__).parent.joinpath("data/published.json").read_text())
}

# Cases with figures that are off by more than their rounding, and why, as far as it is known.
CUDNN = "probably workspaces of cuDNN's convolutions, which no rule derives; not shown"
WHY = {
    "A23": "the card is not stated, and its workspaces decide; the figure before it, of that card, "
    "is within its rounding",
    "B15": CUDNN,
    "B16": "one step of 4 MiB in what is reserved",
    "B17": "short by 24 MiB an image from batch 24 on; not known: CUDA builds of torch 2.6 "
    "(transformers 4.48) and 2.13 keep what is simulated (batch 16, 24)",
    "B18": CUDNN,
    "B19": "the published figures are of reserved; fragmentation",
    "B24": "compiled; simulated as it was written",
    "B26": "probably what its validation left in blocks, which is not rebuilt; at most 0.15 %",
    "B31": "torch 1.7; some 8 MB a layer are not explained",
    "B34": "probably FSDP2 of torch 2.3, which is not the installed one",
    "B36": "torch of 2018 and 2019; not known",
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
        if value["label"] in case.runs
    ]


def off_bytes(row):
    """Simulated less published."""
    return row["simulated_bytes"] - row["published_bytes"]


def is_within(row):
    """Whether the rounding of what was printed explains the difference."""
    return abs(off_bytes(row)) <= row["half_step_bytes"]


def tables(runs):
    """Totals and errors by grade, every figure, and what is left out."""
    (kept,) = runs.values()
    grades = {
        grade: [row for row in kept.found if PUBLISHED[row["id"]]["grade"] == grade]
        for grade in ("A", "B")
    }
    return {
        "about": kept.about,
        "errors": markdown(
            ("grade", "publications", "within their rounding", *HEAD),
            [
                (
                    grade,
                    len({row["id"] for row in rows}),
                    sum(map(is_within, rows)),
                    *errors_of((r["simulated_bytes"], r["published_bytes"]) for r in rows).cells,
                )
                for grade, rows in grades.items()
            ],
        ),
        "all": markdown(
            ("case", "figure", "published, bytes", "simulated less that", "within its rounding"),
            [cells(row) for rows in grades.values() for row in rows],
        ),
        "off": markdown(
            ("case", "figures off", "of", "most over", "most under", "why"),
            [row for rows in grades.values() for row in off_rows(rows)],
        ),
        "left_out": markdown(
            ("case", "figure", "why it is not rebuilt"),
            [
                *(
                    (f"{id_} {PUBLISHED[id_]['title']}", "all", why)
                    for id_, why in LEFT_OUT.items()
                ),
                *((id_, figure, why) for (id_, figure), why in LEFT_OUT_FIGURES.items()),
            ],
        ),
    }


def off_rows(rows):
    """A row a case of which a figure is off."""
    by_case = {}
    for row in rows:
        by_case.setdefault(row["id"], []).append(row)
    for id_, of_case in by_case.items():
        off = [(r["simulated_bytes"], r["published_bytes"]) for r in of_case if not is_within(r)]
        if off:
            *_, over, under = errors_of(off).cells
            case = f"{id_} {PUBLISHED[id_]['title']}"
            yield case, len(off), len(of_case), over, under, WHY.get(id_, "not known")


def cells(row):
    """Of the table of all figures."""
    published = f"{row['published_bytes']:,} ± {row['half_step_bytes']:,}"
    off = f"{off_bytes(row):+,} ({percent(off_bytes(row) / row['published_bytes'])})"
    case = f"{row['id']} {PUBLISHED[row['id']]['title']}"
    return case, row["figure"], published, off, "yes" if is_within(row) else "**no**"


BENCHMARK = Benchmark(
    name="published", measure=measure, tables=tables, packages=("transformers",), is_timed=False
)

if __name__ == "__main__":
    run(BENCHMARK)
