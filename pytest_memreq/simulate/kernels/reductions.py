"""What a reduction on CUDA takes for itself: partial results of blocks that share an output.

setReduceConfig of aten/src/ATen/native/cuda/Reduce.cuh, on the iterator that TensorIterator.cpp
makes of input and output (reorder_dimensions, coalesce_dimensions). All sizes are in elements
unless a name ends in `_bytes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_memreq.simulate.cards import Card

WARP = 32
MAX_THREADS = 512
VECTOR = 4
FEWEST_VALUES, MOST_VALUES = 16, 256  # that a thread reduces, where there is a choice
SEMAPHORE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension of the iterator; an output does not move along one that is reduced."""

    size: int
    step: int
    output_step: int

    @property
    def is_reduced(self) -> bool:
        """True where all of it goes into one output."""
        return self.output_step == 0


@dataclass(slots=True)
class _Split:
    """How a work of two dimensions is divided among threads, then warps, then blocks."""

    inputs: int
    outputs: int
    step_input: int = 1
    step_output: int = 1

    def values_per_thread(self) -> int:
        """Inputs that one thread reduces."""
        return -(-self.inputs // self.step_input)


def partials(
    dimensions: Sequence[Dimension], accumulator_bytes: int, card: Card
) -> tuple[int, int] | None:
    """Bytes of the partial results and of the semaphores; None where one block does an output.

    `accumulator_bytes` are of what a thread adds up in.
    """
    dims = _coalesced(_ordered([d for d in dimensions if d.size != 1]))
    reduced = [d for d in dims if d.is_reduced]
    outputs = math.prod(d.size for d in dims if not d.is_reduced)
    split = _Split(inputs=math.prod(d.size for d in reduced), outputs=outputs)
    along_input = _is_fastest_reduced(dims, len(reduced))
    first, second = (split.inputs, outputs) if along_input else (outputs, split.inputs)
    fastest = (dims[0] if along_input else dims[len(reduced)]).step if dims else 1
    vector = 1
    if dims and fastest == 1:
        if along_input and first >= 128 and len(reduced) == 1:
            first //= VECTOR
        elif not along_input:
            vector = _output_vector(dims, len(reduced))
            first //= vector
    width, height = _block(first, second, MAX_THREADS // vector)
    if along_input:
        split.step_input *= width
    else:
        split.step_output *= width
    is_split_across_warps = split.values_per_thread() >= min(height * 16, MOST_VALUES)
    if is_split_across_warps:
        split.step_input *= height
    else:
        split.step_output *= height
    blocks = _blocks_of_an_output(split, vector, width * height, card)
    if not is_split_across_warps or blocks <= 1:
        return None
    columns = 1 if along_input else width * vector
    grid = -(-(outputs // vector) // split.step_output)
    return accumulator_bytes * outputs * blocks * columns, SEMAPHORE_BYTES * grid


def _blocks_of_an_output(split: _Split, vector: int, threads: int, card: Card) -> int:
    values = split.values_per_thread()
    grid = -(-(split.outputs // vector) // split.step_output)
    target = card.multiprocessors * (card.threads_per_multiprocessor // threads)
    if values < MOST_VALUES or grid > target:
        return 1
    enough = min(-(-target // grid), -(-values // FEWEST_VALUES))
    return max(enough, -(-values // MOST_VALUES))


def _block(first: int, second: int, most: int) -> tuple[int, int]:
    """Threads of a block along both dimensions: powers of two, at least a warp along the first."""
    wide, high = (_floor_power(size) if size < most else most for size in (first, second))
    width = min(wide, WARP)
    height = min(high, most // width)
    return min(wide, most // height), height


def _floor_power(size: int) -> int:
    return 1 << (max(size, 1).bit_length() - 1)


def _is_fastest_reduced(dims: Sequence[Dimension], reduced: int) -> bool:
    return reduced == len(dims) or (reduced > 0 and dims[0].step < dims[reduced].step)


def _output_vector(dims: Sequence[Dimension], output_at: int) -> int:
    """How many neighbouring outputs a thread makes: what divides their number and all steps."""
    vector = VECTOR
    numbers = [dims[output_at].size, *(d.step for at, d in enumerate(dims) if at != output_at)]
    for number in numbers:
        while vector > 1 and number % vector:
            vector //= 2
    return vector


def _ordered(dims: list[Dimension]) -> list[Dimension]:
    """Reduced dimensions first, each kind by its steps, the innermost first."""

    def compare(a: Dimension, b: Dimension) -> int:
        if a.is_reduced != b.is_reduced:
            return -1 if a.is_reduced else 1
        for one, other in ((a.output_step, b.output_step), (a.step, b.step)):
            if one == 0 or other == 0:
                continue
            if one != other:
                return -1 if one < other else 1
        return 0

    ordered = dims[::-1]
    # An insertion sort, as the iterator's: steps of 0 make an order that no other may assume.
    for at in range(1, len(ordered)):
        moved = at
        for before in range(at - 1, -1, -1):
            order = compare(ordered[before], ordered[moved])
            if order > 0:
                ordered[before], ordered[moved] = ordered[moved], ordered[before]
                moved = before
            elif order < 0:
                break
    return ordered


def _coalesced(dims: list[Dimension]) -> list[Dimension]:
    """Dimensions that all operands walk through as through one, as one."""
    merged: list[Dimension] = []
    for dim in dims:
        last = merged[-1] if merged else None
        if last is not None and _follow(last, dim):
            merged[-1] = Dimension(last.size * dim.size, last.step, last.output_step)
        else:
            merged.append(dim)
    return merged


def _follow(inner: Dimension, outer: Dimension) -> bool:
    return (
        inner.size * inner.step == outer.step
        and inner.size * inner.output_step == outer.output_step
    )


def dimensions_of(
    shape: Sequence[int], strides: Sequence[int], reduced: Sequence[int]
) -> list[Dimension]:
    """Dimensions of a tensor whose output, without those that are reduced, is contiguous."""
    gone = {dim % len(shape) for dim in reduced} if shape else set()
    if not reduced:
        gone = set(range(len(shape)))
    dims: list[Dimension] = []
    output_step = 1
    for at in reversed(range(len(shape))):
        dims.append(Dimension(shape[at], strides[at], 0 if at in gone else output_step))
        output_step *= 1 if at in gone else shape[at]
    return dims[::-1]
