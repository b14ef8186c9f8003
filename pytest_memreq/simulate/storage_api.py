"""What a storage on the pretended card answers, and tensors of theirs.

FSDP resizes storages behind the dispatcher, and compares their addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from pytest_memreq.replacing import Replacement
from pytest_memreq.simulate.storages import storage_of


class Owner(Protocol):
    """Who keeps account of storages."""

    def is_pretended(self, tensor: Tensor) -> bool:
        """True for a tensor that user code sees on the pretended card."""

    def resize(self, storage: torch.UntypedStorage) -> None:
        """A storage has another size than before."""

    def address_of(self, storage: torch.UntypedStorage) -> int:
        """A number that is a storage's own as long as it has memory on the card, else 0."""


def replacements(owner: Owner) -> Iterator[Replacement]:
    """Every attribute of UntypedStorage and Tensor that is answered anew."""
    yield torch.UntypedStorage, "resize_", _resizer(owner)
    yield torch.UntypedStorage, "data_ptr", _addresser(owner)
    yield Tensor, "data_ptr", _tensor_addresser(owner)
    yield Tensor, "share_memory_", _sharer(owner)


def _addresser(owner: Owner) -> Callable[[torch.UntypedStorage], int]:
    # Code compares addresses to see what shares its memory, and with 0 what has none.
    address = torch.UntypedStorage.data_ptr

    def data_ptr(storage: torch.UntypedStorage) -> int:
        return owner.address_of(storage) or address(storage)

    return data_ptr


def _tensor_addresser(owner: Owner) -> Callable[[Tensor], int]:
    def data_ptr(tensor: Tensor) -> int:
        if not owner.is_pretended(tensor):
            return torch._C.TensorBase.data_ptr(tensor)
        start = owner.address_of(storage_of(tensor))
        return start and start + int(tensor.storage_offset()) * tensor.element_size()

    return data_ptr


def _sharer(owner: Owner) -> Callable[[Tensor], Tensor]:
    share: Callable[[Tensor], Tensor] = Tensor.share_memory_

    def share_memory_(tensor: Tensor) -> Tensor:
        return tensor if owner.is_pretended(tensor) else share(tensor)  # nothing to do on CUDA

    return share_memory_


def _resizer(owner: Owner) -> Callable[[torch.UntypedStorage, int], Any]:
    resize = torch.UntypedStorage.resize_

    def resize_(storage: torch.UntypedStorage, size: int) -> Any:
        result = resize(storage, size)
        if storage.device.type == "meta":
            owner.resize(storage)
        return result

    return resize_
