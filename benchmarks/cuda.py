"""The simulation beside a CUDA build of torch, event by event.

`python -m benchmarks.cuda` runs every script of `cuda_scripts` simulated, for each capability that
was recorded with the installed torch (`data/cuda_*.json.xz`, by `cuda_record`). With `--pack
FILE...` it makes the data files from recordings.
"""

import argparse
import gc
import json
import lzma
import sys
from dataclasses import fields
from difflib import SequenceMatcher
from pathlib import Path

import torch

from benchmarks.cuda_scripts import SCRIPTS
from benchmarks.errors import HEAD, errors_of
from benchmarks.rank_scripts import SCRIPTS as RANK_SCRIPTS
from benchmarks.results import Benchmark, markdown, run
from pytest_memreq.simulate.cards import Card, find_card
from pytest_memreq.simulate.device import PretendedDevice
from pytest_memreq.simulate.groups import joined
from pytest_memreq.simulate.ranks import Ranks

DATA = Path(__file__).parent / "data"
CARDS = {(9, 0): "NVIDIA H100 80GB HBM3", (8, 0): "NVIDIA A100-SXM4-80GB"}
METRICS = ("requested", "allocated", "reserved")
# Scripts that are known to differ, and why.
WHY = {
    "Hessian by transforms": "a sum with zeros that take no memory is simulated by one copy more",
    "nonzero": "the build that recorded found nothing; all is simulated",
    **dict.fromkeys(
        (f"pipeline, gpipe, stage {stage}" for stage in (0, 1, 3)),
        "NCCL's work holds what is sent until it is waited for; the group that recorded does not",
    ),
    **dict.fromkeys(
        ("tensor parallel", "tensor parallel, the last rank"),
        "one head on a rank: a copy of 1 KiB in attention's backward that CUDA does without",
    ),
}
WHY_ON = {
    "2.11": dict.fromkeys(
        ("embedding", "index_put", "multinomial", "recommender"),
        "CUB, which sorts, is an older one there",
    )
}


class RecordedCard(Card):
    """A card as the builds that recorded answered for it, where no card was."""

    resident_blocks = 2


def recorded_card(capability):
    """The card of a capability, with what was answered for both."""
    card = find_card(CARDS[capability])
    facts = {field.name: getattr(card, field.name) for field in fields(card)}
    return RecordedCard(**{**facts, "multiprocessors": 132})


def records(kind="cuda"):
    """What was recorded with the installed torch."""
    version = torch.__version__.split("+")[0]
    for path in sorted(DATA.glob(f"{kind}_{version}_*.json.xz")):
        yield json.loads(lzma.decompress(path.read_bytes()))


def simulated(name, capability):
    """Events and peaks of a script, as they are recorded."""
    return run_simulated(SCRIPTS[name], capability)


def simulated_rank(name, capability):
    """The same of a script that is one rank of many."""
    script = RANK_SCRIPTS[name]
    return run_simulated(
        script.run, capability, Ranks(world_size=script.world_size, rank=script.rank)
    )


def run_simulated(run, capability, ranks=None):
    """Events and peaks of what runs on the card that was recorded."""
    device = PretendedDevice(recorded_card(capability))
    gc.collect()
    with device.active(), joined(ranks):
        device.prepare()
        device.start()
        run()
        peak = device.finding().peak
        events = [size for size in device.requests() if size]
    return {"events": events, **{f"{m}_bytes": peak.of(m) for m in METRICS}}


def allocations(events):
    """Sizes alone, without the frees."""
    return [size for size in events if size > 0]


def first_difference(found, recorded):
    """What is missing or too much where the sequences part, in words."""
    matcher = SequenceMatcher(None, recorded, found, autojunk=False)
    tag, start, end, at, until = next(op for op in matcher.get_opcodes() if op[0] != "equal")
    return f"{tag} at {start}: recorded {recorded[start:end][:4]}, simulated {found[at:until][:4]}"


def compared(kind, run):
    """A row a script for each capability that was recorded with the installed torch."""
    torch.backends.cudnn.enabled = False  # as the builds that recorded
    torch.backends.cuda.enable_cudnn_sdp(False)
    found = {
        ".".join(map(str, record["capability"])): {
            name: row(run, name, tuple(record["capability"]), recorded)
            for name, recorded in record["scripts"].items()
        }
        for record in records(kind)
    }
    return found or sys.exit(f"nothing was recorded with torch {torch.__version__}")


