"""One file out of a zip that anybody may have made; nothing is unpacked to disk."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib

from pytest_memreq.errors import MemreqError
from pytest_memreq.units import format_size

MOST_MEMBERS = 10_000
MOST_UNPACKED_BYTES = 128 * 2**20  # ten thousand tests, each with forty sites
MOST_RATIO = 400  # ten thousand tests with the same figures packed to a 145th
RATIO_FROM_BYTES = 2**20  # below that, no ratio does harm
CHUNK_BYTES = 64 * 2**10

_DIRECTORY_ENTRY = b"PK\x01\x02"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MALFORMED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError),  # zipfile's own, for what it does not do
)


def read_member(content: bytes, name: str) -> bytes | None:
    """The member of that name at the top of a zip, None where there is none.

    What is read is counted while it is read, whatever the zip says of its size. Raises MemreqError
    for a zip that is malformed, not of our making, or larger inside than a report is.
    """
    # Before zipfile makes an object of each entry; every entry has this signature.
    if content.count(_DIRECTORY_ENTRY) > MOST_MEMBERS:
        raise MemreqError(f"has more than {MOST_MEMBERS:,} members")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = _only(archive, name)
            return None if member is None else _counted(archive, member)
    except _MALFORMED as error:
        raise MemreqError(f"is no zip that can be read: {error}") from None


def _only(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    found = [member for member in archive.infolist() if member.filename == name]
    if len(found) > 1:
        raise MemreqError(f"has {name} {len(found)} times")
    for member in found:
        _refuse_what_we_do_not_make(member)
    return found[0] if found else None


def _refuse_what_we_do_not_make(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):  # 0: made where files have no such modes
        raise MemreqError(f"{member.filename} in it is not a plain file")
    if member.flag_bits & 1 or member.compress_type not in _METHODS:
        raise MemreqError(f"{member.filename} in it is encrypted or packed in an unusual way")


def _counted(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    most_by_ratio = max(member.compress_size * MOST_RATIO, RATIO_FROM_BYTES)
    most_bytes = min(MOST_UNPACKED_BYTES, most_by_ratio)
    read = bytearray()
    with archive.open(member) as file:
        while chunk := file.read(CHUNK_BYTES):
            read += chunk
            if len(read) > most_bytes:
                raise MemreqError(
                    f"{member.filename} in it is larger than {format_size(most_bytes)}, "
                    f"the most for {format_size(member.compress_size)} packed"
                )
    return bytes(read)
