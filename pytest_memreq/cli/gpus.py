"""`memreq gpus`: the cards that are known."""

from __future__ import annotations

import argparse

from pytest_memreq.cli.tables import aligned
from pytest_memreq.simulate.cards import CARDS, Card
from pytest_memreq.units import format_size


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser.description = "Known cards, with the source of each one's facts."
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    head = ["Name", "Capacity", "Bytes", "Context", "Capability", "Multiprocessors", "Source"]
    print("\n".join(aligned([head, *map(_cells, CARDS.values())], numbers=range(1, 6))))
    return 0


def _cells(card: Card) -> list[str]:
    return [
        card.name,
        format_size(card.capacity_bytes),
        f"{card.capacity_bytes:,}",
        "?" if card.context_bytes is None else format_size(card.context_bytes),
        "{}.{}".format(*card.compute_capability),
        str(card.multiprocessors),
        card.source,
    ]
