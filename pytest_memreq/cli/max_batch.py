"""`memreq max-batch`: the largest batch whose step fits, by simulation."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from pytest_memreq.cli.limits import CANNOT_TELL, DOES_NOT_FIT, FITS, card_of, limit_of
from pytest_memreq.cli.loading import import_object
from pytest_memreq.cli.user_code import steps_of
from pytest_memreq.errors import SimulationError
from pytest_memreq.simulate.cards import DEFAULT_CARD
from pytest_memreq.simulate.search import BatchSolution, max_batch
from pytest_memreq.units import format_size

EXAMPLE = """\
example, with step.py:

  def step(batch):
      model = Net().cuda()
      optimizer = torch.optim.AdamW(model.parameters())

      def train():
          for _ in range(2):  # states are there from the second step on
              model(torch.randn(batch, 784, device="cuda")).mean().backward()
              optimizer.step()
              optimizer.zero_grad()

      return train

  memreq max-batch step:step --gpu "RTX 4090"
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = "The largest batch whose step fits, by simulating steps. No GPU is needed."
    parser.epilog = EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "factory",
        metavar="FACTORY",
        help="package.module:function; called with a batch size, it gives a function for a step",
    )
    parser.add_argument(
        "--budget", metavar="SIZE", help='such as "20 GiB" or "80%%" (default: all of the card)'
    )
    parser.add_argument("--gpu", metavar="NAME", default=DEFAULT_CARD, help="the card to pretend")
    parser.add_argument(
        "--metric", choices=("requested", "allocated", "reserved"), default="reserved"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="do not print what is being tried")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    card = card_of(arguments.gpu)
    budget = card.capacity_bytes if arguments.budget is None else limit_of(arguments.budget)
    factory = import_object(arguments.factory, "function; write package.module:function")
    try:
        with steps_of(arguments.factory):
            found = max_batch(
                factory,
                arguments.budget if isinstance(budget, float) else budget,
                gpu=card.name,
                metric=arguments.metric,
                progress=None if arguments.quiet else _say,
            )
    except SimulationError as error:
        print(f"memreq: cannot tell: {error}", file=sys.stderr)
        return CANNOT_TELL
    print(json.dumps(_document(found)) if arguments.json else _text(found, card.name))
    return FITS if found.fits else DOES_NOT_FIT


def _say(batch: int, peak_bytes: int) -> None:
    print(f"batch {batch:,}: {format_size(peak_bytes)}", file=sys.stderr, flush=True)


def _document(found: BatchSolution) -> dict[str, Any]:
    return {**asdict(found), "fits": found.fits, "is_monotone": found.is_monotone}


def _text(found: BatchSolution, card: str) -> str:
    budget = f"{format_size(found.budget_bytes)} of {found.metric} on {card}"
    if not found.fits:
        over = format_size(-found.spare_bytes)
        return f"not even a batch of {found.value:,} fits {budget}: {over} too much"
    spare = format_size(found.spare_bytes)
    text = f"the largest batch that fits {budget}: {found.value:,}, {spare} to spare (simulated)"
    if found.is_monotone:
        return text
    return f"{text}\nnote: a larger batch needed less than a smaller one; others may fit as well"
