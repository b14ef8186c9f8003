"""The simulation beside a CUDA build of torch, event by event.

`python -m benchmarks.cuda` runs every script of `cuda_scripts` simulated, for each capability that
was recorded with the installed torch (`data/cuda_*.json.xz`, by `cuda_record`), and prints a
Markdown table of what differs and a line of totals; then those of `rank_scripts`
(`data/ranks_*.json.xz`), each as one rank of many. With `--pack FILE...` it makes the data files
from recordings.
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
from benchmarks.rank_scripts import SCRIPTS as RANK_SCRIPTS
from pytest_memreq.simulate.cards import Card, find_card
from pytest_memreq.simulate.device import PretendedDevice
from pytest_memreq.simulate.groups import joined
from pytest_memreq.simulate.ranks import Ranks

DATA = Path(__file__).parent / "data"
CARDS = {(9, 0): "NVIDIA H100 80GB HBM3", (8, 0): "NVIDIA A100-SXM4-80GB"}
METRICS = ("requested", "allocated", "reserved")


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


def compare(record, simulated):
    """Print a row for each script that differs, and the totals."""
    capability = tuple(record["capability"])
    same = {"events": 0, "allocations": 0, **dict.fromkeys(METRICS, 0)}
    worst = 0.0
    for name, recorded in record["scripts"].items():
        found = simulated(name, capability)
        equal = {m: found[f"{m}_bytes"] == recorded[f"{m}_bytes"] for m in METRICS}
        both = found["events"], recorded["events"]
        equal["events"] = both[0] == both[1]
        equal["allocations"] = allocations(both[0]) == allocations(both[1])
        for what, is_equal in equal.items():
            same[what] += is_equal
        error = found["allocated_bytes"] / recorded["allocated_bytes"] - 1
        worst = max(worst, error, -error)
        if not all(equal[what] for what in ("allocations", *METRICS)):
            parts = "-" if equal["allocations"] else first_difference(*map(allocations, both))
            less = " | ".join(f"{found[f'{m}_bytes'] - recorded[f'{m}_bytes']:+,}" for m in METRICS)
            print(f"| {name} | {less} | {parts} |", flush=True)
    totals = ", ".join(f"{what} {count}" for what, count in same.items())
    version = f"torch {record['torch']}, capability {'.'.join(map(str, capability))}"
    print(f"\n{version}: of {len(record['scripts'])} scripts equal: {totals}; ", end="")
    print(f"largest error of allocated {worst:.3%}\n", flush=True)


def pack(paths):
    """Recordings become data files."""
    for path in paths:
        record = json.loads(Path(path).read_text())
        capability = "".join(map(str, record["capability"]))
        packed = lzma.compress(json.dumps(record, separators=(",", ":")).encode(), preset=9)
        kind = "ranks" if record["scripts"].keys() == RANK_SCRIPTS.keys() else "cuda"
        (DATA / f"{kind}_{record['torch']}_{capability}.json.xz").write_bytes(packed)


def main():
    """Compare with what was recorded, or pack recordings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.pack:
        return pack(arguments.pack)
    torch.backends.cudnn.enabled = False  # as the builds that recorded
    torch.backends.cuda.enable_cudnn_sdp(False)
    found = [
        *((record, simulated) for record in records()),
        *((record, simulated_rank) for record in records("ranks")),
    ]
    if not found:
        return f"nothing was recorded with torch {torch.__version__}"
    for record, run in found:
        print("| script | requested, less recorded | allocated | reserved | first difference |")
        print("|---|---|---|---|---|")
        compare(record, run)
    return None


if __name__ == "__main__":
    sys.exit(main())
