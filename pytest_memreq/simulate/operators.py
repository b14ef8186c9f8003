"""What the tracer must know of an operator before it runs it: tables, and its schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from pytest_memreq.simulate.storages import is_meta, tensors_in
from pytest_memreq.simulate.versions import torch_version

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Operator:
    """Facts about one operator: `makes_storage` is False for views and in-place operators.

    An operator `depends_on_shapes` if it makes fresh tensors, or `changes_first`, its first
    argument, and does nothing else. One that `only_writes` changes some of its arguments' values:
    without values there is nothing to do. `writes` are the arguments whose values it may change, by
    position or keyword. One that `has_values` computes its result from its arguments alone, one
    that `is_unset` gives what has no values yet. `overload` is its name as torch.library takes it.
    """

    name: str
    overload: str
    makes_storage: bool
    takes_device: bool
    is_composite: bool
    is_gemm: bool
    not_counted: str | None
    changes_first: bool
    depends_on_shapes: bool
    is_foreach: bool
    only_writes: bool
    writes: tuple[int | str, ...]
    has_values: bool
    is_unset: bool

    def written(self, args: Any, kwargs: Any) -> Iterator[Tensor]:
        """The tensors of a call whose values it may change."""
        for at in self.writes:
            if isinstance(at, str):
                yield from tensors_in((kwargs.get(at),))
            else:
                yield from tensors_in(args[at : at + 1])


# Operators that cuBLAS runs, each with a workspace of its own handle and stream:
# aten/src/ATen/cuda/CUDABlas.cpp (bgemm, gemm, gemv's callers), aten/src/ATen/native/cuda/Blas.cpp.
GEMMS = frozenset(
    f"aten::{name}"
    for name in (
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "addmv",
        "mv",
        "addbmm",
        "_scaled_mm",
        "dot",
        "_euclidean_dist",
    )
)

# Library memory that no rule derives: named in the result instead of being left out in silence.
NOT_COUNTED = {
    "aten::convolution": "workspaces of convolutions (cuDNN) are not counted",
    "aten::convolution_backward": "workspaces of convolutions (cuDNN) are not counted",
    **dict.fromkeys(
        ("aten::_fft_r2c", "aten::_fft_c2r", "aten::_fft_c2c"),
        "workspaces of Fourier transforms (cuFFT) are not counted",
    ),
    **dict.fromkeys(
        (
            *(f"aten::linalg_{name}" for name in ("inv_ex", "cholesky_ex", "qr", "lu", "lu_solve")),
            *(f"aten::linalg_{name}" for name in ("matrix_exp", "eig", "ldl_factor_ex", "lstsq")),
            *("aten::_linalg_svd", "aten::_linalg_eigh", "aten::_linalg_det"),
            *("aten::_linalg_solve_ex", "aten::geqrf", "aten::linalg_lu_factor_ex"),
        ),
        "workspaces of linear algebra (cuSOLVER, MAGMA) are not counted",
    ),
    **{
        f"aten::{name}": f"what the kernels of {name.strip('_')} take for themselves is not counted"
        for name in ("_trilinear", "embedding_renorm_", "logcumsumexp")
    },
    "aten::_scaled_dot_product_cudnn_attention": "workspaces of attention (cuDNN) are not counted",
    "aten::_scaled_dot_product_cudnn_attention_backward": (
        "workspaces of attention (cuDNN) are not counted"
    ),
}

# Operators that may have CPU tensors beside those of the device, as on CUDA: copies and
# indices, lengths of sequences.
MIXES_DEVICES = frozenset(
    f"aten::{name}"
    for name in (
        "copy_",
        "_to_copy",
        "_foreach_copy_",
        "index",
        "index_put",
        "index_put_",
        "_index_put_impl_",
        "_unsafe_index",
        "_unsafe_index_put",
        "record_stream",
        "_ctc_loss",
        "_ctc_loss_backward",
        "_pack_padded_sequence",
    )
)

# Composite where a device has no kernel of its own; CUDA and meta have one
# (native/native_functions.yaml).
COMPOSITE_ELSEWHERE = ("aten::silu_backward",)


def _efficient_attention_results(args: Any) -> tuple[int, ...]:
    # aten/src/ATen/native/transformers/cuda/attention.cu: the random state is on the CPU unless a
    # graph is captured; from torch 2.15 on there are two empty tensors first where it is not used.
    has_dropout = len(args) > 5 and args[5] > 0
    return (0, 1) if has_dropout or torch_version() < (2, 15) else (2, 3, 0, 1)


def _unique_results(args: Any) -> tuple[int, ...]:
    # aten/src/ATen/native/cuda/UniqueCub.cu: the inverse first, but not that of true and false.
    is_two = args[0].dtype is torch.bool
    return (1, 0, 2) if len(args) > 2 and args[2] and not is_two else (0, 2, 1)


def _consecutive_results(args: Any) -> tuple[int, ...]:
    return (1, 0, 2) if len(args) > 1 and args[1] else (0, 2, 1)


# The results that CUDA's kernel allocates on the card, in its order, where it is not all in theirs:
# aten/src/ATen/native/cuda/Dropout.cu makes the mask first, RNN.cu and the losses what backward
# needs; the buffer of log_sigmoid is for the CPU alone (aten/src/ATen/native/Activation.cpp).
RESULTS_ON_CARD: dict[str, tuple[int, ...] | Callable[[Any], tuple[int, ...]]] = {
    "aten.native_dropout": (1, 0),
    "aten._ctc_loss": (1, 0),
    "aten._embedding_bag": (2, 1, 0, 3),
    "aten._embedding_bag_forward_only": (2, 1, 0, 3),
    "aten.multilabel_margin_loss_forward": (1, 0),
    "aten._thnn_fused_gru_cell": (1, 0),
    "aten._thnn_fused_lstm_cell": (2, 0, 1),
    "aten.log_sigmoid_forward": (0,),
    "aten._unique2": _unique_results,
    "aten.unique_consecutive": _consecutive_results,
    "aten._scaled_dot_product_efficient_attention": _efficient_attention_results,
}

# Arguments that aten/src/ATen/native/native_functions.yaml does not mark as written to.
UNTOLD = ("running_mean", "running_var")

# What these make has no values yet.
UNSET = ("aten::empty", "aten::new_empty")
# What these change has other memory than before.
GIVEN = ("aten::resize", "aten::set_")

# What is usually true of tensors of which no comparison is known (see `truth`).
USUALLY_TRUE = frozenset(f"aten.{name}" for name in ("all", "_is_all_true", "isclose", "mul"))


def results_on_device(name: str, args: Any, results: Sequence[Any]) -> list[Any]:
    """The results of a call that CUDA would allocate on the card, in its order."""
    positions = RESULTS_ON_CARD.get(name, ())
    if callable(positions):
        positions = positions(args)
    return [results[position] for position in positions or range(len(results))]


@cache
def describe(func: OpOverload) -> Operator:
    """The facts about an overload, from its schema and the tables above."""
    schema = func._schema
    fresh = [r for r in schema.returns if r.alias_info is None and "Tensor" in str(r.type)]
    is_fresh = bool(fresh) and len(fresh) == len(schema.returns) and not schema.is_mutable
    changes_first = _changes_first(func)
    return Operator(
        name=schema.name.replace("::", "."),
        overload=func.name().removeprefix("aten::"),
        makes_storage=bool(fresh),
        takes_device=any(argument.name == "device" for argument in schema.arguments),
        is_composite=_is_composite(func),
        is_gemm=schema.name in GEMMS,
        not_counted=NOT_COUNTED.get(schema.name),
        changes_first=changes_first,
        depends_on_shapes=is_fresh or changes_first,
        only_writes=schema.is_mutable and schema.name.endswith("_") and not fresh,
        writes=tuple(
            given.name if given.kwarg_only else at
            for at, given in enumerate(schema.arguments)
            if _may_write(schema.name, given)
        ),
        has_values=schema.name.startswith("aten::") and not schema.name.startswith(GIVEN),
        is_unset=schema.name.startswith(UNSET),
        is_foreach=schema.name.startswith("aten::_foreach_"),
    )


def _changes_first(func: OpOverload) -> bool:
    schema = func._schema
    changed = [at for at, given in enumerate(schema.arguments) if _is_written(given)]
    return schema.name.endswith("_") and changed == [0] and len(schema.returns) <= 1


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _may_write(operator: str, argument: Any) -> bool:
    # Statistics of batches are written to, though their operators' schemas do not say so; those
    # of operators that are not torch's own, or of collectives, may not either.
    is_told = operator.startswith("aten::") and argument.name not in UNTOLD
    return _is_written(argument) or not is_told


def _is_composite(func: OpOverload) -> bool:
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    name = func.name()
    return name not in COMPOSITE_ELSEWHERE and has_kernel(name, "CompositeImplicitAutograd")


def refuse_mixed(operator: Operator, tensors: list[Tensor]) -> None:
    """Raise as CUDA would: a tensor of another device is refused unless it is a scalar."""
    if operator.name.replace(".", "::") in MIXES_DEVICES:
        return
    if any(not is_meta(tensor) and tensor.dim() > 0 for tensor in tensors):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! (when running {operator.name} on the pretended device)"
        )