def row(run, name, capability, recorded):
    """What was found and what was recorded, by metric; and where the sequences part.

    Or why that build did not run it.
    """
    if recorded["error"] is not None:
        return {"error": recorded["error"]}
    found = run(name, capability)
    both = found["events"], recorded["events"]
    is_same = allocations(both[0]) == allocations(both[1])
    return {
        **{m: [found[f"{m}_bytes"], recorded[f"{m}_bytes"]] for m in METRICS},
        "difference": "" if is_same else first_difference(*map(allocations, both)),
        "has_same_frees": both[0] == both[1],
    }


def tables(runs):
    """Counts of what is equal, errors by metric, and every script that differs."""
    cases, unrecorded = [], {}
    for torch_, kept in runs.items():
        for capability, scripts in kept.found.items():
            ran = {name: row for name, row in scripts.items() if "error" not in row}
            cases.append((torch_, capability, ran))
            for name in scripts.keys() - ran.keys():
                key = name, scripts[name]["error"][:100].replace("|", "/")
                unrecorded.setdefault(key, []).append(f"{torch_}/{capability}")
    return {
        "about": "\n".join(f"- {kept.about}" for kept in runs.values()),
        "equal": markdown(
            ("torch", "capability", "scripts", "sequence of allocations", *METRICS),
            [(*case[:2], *equal_counts(case[2].values())) for case in cases],
        ),
        "errors": markdown(
            ("torch", "capability", "peak", *HEAD),
            [
                (*case[:2], m, *errors_of(row[m] for row in case[2].values()).cells)
                for case in cases
                for m in METRICS
            ],
        ),
        "different": markdown(
            ("script", *(f"{m}, less recorded" for m in METRICS), "builds", "why"),
            [
                (name, *less, ", ".join(builds), why(name, builds))
                for (name, *less), builds in sorted(different(cases).items())
            ],
        ),
        "unrecorded": markdown(
            ("script", "why that build did not run it", "builds"),
            [(*key, ", ".join(builds)) for key, builds in sorted(unrecorded.items())],
        ),
    }


def equal_counts(rows):
    """How many scripts there are, have the same sequence, and the same peaks."""
    rows = list(rows)
    peaks = (sum(row[m][0] == row[m][1] for row in rows) for m in METRICS)
    return len(rows), sum(not row["difference"] for row in rows), *peaks


def known(version):
    """Scripts that differ on a minor version of torch, and why."""
    return {**WHY, **WHY_ON.get(version, {})}


def why(name, builds):
    """The cause, of the script or of the only version that differs."""
    versions = {build.partition("/")[0] for build in builds}
    return known("".join(versions) if len(versions) == 1 else "").get(name, "not known")


def different(cases):
    """Where each script that differs does so, by its name and how far off its peaks are."""
    found = {}
    for torch_, capability, scripts in cases:
        for name, row in scripts.items():
            less = [row[m][0] - row[m][1] for m in METRICS]
            if any(less) or row["difference"]:
                off = (name, *(f"{n:+,}" for n in less))
                found.setdefault(off, []).append(f"{torch_}/{capability}")
    return found


def pack(paths):
    """Recordings become data files."""
    for path in paths:
        record = json.loads(Path(path).read_text())
        capability = "".join(map(str, record["capability"]))
        packed = lzma.compress(json.dumps(record, separators=(",", ":")).encode(), preset=9)
        kind = "ranks" if record["scripts"].keys() == RANK_SCRIPTS.keys() else "cuda"
        (DATA / f"{kind}_{record['torch']}_{capability}.json.xz").write_bytes(packed)


BENCHMARK = Benchmark(
    name="cuda",
    measure=lambda: compared("cuda", simulated),
    tables=tables,
    by_torch=True,
    is_timed=False,
)


def main():
    """Compare with what was recorded, or pack recordings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.pack:
        return pack(arguments.pack)
    return run(BENCHMARK)


if __name__ == "__main__":
    sys.exit(main())
