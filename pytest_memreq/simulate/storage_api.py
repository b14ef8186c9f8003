"""What `torch.UntypedStorage` answers for a storage on the pretended card.

FSDP resizes storages behind the dispatcher, and compares their addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from pytest_memreq.replacing import Replacement


class Owner(Protocol):
    """Who keeps account of storages."""

    def resize(self, storage: torch.UntypedStorage) -> None:
        """A storage has another size than before."""

    def address_of(self, storage: torch.UntypedStorage) -> int:
        """A number that is a storage's own as long as it has memory on the card, else 0."""


def replacements(owner: Owner) -> Iterator[Replacement]:
    """Every attribute of UntypedStorage that is answered anew."""
    yield torch.UntypedStorage, "resize_", _resizer(owner)
    yield torch.UntypedStorage, "data_ptr", _addresser(owner)


def _addresser(owner: Owner) -> Callable[[torch.UntypedStorage], int]:
    # Code compares addresses to see what shares its memory, and with 0 what has none.
    address = torch.UntypedStorage.data_ptr

    def data_ptr(storage: torch.UntypedStorage) -> int:
        return owner.address_of(storage) or address(storage)

    return data_ptr


def _resizer(owner: Owner) -> Callable[[torch.UntypedStorage, int], Any]:
    resize = torch.UntypedStorage.resize_

    def resize_(storage: torch.UntypedStorage, size: int) -> Any:
        result = resize(storage, size)
        if storage.device.type == "meta":
            owner.resize(storage)
        return result

    return resize_
