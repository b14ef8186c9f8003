"""Tensors that are still alive on a device, and who refers to them."""

from __future__ import annotations

import gc
import sys
import types
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch import Tensor

from pytest_memreq import garbage
from pytest_memreq.requirement import Survivor

SHOWN_REFERRERS = 3
FAR = 3  # how many containers up a name is looked for


def storages() -> frozenset[int]:
    """The storages on devices of all tensors that Python can see, by number.

    What only autograd or C++ holds is not among them.
    """
    return frozenset(_on_devices())


def survivors(
    before: Collection[int], source_of: Callable[[Tensor], str | None]
) -> tuple[Survivor, ...]:
    """Tensors whose storage is not among those `before`, the largest first.

    `source_of` says where a tensor was made.
    """
    tensors = [tensor for number, tensor in _on_devices().items() if number not in before]
    counts: Counter[Survivor] = Counter()
    for tensor in tensors:  # a generator's frame would itself refer to them
        counts[_survivor(tensor, source_of(tensor), (tensors,))] += 1
    found = [replace(each, bytes=each.bytes * n, count=n) for each, n in counts.items()]
    return tuple(sorted(found, key=lambda survivor: -survivor.bytes))


def _on_devices() -> dict[int, Tensor]:
    tensors: dict[int, Tensor] = {}
    garbage.look_at_all()
    for each in gc.get_objects():
        # Not isinstance: it asks proxies for their class, which makes some of them work.
        if issubclass(type(each), Tensor) and each.device.type not in ("cpu", "meta"):
            with suppress(NotImplementedError):  # sparse ones have no storage; their parts have
                tensors.setdefault(each.untyped_storage()._cdata, each)
    return tensors


def _survivor(tensor: Tensor, source: str | None, ignored: tuple[Any, ...]) -> Survivor:
    return Survivor(
        bytes=tensor.untyped_storage().nbytes(),
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        source=source,
        referrers=tuple(_names_of(tensor, ignored, FAR))[:SHOWN_REFERRERS],
    )


def _names_of(value: Any, ignored: tuple[Any, ...], far: int) -> list[str]:
    """Who refers to a value: `CACHE of test_x`, `weight of Linear`, `a list, CACHE of test_x`."""
    names: dict[str, None] = {}
    referrers = gc.get_referrers(value)
    ignored = (*ignored, referrers)
    ours = set(map(id, ignored))
    for referrer in referrers:
        if id(referrer) not in ours and not isinstance(referrer, types.FrameType):
            names.update(dict.fromkeys(_names_by(referrer, value, ignored, far)))
    return sorted(names, key=_is_of_no_module)


def _is_of_no_module(name: str) -> bool:
    # Modules first: what else refers to a value, a tool that records calls, say, is no news.
    return name.rpartition(" of ")[2] not in sys.modules


def _names_by(referrer: Any, value: Any, ignored: tuple[Any, ...], far: int) -> list[str]:
    # No closures here: their cells would be among the referrers.
    if isinstance(referrer, dict):
        key = _key_of(referrer, value)
        owner = _owner_of(referrer)
        if owner is not None:
            return [f"{key} of {owner}"]
        return _within(f"[{key!r}] of a dict", referrer, ignored, far)
    if isinstance(referrer, (list, tuple, set)):
        return _within(f"a {type(referrer).__name__}", referrer, ignored, far)
    if isinstance(referrer, types.CellType):
        return ["a closure"]
    return [f"a {type(referrer).__name__}"]


def _key_of(namespace: dict[Any, Any], value: Any) -> Any:
    for key, each in namespace.items():
        if each is value:
            return key
    return "?"


def _within(what: str, container: Any, ignored: tuple[Any, ...], far: int) -> list[str]:
    outer = _names_of(container, ignored, far - 1) if far > 1 else []
    return [f"{what}, {name}" for name in outer] or [what]


def _owner_of(namespace: dict[Any, Any]) -> str | None:
    """The module or object whose namespace a dict is."""
    name = namespace.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is not None and vars(module) is namespace:
        return str(name)
    for each in gc.get_referrers(namespace):
        if getattr(each, "__dict__", None) is namespace:
            return type(each).__name__
    return None
