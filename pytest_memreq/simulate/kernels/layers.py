"""Kernels of layers, losses and products: copies that they make first, and sums of groups.

Autograd hands on expanded gradients of no memory (the gradient of a sum, for one); most kernels
want them contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pytest_memreq.simulate.kernels.call import (
    RESULT,
    Call,
    Events,
    Rule,
    Scratch,
    after_results,
    copies,
    nested,
)
from pytest_memreq.simulate.kernels.reductions import dimensions_of, partials

FLOAT_BYTES = 4


def contiguous(*positions: int) -> Rule:
    """A rule for a kernel that makes the arguments at these positions contiguous."""

    def rule(call: Call) -> Scratch | None:
        tensors = [call.args[at] for at in positions if isinstance(call.args[at], Tensor)]
        return after_results(call, *nested(*copies(*tensors)))

    return rule


def product(*positions: int) -> Rule:
    """A rule for a product of matrices: cuBLAS walks along rows or columns, or wants a copy.

    prepare_matrix_for_cublas in aten/src/ATen/native/cuda/Blas.cpp. The copies are there when the
    workspace is allocated.
    """

    def rule(call: Call) -> Scratch | None:
        matrices = (call.args[at] for at in positions)
        unfit = [matrix for matrix in matrices if not _suits(matrix)]
        sizes = (matrix.numel() * matrix.element_size() for matrix in unfit)
        return after_results(call, *sizes)

    return rule


def _suits(matrix: Tensor) -> bool:
    rows, columns = matrix.shape[-2:]
    down, across = matrix.stride()[-2:]
    return (down == 1 and across >= max(1, rows)) or (across == 1 and down >= max(1, columns))


SUMS = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.bool)


def reduction(dims_at: int | None, dims_name: str = "dim", *, accumulator: str) -> Rule:
    """A rule for a reduction over the dimensions at a position, over all if it is None."""

    def rule(call: Call) -> Scratch | None:
        tensor = call.args[0]
        if tensor.numel() < 2:
            return None
        given = None if dims_at is None else call.argument(dims_at, dims_name)
        dims = () if given is None else (given,) if isinstance(given, int) else tuple(given)
        return after_results(call, *reduced(call, tensor, dims, accumulator))

    return rule


def reduced(call: Call, tensor: Tensor, dims: Sequence[int], accumulator: str) -> tuple[int, ...]:
    """Events of a reduction: a copy in the type of the result, partial results, semaphores."""
    dtype = call.kwargs.get("dtype") or tensor.dtype
    if accumulator == "sum" and dtype in SUMS:
        dtype = torch.int64
    copied: tuple[int, ...] = ()
    strides = tensor.stride()
    is_widened_inside = tensor.dtype.is_floating_point and dtype is torch.float32
    if dtype is not tensor.dtype and not is_widened_inside:
        copied = (tensor.numel() * dtype.itemsize,)
        strides = torch.empty_like(tensor, device="meta").stride()
        element_bytes = dtype.itemsize
    else:
        element_bytes = tensor.element_size()
    found = partials(
        dimensions_of(tensor.shape, strides, dims),
        ACCUMULATORS[accumulator](element_bytes),
        call.card,
    )
    return nested(*copied, *(found or ()))


def _single_or_double(element_bytes: int) -> int:
    return max(element_bytes, FLOAT_BYTES)


# Bytes of what a thread adds up in, by those of an element.
ACCUMULATORS: dict[str, Callable[[int], int]] = {
    "sum": _single_or_double,
    "norm": _single_or_double,
    "same": lambda element_bytes: element_bytes,
    "truth": lambda _: 1,
    "with index": lambda _: 16,
    "pair": lambda element_bytes: 2 * element_bytes,
    "welford": lambda element_bytes: 4 * _single_or_double(element_bytes),
}


def extreme(call: Call) -> Scratch | None:
    """max and min: of a dimension with the index, of all without."""
    if len(call.args) > 1 and isinstance(call.args[1], int):
        return reduction(1, accumulator="with index")(call)
    if len(call.args) > 1:
        return None  # of two tensors, element by element
    tensor = call.args[0]
    if tensor.numel() < 2:
        return None
    events = Events()
    events.results(len(call.results))
    copied = events.take(*copies(tensor))
    events.add(reduced(call, tensor.contiguous(), (), "same"))
    events.free(copied)
    return events.scratch()


def norm_backward(call: Call) -> Scratch | None:
    """The input before, the gradient after the results, both contiguous (layer_norm_kernel.cu)."""
    grad, tensor = call.args[:2]
    events = Events()
    copied = events.take(*copies(tensor))
    events.results(len(call.results))
    events.run(*copies(grad))
    events.free(copied)
    return events.scratch()


def copied_first(call: Call) -> Scratch | None:
    """A kernel that makes its input contiguous before its results."""
    before = copies(call.args[0])
    return Scratch((*before, *[RESULT] * len(call.results))) if before else None


def log_sum_exp(call: Call) -> Scratch | None:
    """Maxima, which of them are infinite, exponentials, the maxima's places (ReduceOps.cpp)."""
    tensor, dims = call.args[0], call.args[1]
    rows = call.results[0].numel()
    if not tensor.numel() or not dims:
        return None
    size = tensor.element_size()
    held = (rows * size, rows, ~1, ~0, tensor.numel() * size, rows * size, ~2, ~3)
    return Scratch((RESULT, *held))


