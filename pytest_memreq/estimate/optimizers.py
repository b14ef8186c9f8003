"""What optimizers keep of each trainable parameter, state by state.

The rows are those of `torch.optim` (torch/optim/*.py, 2.9 to 2.15); a test compares each with the
state of the real optimizer after a step, and bitsandbytes' where it is installed.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.lookup import row_of
from pytest_memreq.estimate.model import Shape, Tier

Elements = Callable[[Shape], int]
Option = bool | int | float

# bitsandbytes/optim/optimizer.py: a scale for each block of 256, and parameters with fewer
# elements than min_8bit_size stay in single precision.
BLOCK_SIZE = 256
MIN_8BIT_SIZE = 4096
QUANTILES = 256


@dataclass(frozen=True, slots=True)
class State:
    """One state: elements as a function of a parameter's shape, and bytes an element.

    `element_bytes` is None where the state is of the precision that the optimizer works in. A
    shared state is held once by the optimizer, not for every parameter.
    """

    name: str
    elements: Elements
    element_bytes: int | None = None
    tier: Tier = "device"
    is_shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """The states of one optimizer; those that ask for shapes cannot be told from a count.

    `options` are those that were written.
    """

    name: str
    states: tuple[State, ...]
    needs_shapes: bool = False
    options: tuple[tuple[str, Option], ...] = ()


def _like_parameter(name: str) -> State:
    return State(name, math.prod)


def _scalar(name: str, on_device: bool) -> State:
    """A number in single precision; torch keeps it on the host unless a kernel reads it there."""
    return State(name, lambda _: 1, 4, "device" if on_device else "cpu")


def _numbers(name: str, count: int) -> State:
    return State(name, lambda _: count, is_shared=True)


def _sgd(*, momentum: float = 0.0) -> tuple[State, ...]:
    return (_like_parameter("momentum_buffer"),) if momentum else ()


def _adam(
    *, amsgrad: bool = False, capturable: bool = False, fused: bool = False
) -> tuple[State, ...]:
    most = (_like_parameter("max_exp_avg_sq"),) if amsgrad else ()
    return (
        _scalar("step", capturable or fused),
        _like_parameter("exp_avg"),
        _like_parameter("exp_avg_sq"),
        *most,
    )


def _adagrad(*, fused: bool = False) -> tuple[State, ...]:
    return (_scalar("step", fused), _like_parameter("sum"))


def _adadelta(*, capturable: bool = False) -> tuple[State, ...]:
    return (
        _scalar("step", capturable),
        _like_parameter("square_avg"),
        _like_parameter("acc_delta"),
    )


def _rmsprop(
    *, momentum: float = 0.0, centered: bool = False, capturable: bool = False
) -> tuple[State, ...]:
    options = (("momentum_buffer", momentum), ("grad_avg", centered))
    return (
        _scalar("step", capturable),
        _like_parameter("square_avg"),
        *(_like_parameter(name) for name, is_kept in options if is_kept),
    )


def _nadam(*, capturable: bool = False) -> tuple[State, ...]:
    return (*_adam(capturable=capturable), _scalar("mu_product", capturable))


def _radam(*, capturable: bool = False) -> tuple[State, ...]:
    return _adam(capturable=capturable)


def _adamax(*, capturable: bool = False) -> tuple[State, ...]:
    return (_scalar("step", capturable), _like_parameter("exp_avg"), _like_parameter("exp_inf"))


def _asgd() -> tuple[State, ...]:
    scalars = (_scalar(name, on_device=True) for name in ("step", "eta", "mu"))
    return (*scalars, _like_parameter("ax"))


def _rprop(*, capturable: bool = False) -> tuple[State, ...]:
    return (_scalar("step", capturable), _like_parameter("prev"), _like_parameter("step_size"))


def _lbfgs(*, history_size: int = 100) -> tuple[State, ...]:
    """With its history full: two vectors of all parameters for each step that it remembers."""
    return (
        *map(_like_parameter, ("d", "prev_flat_grad")),
        State("old_dirs", lambda shape: history_size * math.prod(shape)),
        State("old_stps", lambda shape: history_size * math.prod(shape)),
        _numbers("ro", history_size),
        _numbers("al", history_size),
        _numbers("H_diag", 1),
    )


def _adafactor() -> tuple[State, ...]:
    """Of a matrix a mean of each row and column; of a stack of matrices those of each."""

    def factor(shape: Shape, along: int) -> int:
        return math.prod(shape) // shape[along] if len(shape) > 1 and shape[along] else 0

    return (
        _scalar("step", on_device=False),
        State("row_var", lambda shape: factor(shape, -1)),
        State("col_var", lambda shape: factor(shape, -2)),
        State("variance", lambda shape: 0 if len(shape) > 1 else math.prod(shape)),
    )


def _muon() -> tuple[State, ...]:
    """Muon is for matrices alone; all else is left to AdamW, as its documentation has it."""

    def kept(state: State) -> State:
        of_vector = state.elements
        return State(
            state.name,
            lambda shape: 0 if len(shape) == 2 else of_vector(shape),
            state.element_bytes,
            state.tier,
        )

    momentum = State("momentum_buffer", lambda shape: math.prod(shape) if len(shape) == 2 else 0)
    return (momentum, *map(kept, _adam()))


def _sparse_adam() -> tuple[State, ...]:
    return (_like_parameter("exp_avg"), _like_parameter("exp_avg_sq"))


def _adam8bit() -> tuple[State, ...]:
    """bitsandbytes' block-wise states (Dettmers et al., arXiv 2110.02861)."""

    def quantized(shape: Shape) -> int:
        elements = math.prod(shape)
        return elements if elements >= MIN_8BIT_SIZE else 0

    def whole(shape: Shape) -> int:
        return math.prod(shape) - quantized(shape)

    return tuple(
        state
        for number in "12"
        for state in (
            State(f"state{number}", quantized, 1),
            State(f"state{number} in single precision", whole, 4),
            State(f"absmax{number}", lambda shape: -(-quantized(shape) // BLOCK_SIZE), 4),
            State(f"qmap{number}", lambda _: QUANTILES, 4, is_shared=True),
        )
    )


# Each row's keywords are the options that change what is kept; all others are of no matter here.
OPTIMIZERS: dict[str, Callable[..., tuple[State, ...]]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "rmsprop": _rmsprop,
    "nadam": _nadam,
    "radam": _radam,
    "adamax": _adamax,
    "asgd": _asgd,
    "rprop": _rprop,
    "lbfgs": _lbfgs,
    "adafactor": _adafactor,
    "muon": _muon,
    "sparseadam": _sparse_adam,
    "adam8bit": _adam8bit,
    "adamw8bit": _adam8bit,
}
NEED_SHAPES = {"adafactor", "muon"}

_WRITTEN = re.compile(r"([A-Za-z0-9_]+)(?:\(([A-Za-z0-9_=., ]*)\))?")
_OPTION = re.compile(r"([a-z_]+)=(True|False|[0-9]{1,9}(?:\.[0-9]{1,9})?)")


def optimizer_of(written: str) -> Optimizer:
    """The optimizer that `"adam"` or `"sgd(momentum=0.9)"` names, in either case."""
    match = _WRITTEN.fullmatch(written) if isinstance(written, str) else None
    name = match[1].lower().replace("_", "") if match else written
    states = row_of(OPTIMIZERS, "optimizer", name)
    options = _options_of(written, match[2] or "" if match else "", states)
    return Optimizer(
        name=name,
        states=states(**options),
        needs_shapes=name in NEED_SHAPES,
        options=tuple(options.items()),
    )


def _options_of(
    written: str, options: str, states: Callable[..., tuple[State, ...]]
) -> dict[str, Option]:
    known = inspect.signature(states).parameters
    given: dict[str, Option] = {}
    for option in filter(None, map(str.strip, options.split(","))):
        match = _OPTION.fullmatch(option.replace(" ", ""))
        if match is None or match[1] not in known:
            takes = ", ".join(known) or "none"
            raise MemreqError(
                f"optimizer={written!r}: {option!r} is no option that changes what it keeps; "
                f"those are: {takes}"
            )
        given[match[1]] = _value_of(match[2])
    return given


def _value_of(text: str) -> Option:
    words = {"True": True, "False": False}
    if text in words:
        return words[text]
    return float(text) if "." in text else int(text)
