"""What ranks on other machines found out, through the store by which torch.distributed meets.

torchrun's is there as long as its agents are, whatever becomes of process groups. One that a script
made itself is there as long as its first rank keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_memreq.errors import MemreqError
from pytest_memreq.reports.reading import MAX_REPORT_BYTES

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch exports it by hand

PIECE_BYTES = 2**20  # torch's TCPStore takes 8 MiB at once (TCPStoreLibUvBackend.cpp)
SECONDS = 20
NEEDED = ("MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE")


class Store:
    """Where a rank's journal is in pieces; how many, is put last."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._address = variables["MASTER_ADDR"]
        self._port = variables["MASTER_PORT"]
        # Ranks that were started anew find what they left before.
        self._attempt = variables.get("TORCHELASTIC_RESTART_COUNT", "0")

    def publish(self, rank: int, content: bytes) -> None:
        """Put a rank's journal there. Raises MemreqError where there is no store."""
        pieces = range(0, len(content), PIECE_BYTES)
        with self._asked() as store:
            for number, start in enumerate(pieces):
                piece = content[start : start + PIECE_BYTES].decode("ascii")
                store.set(self._key(rank, number), piece)
            store.set(self._key(rank, "pieces"), str(len(pieces)))

    def has(self, rank: int) -> bool:
        """True once a rank's journal is there whole. Raises MemreqError where there is no store."""
        with self._asked() as store:
            return store.check([self._key(rank, "pieces")])

    def fetch(self, rank: int) -> bytes:
        """A journal that is there; raises MemreqError for one that is too large, or no store."""
        with self._asked() as store:
            count = int(store.get(self._key(rank, "pieces")))
            if not 0 <= count <= MAX_REPORT_BYTES // PIECE_BYTES:
                raise MemreqError(f"the journal of rank {rank}: is too large")
            return b"".join(store.get(self._key(rank, number)) for number in range(count))

    def _key(self, rank: int, what: object) -> str:
        return f"memreq/{self._attempt}/{rank}/{what}"

    @cached_property
    def _store(self) -> TCPStore:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch exports it by hand

        return TCPStore(
            self._address,
            int(self._port),
            is_master=False,
            timeout=timedelta(seconds=SECONDS),
            wait_for_workers=False,
        )

    @contextmanager
    def _asked(self) -> Iterator[TCPStore]:
        try:
            yield self._store
        except (RuntimeError, ValueError) as error:  # torch's own errors are RuntimeErrors
            said = str(error).partition("\n")[0]
            raise MemreqError(f"the store at {self._address}:{self._port}: {said}") from None


def store_of(variables: Mapping[str, str]) -> Store | None:
    """The store of ranks that are on several machines, None where one has them all."""
    if any(not variables.get(name) for name in NEEDED):
        return None
    is_here = variables["LOCAL_WORLD_SIZE"] == variables.get("WORLD_SIZE")
    return None if is_here else Store(dict(variables))