def resized(call: Call) -> Scratch:
    """A result that is made like the input and then resized (Im2Col.cu and Col2Im.cu)."""
    tensor = call.args[0]
    made = tensor.numel() * tensor.element_size()
    extra = copies(tensor)
    if call.results[0].numel() * call.results[0].element_size() <= made:
        return Scratch((RESULT, *nested(*extra)), result_bytes=made)
    first = (made, *extra)
    return Scratch((*first, RESULT, *(~at for at in reversed(range(len(first))))))


def distances(call: Call) -> Scratch:
    """Squares, norms and ones of both sides, joined for one product (Distance.cpp)."""
    size = call.args[0].element_size()
    (first, f_rows), (second, s_rows) = (
        (t.numel() * size, t.numel() // t.shape[-1] * size) for t in call.args[:2]
    )
    norms = (first, f_rows, ~0, f_rows, second, s_rows, ~3, s_rows)
    sides = (first, first + 2 * f_rows, ~1, ~2, ~6, second + 2 * s_rows, ~4, ~5)
    return Scratch((*norms, *sides, RESULT))


def group_norm(call: Call) -> Scratch | None:
    """A factor and a shift for each channel (aten/src/ATen/native/cuda/group_norm_kernel.cu)."""
    if call.args[1] is None and call.args[2] is None:
        return None
    rows = call.args[0].shape[0] * call.args[0].shape[1] * FLOAT_BYTES
    return after_results(call, *nested(rows, rows))


def group_norm_backward(call: Call) -> Scratch | None:
    """Sums of each channel and of each group, factors where there are weights (the same file)."""
    grad, tensor, _, _, weight, batch, channels, _, groups = call.args[:9]
    rows, sums = batch * channels * FLOAT_BYTES, batch * groups * FLOAT_BYTES
    factors = () if weight is None else (rows,)
    events = Events()
    copied = events.take(*copies(grad, tensor))
    events.results(len(call.results))
    events.run(rows, rows, sums, sums, *factors)
    events.free(copied)
    return events.scratch()


def power(call: Call) -> Scratch | None:
    """A number to the power of a tensor: the number becomes a tensor on the device (Pow.cpp)."""
    base = call.args[0]
    if isinstance(base, Tensor) or base == 1:
        return None
    return after_results(call, *nested(16 if isinstance(base, complex) else 8))


def softmax_backward(call: Call) -> Scratch:
    """The product of gradient and result (softmax_backward_cuda_out of native/cuda/SoftMax.cu)."""
    product = call.args[0] * call.args[1]
    return Scratch(
        (RESULT, *nested(product.numel() * product.element_size(), *copies(product, call.args[1])))
    )


def safe_softmax(call: Call) -> Scratch:
    """Which elements, and which whole rows, are masked (_safe_softmax of attention.cpp)."""
    tensor, dim = call.args[:2]
    rows = tensor.numel() // max(1, tensor.shape[dim])
    return Scratch((RESULT, *nested(tensor.numel(), rows, call.results[0].element_size())))


RULES: dict[str, Rule] = {
    "aten.pow": power,
    "aten._softmax_backward_data": softmax_backward,
    "aten._safe_softmax": safe_softmax,
    "aten.native_layer_norm": copied_first,
    "aten.native_layer_norm_backward": norm_backward,
    "aten.logsumexp": log_sum_exp,
    "aten.im2col": resized,
    "aten.col2im": resized,
    "aten._euclidean_dist": distances,
    "aten.native_group_norm": group_norm,
    "aten.native_group_norm_backward": group_norm_backward,
    "aten.max": extreme,
    "aten.min": extreme,
    "aten.mm": product(0, 1),
    "aten.bmm": product(0, 1),
    "aten.addmm": product(1, 2),
    "aten.baddbmm": product(1, 2),
    **{
        f"aten.{name}": contiguous(0)
        for name in (
            "_softmax",
            "_log_softmax",
            "_adaptive_avg_pool2d_backward",
            "avg_pool2d_backward",
            "avg_pool3d_backward",
            "adaptive_max_pool2d_backward",
            "max_pool2d_with_indices_backward",
            "max_pool3d_with_indices_backward",
            "_upsample_bilinear2d_aa_backward",
            "_upsample_bicubic2d_aa_backward",
            *(f"reflection_pad{dims}d_backward" for dims in "123"),
            *(f"replication_pad{dims}d_backward" for dims in "123"),
            *(
                f"upsample_{kind}_backward"
                for kind in ("nearest2d", "bilinear2d", "bicubic2d", "trilinear3d", "linear1d")
            ),
        )
    },
    "aten._log_softmax_backward_data": contiguous(0, 1),
    **dict.fromkeys(("aten.sum", "aten.nansum"), reduction(1, accumulator="sum")),
    "aten.mean": reduction(1, accumulator="norm"),
    "aten.prod": reduction(1, accumulator="sum"),
    "aten.linalg_vector_norm": reduction(2, accumulator="norm"),
    **dict.fromkeys(("aten.amax", "aten.amin"), reduction(1, accumulator="same")),
    **dict.fromkeys(("aten.any", "aten.all"), reduction(1, accumulator="truth")),
    **dict.fromkeys(("aten.argmax", "aten.argmin"), reduction(1, accumulator="with index")),
    **dict.fromkeys(
        ("aten.var", "aten.std", "aten.var_mean", "aten.std_mean"),
        reduction(1, accumulator="welford"),
    ),
}
