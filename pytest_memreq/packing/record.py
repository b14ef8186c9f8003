"""A claim as a record of fixed size, for a file that several processes share.

One that was not written whole, or was changed since, is found out by its checksum.
"""

from __future__ import annotations

import struct
from binascii import crc32

from pytest_memreq.packing.ledger import Claim, Sizes
from pytest_memreq.packing.rooms import MOST_CARDS

MOST_BYTES = 2**63 - 1
HEAD = struct.Struct("<IQ")  # checksum of all behind it, ticket
CARD = struct.Struct("<QQQ")  # held, wanted, capacity; a card's place is its number
RECORD_BYTES = HEAD.size + MOST_CARDS * CARD.size


def to_record(claim: Claim) -> bytes:
    """RECORD_BYTES of it; raises ValueError for a card beyond MOST_CARDS, or more than fits."""
    columns = (claim.held, claim.wanted, claim.capacities)
    if any(not _is_fit(sizes) for sizes in columns):
        raise ValueError(f"room on cards 0 to {MOST_CARDS - 1} alone")
    cards = [[sizes.get(card, 0) for sizes in columns] for card in range(MOST_CARDS)]
    body = b"".join(CARD.pack(*card) for card in cards)
    ticket = claim.ticket.to_bytes(8, "little")
    return HEAD.pack(crc32(ticket + body), claim.ticket) + body


def from_record(record: bytes) -> Claim | None:
    """The claim, None for what is none."""
    if len(record) != RECORD_BYTES:
        return None
    checksum, ticket = HEAD.unpack_from(record)
    if crc32(record[4:]) != checksum:
        return None
    held, wanted, capacities = zip(*CARD.iter_unpack(record[HEAD.size :]), strict=True)
    return Claim(
        held=_known(held), wanted=_known(wanted), ticket=ticket, capacities=_known(capacities)
    )


def _is_fit(sizes: Sizes) -> bool:
    return all(0 <= c < MOST_CARDS and 0 <= size <= MOST_BYTES for c, size in sizes.items())


def _known(column: tuple[int, ...]) -> dict[int, int]:
    return {card: size for card, size in enumerate(column) if size}
