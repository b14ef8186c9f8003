"""What `torch.Tensor` and its kin answer for a pretended tensor.

C++ knows these tensors as meta. Here is what Python code can see of that, answered as CUDA would:
the device of a tensor, moves between devices, and ways to look at values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._device import DeviceContext, _device_constructors
from torch.utils._pytree import tree_map_only

from pytest_memreq.replacing import Replacement
from pytest_memreq.simulate import looks
from pytest_memreq.simulate.storages import is_meta
from pytest_memreq.simulate.streams import DEVICE

_Base = torch._C.TensorBase
_CPU = torch.device("cpu")
_META = torch.device("meta")
# DTensor asks torch's fake tensors for shapes: none of them is the card's.
_FAKE = torch._C._TorchDispatchModeKey.FAKE
_get_mode = torch._C._get_dispatch_mode
_device = vars(_Base)["device"].__get__
_data = vars(_Base)["data"]

_DATA_TO_TENSOR = (torch.tensor, torch.as_tensor, torch.asarray)
IsPretended = Callable[[Tensor], bool]


class Border(Protocol):
    """What the tracer decides on tensors that pass between devices.

    `in_kernel` is true while torch's own kernels run, some of which are Python and make tensors.
    """

    in_kernel: bool

    def is_pretended(self, tensor: Tensor) -> bool:
        """True for a tensor that user code sees on the pretended card."""

    def make_genuine(self, make: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """A genuine meta tensor, by a function that takes a device."""

    def adopt(self, tensor: Tensor, make_numbers: Callable[[], Tensor] | None = None) -> Tensor:
        """The meta tensor given, from now on one of the pretended card.

        `make_numbers` gives its values, on the CPU.
        """

    def record_stream(self, tensor: Tensor, stream: Any) -> None:
        """Another stream reads the tensor."""


def replacements(border: Border) -> Iterator[Replacement]:
    """Every attribute of Tensor, Generator and tensor makers that is answered anew."""
    is_pretended = border.is_pretended
    constructors = _device_constructors()  # before any of those functions is replaced

    def device(tensor: Tensor) -> torch.device:
        return DEVICE if is_pretended(tensor) else _device(tensor)

    move = _mover(device, border)
    yield Tensor, "device", property(device)
    yield Tensor, "is_cuda", property(lambda tensor: device(tensor).type == "cuda")
    yield Tensor, "is_meta", property(lambda tensor: device(tensor).type == "meta")
    yield Tensor, "get_device", lambda tensor: 0 if device(tensor).type == "cuda" else -1
    yield Tensor, "to", move
    yield Tensor, "cuda", _cuda(move)
    yield Tensor, "data", property(_data.__get__, _data_setter(is_pretended))
    yield Tensor, "tolist", looks.as_list(is_pretended)
    yield Tensor, "numpy", looks.as_array(is_pretended)
    yield Tensor, "record_stream", _recorder(border)
    yield Tensor, "_make_wrapper_subclass", staticmethod(_wrapper(_Base._make_wrapper_subclass))
    yield Tensor, "pin_memory", lambda tensor, *_device: tensor
    yield Tensor, "is_pinned", lambda tensor, *_device: False
    yield Tensor, "__repr__", looks.represented(is_pretended, Tensor.__repr__)
    yield Tensor, "__format__", looks.formatted(is_pretended, Tensor.__format__)
    yield Tensor, "__setitem__", _item_setter(is_pretended)
    yield torch, "Generator", _GeneratorStandIn
    group = torch._C._group_tensors_by_device_and_dtype
    yield torch._C, "_group_tensors_by_device_and_dtype", _grouping(group, device)
    makers = {function: _constructor(function, border) for function in _constructors()}
    makers |= {function: _maker(function, border) for function in _DATA_TO_TENSOR}
    for function, maker in makers.items():
        yield torch, function.__name__, maker
    yield Tensor, "new_tensor", _maker(_Base.new_tensor, border)
    yield torch, "load", _loader(torch.load)
    yield DeviceContext, "__torch_function__", _device_context(constructors, makers)


def _wrapper(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # Of a subclass that is put together from tensors (jagged ones), autograd asks C++ for the
    # device, and ends the process where torch was built without it.
    def on_meta(value: Any) -> Any:
        is_card = isinstance(value, torch.device) and value.type == "cuda"
        return _META if is_card else value

    def make_wrapper_subclass(cls: type, *args: Any, **kwargs: Any) -> Tensor:
        kwargs = {name: on_meta(value) for name, value in kwargs.items()}
        return make(cls, *map(on_meta, args), **kwargs)

    return make_wrapper_subclass


def _item_setter(is_pretended: IsPretended) -> Callable[[Tensor, Any, Any], None]:
    # THPVariable_setitem of torch/csrc/autograd/python_variable_indexing.cpp: on CUDA, and not on
    # meta, a number becomes a tensor of the CPU.
    def set_item(tensor: Tensor, index: Any, value: Any) -> None:
        if isinstance(value, (bool, int, float, complex)) and is_pretended(tensor):
            value = torch.tensor(value, dtype=tensor.dtype, device="cpu")
        _Base.__setitem__(tensor, index, value)

    return set_item


def _grouping(
    group: Callable[..., Any], device: Callable[[Tensor], torch.device]
) -> Callable[..., Any]:
    # Optimizers and clipping take the device of a group, and decide by it how to go on.
    def grouped(tensorlistlist: Any, with_indices: bool = False) -> dict[Any, Any]:
        groups = group(tensorlistlist, with_indices)
        return {
            (next((device(t) for t in lists[0] if t is not None), key[0]), key[1]): (lists, at)
            for key, (lists, at) in groups.items()
        }

    return grouped


def _recorder(border: Border) -> Callable[[Tensor, Any], None]:
    def record_stream(tensor: Tensor, stream: Any) -> None:
        border.record_stream(tensor, stream)  # a bound method would not be given the tensor

    return record_stream


def _constructors() -> list[Callable[..., Tensor]]:
    """Functions of `torch` that take a device and make a tensor, but for those that take data."""
    names = {f"{kind}_like" for kind in ("empty", "zeros", "ones", "full", "rand", "randn")}
    names |= {function.__name__ for function in _device_constructors()}
    names -= {function.__name__ for function in _DATA_TO_TENSOR}
    return [getattr(torch, name) for name in sorted(names) if hasattr(torch, name)]


def _constructor(function: Callable[..., Tensor], border: Border) -> Callable[..., Tensor]:
    # The dispatch mode cannot tell user code that wants a meta tensor from C++ that takes over the
    # device of a pretended one.
    @wraps(function)
    def construct(*args: Any, **kwargs: Any) -> Tensor:
        device = kwargs.get("device")
        is_meant = isinstance(device, (str, torch.device)) and torch.device(device).type == "meta"
        if is_meant and not border.in_kernel:
            return border.make_genuine(function, *args, **kwargs)
        return function(*args, **kwargs)

    return construct


def _maker(function: Callable[..., Tensor], border: Border) -> Callable[..., Tensor]:
    # They make a CPU tensor and move it in C++, which knows no cuda device here, and out of the
    # dispatch mode's sight.
    @wraps(function)
    def make(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if device is None:
            made = function(*args, **kwargs)
            return border.adopt(made) if is_meta(made) else made  # as a tensor's new_tensor makes
        wanted = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if wanted.type == "cuda":
            numbers = partial(function, *args, device=_CPU, **kwargs)
            has_data = not any(isinstance(arg, Tensor) for arg in args)
            made = function(*args, device=_META, **kwargs)
            return border.adopt(made, numbers if has_data else None)
        if wanted.type == "meta":
            return border.make_genuine(function, *args, **kwargs)
        return function(*args, device=device, **kwargs)

    return make


def _loader(load: Callable[..., Any]) -> Callable[..., Any]:
    # It makes storages of the device in C++, which has none.
    @wraps(load)
    def load_to(file: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        is_named = isinstance(map_location, (str, torch.device))
        if not is_named or torch.device(map_location).type != "cuda":
            return load(file, map_location, *args, **kwargs)
        loaded = load(file, "cpu", *args, **kwargs)
        return tree_map_only(Tensor, lambda tensor: tensor.cuda(), loaded)

    return load_to


def _device_context(
    constructors: set[Callable[..., Any]],
    makers: dict[Callable[..., Tensor], Callable[..., Tensor]],
) -> Callable[..., Any]:
    """`with torch.device("cuda")` and `torch.set_default_device`, by the makers above."""

    def torch_function(
        context: DeviceContext, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in constructors and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": context.device}
        return makers.get(func, func)(*args, **kwargs)

    return torch_function


def _mover(device: Callable[[Tensor], torch.device], border: Border) -> Callable[..., Tensor]:
    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if _get_mode(_FAKE) is not None:
            return _Base.to(tensor, *args, **kwargs)
        args, kwargs = _as_device_and_dtype(device, args, kwargs)
        target = _target(args, kwargs)
        if target is None:
            return _Base.to(tensor, *args, **kwargs)
        if target.type == "meta" and device(tensor).type != "meta":
            shape, strides = tensor.shape, tensor.stride()
            return border.make_genuine(torch.empty_strided, shape, strides, dtype=tensor.dtype)
        if target.type == "cuda" and device(tensor).type == "meta":
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")  # as torch
        if target.type == "cuda":
            target = _META  # what C++ has on meta already is not copied, as on CUDA
        if "device" in kwargs:
            return _Base.to(tensor, *args, **{**kwargs, "device": target})
        return _Base.to(tensor, target, *args[1:], **kwargs)

    return to


def _as_device_and_dtype(
    device: Callable[[Tensor], torch.device], args: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    # tensor.to(other) would ask C++ for the device of `other`.
    if args and isinstance(args[0], Tensor):
        return (device(args[0]), args[0].dtype, *args[1:]), kwargs
    if isinstance(kwargs.get("other"), Tensor):
        kwargs = dict(kwargs)
        other = kwargs.pop("other")
        return (device(other), other.dtype, *args), kwargs
    return args, kwargs


def _target(args: Any, kwargs: dict[str, Any]) -> torch.device | None:
    given = kwargs.get("device")
    if args and isinstance(args[0], (str, torch.device, int)):
        given = args[0]
    if given is None:
        return None
    return torch.device("cuda", given) if isinstance(given, int) else torch.device(given)


def _cuda(move: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def cuda(
        tensor: Tensor,
        device: object = None,
        non_blocking: bool = False,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> Tensor:
        return move(tensor, "cuda", non_blocking=non_blocking, memory_format=memory_format)

    return cuda


def _data_setter(is_pretended: IsPretended) -> Callable[[Tensor, Tensor], None]:
    assign = _data.__set__

    def set_data(tensor: Tensor, value: Tensor) -> None:
        if is_pretended(tensor) == is_pretended(value):
            assign(tensor, value)
            return
        # Between devices C++ refuses; on CUDA the tensor keeps its identity and takes the data.
        moved: Tensor = value.detach()
        if isinstance(tensor, Parameter):
            moved = Parameter(moved, tensor.requires_grad)
        else:
            moved.requires_grad_(tensor.requires_grad)
        torch.utils.swap_tensors(tensor, moved)

    return set_data


class _AnyGenerator(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, torch._C.Generator)


class _GeneratorStandIn(metaclass=_AnyGenerator):
    """`torch.Generator(device="cuda")` gives a CPU one: random values are never drawn."""

    def __new__(cls, device: object = "cpu") -> torch._C.Generator:  # type: ignore[misc]  # as torch.Generator is called, another type comes out
        return torch._C.Generator("cpu")
