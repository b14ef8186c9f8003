"""One member out of any bytes: its content, None, or one line on what is wrong."""

import contextlib
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.cli.commenting import archive
from pytest_memreq.cli.commenting.archive import read_member
from pytest_memreq.errors import MemreqError
from tests.reports.hostile import NAMES

CONTENT = b'{"format": 1}' * 40


def zipped(members, method=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as packed:
        for name, text in members.items():
            packed.writestr(name, text)
    return content.getvalue()


WHOLE = zipped({"index.html": "<p>" * 99, "memreq.json": CONTENT, "metrics.txt": "# EOF"})


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_member_is_read_whatever_is_beside_it(method):
    beside = {f"a{name}": "x" for name in NAMES if name.isprintable() and len(name) < 2**16}
    assert read_member(zipped({**beside, "memreq.json": CONTENT}, method), "memreq.json") == CONTENT
    assert read_member(zipped(beside, method), "memreq.json") is None


def test_what_packs_as_reports_do_is_no_bomb():
    spaces = b" " * 2**24
    differing = b"".join(
        b'{"nodeid": "test_%d", "peak": %d},\n' % (n, n * 977) for n in range(9999)
    )
    assert read_member(zipped({"memreq.json": differing}), "memreq.json") == differing
    with pytest.raises(MemreqError, match="larger than"):
        read_member(zipped({"memreq.json": spaces}), "memreq.json")


def test_no_more_is_read_than_may_be(monkeypatch):
    monkeypatch.setattr(archive, "MOST_UNPACKED_BYTES", len(CONTENT) - 1)
    with pytest.raises(MemreqError, match="in it is larger than"):
        read_member(WHOLE, "memreq.json")


def test_every_byte_may_be_another():
    for place in range(len(WHOLE)):
        for byte in (0, 1, 0x7F, 0xFF, WHOLE[place] ^ 1):
            _read(WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :])


def test_it_may_end_anywhere():
    for end in range(len(WHOLE)):
        _read(WHOLE[:end])


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_any_part_may_be_anything(noise, start, end):
    _read(WHOLE[:start] + noise + WHOLE[end:])


def _read(content):
    """Raises nothing but MemreqError, and gives nothing but what was packed."""
    with contextlib.suppress(MemreqError):
        assert read_member(content, "memreq.json") in (CONTENT, None)
