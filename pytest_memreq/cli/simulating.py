"""`memreq simulate`: what a step needs on a card, by running it on a pretended one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_memreq.cli.limits import CANNOT_TELL, DOES_NOT_FIT, FITS, card_of, limit_of
from pytest_memreq.cli.loading import import_object
from pytest_memreq.cli.user_code import steps_of
from pytest_memreq.errors import MemreqError, SimulationError
from pytest_memreq.gate.budget import parse_budget
from pytest_memreq.gate.hints import describe_hint, hints
from pytest_memreq.gate.verdict import Verdict, describe_site, figure, judge
from pytest_memreq.reports.rows import breakdown_text
from pytest_memreq.reports.text import visible
from pytest_memreq.requirement import METRICS
from pytest_memreq.simulate import simulate
from pytest_memreq.simulate.cards import DEFAULT_CARD
from pytest_memreq.units import format_limit, format_size

if TYPE_CHECKING:
    from pytest_memreq.simulate import Simulation

SHOWN_SITES = 10
OUT_OF_MEMORY = "OutOfMemoryError"
WORDS = {"within": FITS, "over": DOES_NOT_FIT}
EXAMPLE = """\
example, with step.py:

  def step():
      model = Net().cuda()
      optimizer = torch.optim.AdamW(model.parameters())
      for _ in range(2):  # states are there from the second step on
          model(torch.randn(32, 784, device="cuda")).mean().backward()
          optimizer.step()
          optimizer.zero_grad()

  memreq simulate step:step --gpu "RTX 4090"

exit code: 0 it fits, 1 it does not, 2 cannot tell, 4 usage
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = "What a step needs, by running it on a pretended card. No GPU is needed."
    parser.epilog = EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "step", metavar="STEP", help="package.module:function; called without arguments"
    )
    parser.add_argument("--gpu", metavar="NAME", default=DEFAULT_CARD, help="the card to pretend")
    parser.add_argument(
        "--budget", metavar="SIZE", help='such as "20 GiB" or "80%%" (default: all of the card)'
    )
    parser.add_argument(
        "--metric",
        choices=("requested", "allocated", "reserved"),
        default="reserved",
        help="what the budget limits (default: reserved)",
    )
    parser.add_argument("--world-size", metavar="N", type=int, help="ranks, of which this is one")
    parser.add_argument("--rank", metavar="N", type=int, help="which one (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    card = card_of(arguments.gpu)
    limit = None if arguments.budget is None else limit_of(arguments.budget)
    step = import_object(arguments.step, "function; write package.module:function")
    if not callable(step):
        raise MemreqError(f"{arguments.step} is a {type(step).__name__}, no function to call")
    try:
        with steps_of(arguments.step):
            found = simulate(
                step, gpu=card.name, world_size=arguments.world_size, rank=arguments.rank
            )
    except SimulationError as error:
        return _end(f"cannot tell: {error}", CANNOT_TELL)
    except MemreqError as error:
        if type(error.__cause__).__name__ != OUT_OF_MEMORY:
            raise
        return _end(f"does not fit: {error}", DOES_NOT_FIT)
    verdict = _judged(found, arguments.metric, card.capacity_bytes if limit is None else limit)
    if arguments.json:
        print(json.dumps(_document(found, verdict), indent=1))
    else:
        print("\n".join(map(visible, _lines(found, verdict))))
    return WORDS.get(verdict.word, CANNOT_TELL) if found.did_allocate else CANNOT_TELL


def _end(said: str, code: int) -> int:
    print(f"memreq: {visible(said)}", file=sys.stderr)
    return code


def _judged(found: Simulation, metric: str, limit: int | float) -> Verdict:
    budget = parse_budget({metric: format_limit(limit)}, where="--budget")
    return judge(found.peak, budget.in_bytes(found.card.capacity_bytes), dict(found.unknown))


def _lines(found: Simulation, verdict: Verdict) -> Iterator[str]:
    card, rank = found.card, f", rank {found.rank} of {found.world_size}" * (found.world_size > 1)
    yield f"simulated on {card.name} ({format_size(card.capacity_bytes)}){rank}"
    for each in METRICS:
        size = found.peak.of(each)
        if size is not None:
            yield f"{each:9} {figure(size)}"
    if not found.did_allocate:
        yield 'nothing was allocated on the card; does the step put anything on "cuda"?'
        return
    yield f"peak of allocated: {found.peak_at or 'outside of any module'}"
    if found.breakdown is not None:
        yield breakdown_text(found.breakdown)
    yield from (f"  {describe_site(site)}" for site in found.sites[:SHOWN_SITES])
    for hint in hints(found):
        yield from describe_hint(hint)
    yield from (f"note: {note}" for note in found.notes)
    if found.pretended:
        yield f"note: answered with made-up values: {'; '.join(found.pretended[:SHOWN_SITES])}"
    yield f"{verdict.word}: {verdict.reason}"


def _document(found: Simulation, verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.word,
        "reason": verdict.reason,
        "gpu": found.card.name,
        "gpu_bytes": found.card.capacity_bytes,
        "rank": found.rank,
        "world_size": found.world_size,
        "peak": asdict(found.peak),
        "peak_at": found.peak_at,
        "breakdown": None if found.breakdown is None else asdict(found.breakdown),
        "sites": [asdict(site) for site in found.sites],
        "hints": [asdict(hint) for hint in hints(found)],
        "notes": list(found.notes),
        "pretended": list(found.pretended),
    }
