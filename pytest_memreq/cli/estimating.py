"""`memreq estimate`: what a model needs by formula, and the largest that fits."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from pytest_memreq.cli.limits import DOES_NOT_FIT, FITS, Limit, exit_code, fit, limits_of
from pytest_memreq.cli.loading import INPUT_FORMS, load
from pytest_memreq.cli.solving import UNKNOWNS, Answer, answer, answer_text
from pytest_memreq.cli.tables import as_document, as_text
from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.activations import RECOMPUTATIONS
from pytest_memreq.estimate.formula import TASKS, Setup, requirement, setup_of
from pytest_memreq.estimate.lookup import check_count, check_divides
from pytest_memreq.estimate.parallelism import Parallelism
from pytest_memreq.estimate.precisions import PRECISIONS

EXAMPLES = """\
examples:
  memreq estimate 175B
  memreq estimate package.module:factory --input 1,3,224,224 --gpu A10G
  memreq estimate config.json --batch 1 --seq 2048 --zero 3 --ranks 1024
  memreq estimate config.json --seq 2048 --solve batch --budget "24 GiB"
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = "What training a model needs, by formula; docs/formulas.md has them all."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="package.module:factory, a Hugging Face config.json, or a parameter count like 175B",
    )
    _add_work(parser)
    _add_parallelism(parser.add_argument_group("ranks"))
    _add_question(parser.add_argument_group("does it fit"))
    parser.set_defaults(run=_run)


def _add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="SHAPE",
        help=f"shape of an input of a module, batch first: {INPUT_FORMS} (repeatable)",
    )
    parser.add_argument(
        "--batch", "--batch-size", type=int, default=1, metavar="N", help="samples of a rank's step"
    )
    parser.add_argument("--seq", type=int, metavar="N", help="tokens of a sample")
    parser.add_argument(
        "--optimizer", default="adam", metavar="NAME", help='such as adamw or "sgd(momentum=0.9)"'
    )
    parser.add_argument(
        "--precision", default="mixed", metavar="NAME", help=f"one of {', '.join(PRECISIONS)}"
    )
    parser.add_argument(
        "--recompute", default="none", metavar="WHAT", help=f"one of {', '.join(RECOMPUTATIONS)}"
    )
    parser.add_argument(
        "--task", default="training", metavar="WHAT", help=f"one of {', '.join(TASKS)}"
    )


def _add_parallelism(group: argparse._ArgumentGroup) -> None:
    for option, of_what in (
        ("--ranks", "all ranks; data-parallel are those that tensor and pipeline leave"),
        ("--tensor", "tensor-parallel ranks"),
        ("--pipeline", "pipeline stages"),
        ("--expert", "ranks that share the experts of a layer"),
        ("--shard", "ranks that share one copy (HSDP), all data-parallel ones if not given"),
        ("--microbatches", "micro-batches under way in the pipeline"),
    ):
        group.add_argument(option, type=int, metavar="N", help=of_what)
    group.add_argument("--zero", type=int, default=0, metavar="STAGE", help="0 to 3; FSDP is 3")
    group.add_argument(
        "--sequence-parallel", action="store_true", help="over the tensor-parallel ranks"
    )
    group.add_argument("--stages", metavar="N,N,...", help="layers of each pipeline stage")
    group.add_argument(
        "--offload",
        action="append",
        default=[],
        metavar="WORD=TIER",
        help="such as optimizer_states=cpu or parameters=nvme (repeatable)",
    )


def _add_question(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--budget", metavar="SIZE", help='such as "24 GiB"; with --gpu also "80%%"')
    group.add_argument("--gpu", metavar="NAME", help='a card it must fit on, such as "A10G"')
    group.add_argument(
        "--solve", metavar="WHAT", help=f"the largest that fits: {', '.join(UNKNOWNS)}"
    )
    group.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _run(arguments: argparse.Namespace) -> int:
    limits = limits_of(arguments.budget, arguments.gpu)
    setup = _setup(arguments)
    model = None if arguments.model is None else load(arguments.model, arguments.input)
    if arguments.solve is not None:
        return _solve(arguments, answer(arguments.solve, model, setup, _least(limits)))
    if model is None:
        raise MemreqError("the following arguments are required: MODEL; see memreq estimate --help")
    needed = requirement(model, setup)
    fits = [fit(needed, limit) for limit in limits]
    if arguments.json:
        print(json.dumps(as_document(needed, fits), indent=1))
    else:
        print("\n".join(as_text(needed, fits)))
    return exit_code(fits)


def _least(limits: list[Limit]) -> Limit:
    if not limits:
        raise MemreqError("--solve needs to know for what: give --budget or --gpu")
    return min(limits, key=lambda limit: limit.bytes)


def _solve(arguments: argparse.Namespace, found: Answer) -> int:
    if arguments.json:
        solution = {"what": found.what, "limit": found.limit, **asdict(found.solution)}
        print(json.dumps({**as_document(found.needed, []), "solution": solution}, indent=1))
    else:
        print("\n".join([*as_text(found.needed, []), answer_text(found)]))
    return FITS if found.solution.fits else DOES_NOT_FIT


def _setup(arguments: argparse.Namespace) -> Setup:
    return setup_of(
        optimizer=arguments.optimizer,
        precision=arguments.precision,
        batch_size=arguments.batch,
        sequence_length=arguments.seq,
        recompute=arguments.recompute,
        task=arguments.task,
        parallelism=_parallelism(arguments),
    )


def _parallelism(arguments: argparse.Namespace) -> Parallelism:
    degrees = {name: getattr(arguments, name) for name in ("tensor", "pipeline", "expert")}
    degrees = {name: degree for name, degree in degrees.items() if degree is not None}
    alone = Parallelism(**degrees | {"expert": 1})
    ranks = alone.ranks if arguments.ranks is None else arguments.ranks
    check_count("ranks", ranks)
    check_divides("ranks", ranks, "tensor x pipeline", alone.ranks)
    return Parallelism(
        **degrees,
        data=ranks // alone.ranks,
        zero=arguments.zero,
        shard=arguments.shard,
        sequence=arguments.sequence_parallel,
        stages=None if arguments.stages is None else _stages(arguments.stages),
        microbatches=arguments.microbatches,
        offload=dict(map(_offload, arguments.offload)),
    )


def _stages(written: str) -> tuple[int, ...]:
    parts = written.split(",")
    if not all(part.strip().isdecimal() and len(part) < 10 for part in parts):
        raise MemreqError(f"--stages {written!r} are no layers; write 13,13,12,12")
    return tuple(int(part) for part in parts)


def _offload(written: str) -> tuple[str, str]:
    word, sign, tier = written.partition("=")
    if not sign:
        raise MemreqError(f"--offload {written!r} says not where; write optimizer_states=cpu")
    return word, tier
