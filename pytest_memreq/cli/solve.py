"""`memreq solve`: which layouts of a model fit a number of cards, and how much they leave over."""

from __future__ import annotations

import argparse
import json

from pytest_memreq.cli.limits import CANNOT_TELL, DOES_NOT_FIT, FITS, Limit, limits_of
from pytest_memreq.cli.loading import load
from pytest_memreq.cli.searching import Question, search
from pytest_memreq.cli.solve_tables import as_document, as_text
from pytest_memreq.cli.telling import Telling
from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.activations import RECOMPUTATIONS
from pytest_memreq.estimate.formula import setup_of
from pytest_memreq.estimate.lookup import check_count
from pytest_memreq.estimate.precisions import PRECISIONS
from pytest_memreq.estimate.transformer import Transformer
from pytest_memreq.layouts.finalists import Training
from pytest_memreq.layouts.grid import TENSOR, Axes, grid_of
from pytest_memreq.layouts.judging import fits
from pytest_memreq.layouts.layout import OFFLOADS
from pytest_memreq.simulate.cards import DEFAULT_CARD, find_card

FINALISTS = 3
ROWS = 20
CODES = {True: FITS, False: DOES_NOT_FIT, None: CANNOT_TELL}
EXAMPLES = """\
examples:
  memreq solve config.json --seq 4096 --ranks 64 --gpu "H100 80GB"
  memreq solve config.json --seq 4096 --ranks 8 --gpu A10G --zero 2,3 --offload none --batch 1,2,4
  memreq solve config.json --seq 4096 --ranks 1024 --budget "70 GiB" --finalists 0

Choices that are left out are all tried. Ctrl-C ends it with what it has.
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Layouts of a transformer on a number of cards: which fit, most left over first. "
        "All by formula, the best by simulation. No GPU is needed."
    )
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", metavar="MODEL", help="a Hugging Face config.json")
    parser.add_argument("--seq", type=int, metavar="N", help="tokens of a sample")
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="cards, a rank each")
    _add_choices(parser.add_argument_group("choices, lists with commas"))
    _add_same(parser.add_argument_group("what is the same in all"))
    _add_asked(parser.add_argument_group("does it fit"))
    parser.set_defaults(run=_run)


def _add_choices(group: argparse._ArgumentGroup) -> None:
    degrees = ",".join(map(str, TENSOR))
    for option, of_what in (
        ("--zero", "ZeRO stages, 0 to 3; FSDP is 3 (default: 0,1,2,3)"),
        ("--tensor", f"tensor-parallel ranks (default: those of {degrees} that divide the model)"),
        ("--recompute", f"of {', '.join(RECOMPUTATIONS)} (default: all that differ)"),
        ("--offload", f"of {', '.join(OFFLOADS)} (default: both)"),
        ("--batch", "samples of a data-parallel rank's step (default: 1)"),
    ):
        group.add_argument(option, metavar="LIST", help=of_what)


def _add_same(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--optimizer", default="adam", metavar="NAME", help='such as adamw or "sgd(momentum=0.9)"'
    )
    group.add_argument(
        "--precision", default="mixed", metavar="NAME", help=f"one of {', '.join(PRECISIONS)}"
    )


def _add_asked(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--budget", metavar="SIZE", help='such as "24 GiB"; with --gpu also "80%%"')
    group.add_argument("--gpu", metavar="NAME", help='a card it must fit on, such as "A10G"')
    group.add_argument(
        "--finalists",
        type=int,
        default=FINALISTS,
        metavar="N",
        help=f"how many of the best are simulated, 0 for none (default: {FINALISTS})",
    )
    group.add_argument(
        "--metric",
        choices=("requested", "allocated", "reserved"),
        default="reserved",
        help="of a simulation",
    )
    group.add_argument(
        "--rows", type=int, default=ROWS, metavar="N", help=f"of the table (default: {ROWS})"
    )
    group.add_argument("--json", action="store_true", help="print JSON, with all layouts")
    group.add_argument("--quiet", action="store_true", help="do not print what is being tried")


def _run(arguments: argparse.Namespace) -> int:
    check_count("--rows", arguments.rows)
    found = search(_question(arguments), Telling(is_quiet=arguments.quiet))
    if arguments.json:
        print(json.dumps(as_document(found), indent=1))
    else:
        print("\n".join(as_text(found, arguments.rows)))
    return CODES[fits(found.judged)] if found.is_complete else CANNOT_TELL


def _question(arguments: argparse.Namespace) -> Question:
    check_count("--finalists", arguments.finalists, least=0)
    limit = _limit(arguments)
    if arguments.seq is None:
        raise MemreqError("activations depend on the tokens of a sample; give --seq")
    setup = setup_of(
        optimizer=arguments.optimizer,
        precision=arguments.precision,
        batch_size=1,
        sequence_length=arguments.seq,
    )
    model = _model(arguments.model)
    return Question(
        model=model,
        grid=grid_of(model, _axes(arguments)),
        setup=setup,
        training=Training(
            tokens=arguments.seq, precision=arguments.precision, rule=setup.optimizer
        ),
        limit=limit,
        gpu=find_card(arguments.gpu or DEFAULT_CARD).name,
        metric=arguments.metric,
        finalists=arguments.finalists,
    )


def _limit(arguments: argparse.Namespace) -> Limit:
    limits = limits_of(arguments.budget, arguments.gpu)
    if not limits:
        raise MemreqError("solve needs to know for what: give --gpu or --budget")
    return min(limits, key=lambda limit: limit.bytes)


def _model(target: str) -> Transformer:
    model = None if ":" in target else load(target, ())
    if not isinstance(model, Transformer):
        raise MemreqError(
            f"{target!r} is no configuration; how layers divide over cards only one tells: "
            "give a Hugging Face config.json"
        )
    return model


def _axes(arguments: argparse.Namespace) -> Axes:
    return Axes(
        ranks=arguments.ranks,
        zero=_numbers("--zero", arguments.zero, "2,3"),
        tensor=_numbers("--tensor", arguments.tensor, "1,2,4"),
        recompute=_words(arguments.recompute),
        offload=_words(arguments.offload),
        batch=_numbers("--batch", arguments.batch, "1,2,4") or (1,),
    )


def _numbers(option: str, written: str | None, example: str) -> tuple[int, ...] | None:
    words = _words(written)
    if words is None:
        return None
    if not all(word.isdecimal() and len(word) < 10 for word in words):
        raise MemreqError(f"{option} {written!r} is no list of whole numbers; write {example}")
    return tuple(map(int, words))


def _words(written: str | None) -> tuple[str, ...] | None:
    if written is None:
        return None
    return tuple(dict.fromkeys(word.strip() for word in written.split(",")))
