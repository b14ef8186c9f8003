"""All layouts of the choices asked for, and those that were left out with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.lookup import check_divides
from pytest_memreq.estimate.parallelism import Parallelism
from pytest_memreq.estimate.transformer import Transformer, check_degrees
from pytest_memreq.layouts.layout import OFFLOADS, Layout

TENSOR = (1, 2, 4, 8)  # within a node of eight cards; between nodes it is rarely worth it


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """The choices asked for, each None where nothing was asked: then all that go with the model."""

    ranks: int
    zero: tuple[int, ...] | None = None
    tensor: tuple[int, ...] | None = None
    recompute: tuple[str, ...] | None = None
    offload: tuple[str, ...] | None = None
    batch: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Layouts in a fixed order, and what was left out of them, a line each."""

    layouts: tuple[Layout, ...]
    left_out: tuple[str, ...] = field(default=())


def grid_of(model: Transformer, axes: Axes) -> Grid:
    """Every layout of the axes; MemreqError where a choice that was asked for is not possible.

    Choices that nobody asked for are left out where they are not possible. So are layouts that are
    others under another name: stages of ZeRO where one rank has the data, but for what they
    offload, and selective recomputation of an attention that keeps no scores.
    """
    tensor, left_out = _tensor(model, axes)
    choices = product(
        tensor,
        axes.zero or (0, 1, 2, 3),
        axes.recompute or _recompute(model),
        axes.offload or tuple(OFFLOADS),
        axes.batch,
    )
    layouts = tuple(dict.fromkeys(_layouts(choices, axes)))
    if not layouts:
        raise MemreqError("no layout is left: offload is ZeRO's; add zero=1, 2 or 3")
    return Grid(layouts=layouts, left_out=left_out)


def _layouts(choices: product[tuple[int, int, str, str, int]], axes: Axes) -> Iterator[Layout]:
    least = min(axes.zero or (0,))
    for tensor, zero, recompute, offload, batch in choices:
        if offload != "none" and zero == 0:
            continue
        if offload == "none" and axes.ranks == tensor and zero != least:
            continue
        yield Layout(
            ranks=axes.ranks,
            zero=zero,
            tensor=tensor,
            recompute=recompute,
            offload=offload,
            batch=batch,
        )


def _recompute(model: Transformer) -> tuple[str, ...]:
    return ("none", "full") if model.fused_attention else ("none", "selective", "full")


def _tensor(model: Transformer, axes: Axes) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The degrees that are possible, and why others are not."""
    if axes.tensor is not None:
        for degree in axes.tensor:
            check_tensor(model, axes.ranks, degree)
        return axes.tensor, ()
    found = {degree: _why_no_tensor(model, axes.ranks, degree) for degree in TENSOR}
    left_out = (f"tensor={degree}: {why}" for degree, why in found.items() if why)
    return tuple(degree for degree, why in found.items() if not why), tuple(left_out)


def _why_no_tensor(model: Transformer, ranks: int, degree: int) -> str | None:
    try:
        check_tensor(model, ranks, degree)
    except MemreqError as error:
        return str(error)
    return None


def check_tensor(model: Transformer, ranks: int, degree: int) -> None:
    """Raise MemreqError unless so many ranks can divide the model's tensors among them."""
    degrees = Parallelism(tensor=degree)  # refuses what is no number
    check_divides("ranks", ranks, "tensor", degree)
    check_divides("hidden", model.hidden, "tensor", degree)
    check_degrees(model, degrees)
