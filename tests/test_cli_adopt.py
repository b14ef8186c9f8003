"""`memreq adopt`, from outside: what it finds, what it writes, and what it leaves alone."""

import stat
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.cli import main
from pytest_memreq.cli.adopting.claims import written
from pytest_memreq.units import parse_size

HEAD = """\
import unittest
import pytest
import torch
import torch.cuda as tc
from torch import cuda
from torch.cuda import max_memory_allocated as peak_now

GB = 1024**3
LIMIT = 3 * GB
"""


@pytest.fixture
def adopt(tmp_path, monkeypatch, capsys):
    """(exit code, lines) of `memreq adopt` on the texts of files."""

    def run(*argv, **files):
        monkeypatch.chdir(tmp_path)
        for name, text in files.items():
            path = tmp_path / f"{name}.py"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        code = main(["adopt", *(argv or (".",))])
        printed = capsys.readouterr()
        assert not printed.err
        return code, printed.out.splitlines()

    return run


def content():
    return Path("test_a.py").read_bytes()


def body(*lines, parameters=""):
    return f"{HEAD}\ndef test_it({parameters}):\n" + "".join(f"    {line}\n" for line in lines)


PEAK = "torch.cuda.max_memory_allocated()"


@pytest.mark.parametrize(
    ("lines", "marker"),
    [
        ((f"assert {PEAK} < 12 * 1024**3",), '"12 GiB"'),
        ((f"assert {PEAK} / 2**30 < 12, 'too much'",), '"12 GiB"'),
        ((f"assert {PEAK} <= 12 << 30",), '"12 GiB"'),
        ((f"assert {PEAK} < 2.2e9",), '"2.2 GB"'),
        ((f"assert {PEAK} * 1e-9 < 0.3",), '"300 MB"'),
        ((f"assert {PEAK} // 2**20 < 500",), '"500 MiB"'),
        ((f"assert {PEAK} // 2**20 <= 499",), '"500 MiB"'),
        ((f"assert {PEAK} < 12345",), "12345"),
        ((f"assert {PEAK} + 1024 < 2048",), '"1 KiB"'),
        ((f"assert -{PEAK} > -2048",), '"2 KiB"'),
        (("assert 5 * GB > peak_now()",), '"5 GiB"'),
        (("assert 0 <= peak_now() < LIMIT",), '"3 GiB"'),
        ((f"assert not {PEAK} > LIMIT",), '"3 GiB"'),
        ((f"assert int({PEAK} / 1e6) < 7",), '"7 MB"'),
        (("assert tc.max_memory_reserved() < GB",), 'reserved="1 GiB"'),
        (("assert cuda.memory.max_memory_reserved() < GB",), 'reserved="1 GiB"'),
        (("assert torch.accelerator.max_memory_allocated() < GB",), '"1 GiB"'),
        (('assert tc.memory_stats()["requested_bytes.all.peak"] < GB',), 'requested="1 GiB"'),
        (("peak = peak_now()", "mib = peak / 2**20", "assert mib < 7.5"), '"7.5 MiB"'),
        (("assert (peak := peak_now()) < GB, peak",), '"1 GiB"'),
        (("with torch.no_grad():", "    peak = peak_now()", "assert peak < GB"), '"1 GiB"'),
        (("peak = 0", "peak = peak_now()", "assert peak < GB"), '"1 GiB"'),
        (("a, b = peak_now(), 2", "assert a < b * GB"), '"2 GiB"'),
        (("if peak_now() > GB:", "    pytest.fail('too much')"), '"1 GiB"'),
        (("if peak_now() > GB:", "    raise AssertionError"), '"1 GiB"'),
        (("assert peak_now() < GB", "assert peak_now() <= GB"), '"1 GiB"'),
        (("assert True and peak_now() < GB",), '"1 GiB"'),
        (
            ("assert peak_now() < GB", "assert tc.max_memory_reserved() < LIMIT"),
            '"1 GiB", reserved="3 GiB"',
        ),
        (("from torch.cuda import max_memory_allocated as m", "assert m() < GB"), '"1 GiB"'),
    ],
)
def test_a_limit_becomes_a_marker(adopt, lines, marker):
    code, out = adopt(test_a=body(*lines))
    assert code == 1
    assert f"    @pytest.mark.max_gpu_memory({marker})" in out
    assert "1 marker to add to 1 file, 0 to look at by hand; --write adds them" in out
    code, out = adopt(".", "--write")
    assert (code, out[-1]) == (0, "1 marker added to 1 file, 0 to look at by hand")
    assert f"@pytest.mark.max_gpu_memory({marker})\ndef test_it(" in content().decode()


@pytest.mark.parametrize("test", ["self.assertLess(peak_now(), GB)",
    "self.assertTrue(GB > peak_now())",
    "self.assertGreaterEqual(GB, peak_now())", "self.assertLessEqual(peak_now(), self.most)",
    "self.assertFalse(peak_now() > cls.MOST)"])  # fmt: skip
def test_unittest_has_its_own_words(adopt, test):
    text = (
        f"{HEAD}\nclass TestIt(unittest.TestCase):\n    MOST = GB\n"
        f"    def setUp(self):\n        self.most = GB\n\n    def test_it(self):\n        {test}\n"
    )
    code, out = adopt(test_a=text)
    assert code == 1
    assert "test_a.py:17: TestIt::test_it: " in out[0]
    assert out[1] == '    @pytest.mark.max_gpu_memory("1 GiB")'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((f"assert {PEAK} < limit",), ["limit is not constant"]),
        ((f"assert {PEAK} < f()",), ["f() is not constant"]),
        ((f"assert {PEAK} < GB or True",), ["it is no plain comparison"]),
        ((f"assert check({PEAK})",), ["it is no plain comparison"]),
        ((f"assert abs({PEAK} - GB) < 5",), [f"abs({PEAK} - GB) is not constant"]),
        ((f"assert round({PEAK} / 2**30) < 5",), [f"round({PEAK} / 2 ** 30) is not constant"]),
        ((f"assert {PEAK} > GB",), ["it is a lower bound; a marker has upper limits only"]),
        ((f"assert {PEAK} == GB",), ["it is no limit"]),
        ((f"assert {PEAK} < 0",), ["its limit is no size"]),
        ((f"assert {PEAK} < 1e300",), ["1e+300 is not constant"]),
        ((f"assert {PEAK} < 9**9**9",), ["9 ** 9 ** 9 is not constant"]),
        ((f"assert {PEAK} < 2**64",), ["its limit is no size"]),
        ((f"assert {PEAK} < 1 / 0",), ["1 / 0 is not constant"]),
        (
            ("assert torch.cuda.memory_allocated() < GB",),
            ["memory_allocated is what is held at that line, not a peak"],
        ),
        (
            ("before = tc.memory_allocated()", "assert tc.memory_allocated() <= before"),
            [
                "it compares what is held before and after, which is a leak",
                '@pytest.mark.max_gpu_leak("0 B")',
            ],
        ),
        (
            ("a = tc.memory_allocated()", "b = tc.memory_allocated()", "assert b - a < 1024"),
            [
                "it compares what is held before and after, which is a leak",
                '@pytest.mark.max_gpu_leak("1 KiB")',
            ],
        ),
        (
            ("a = tc.memory_allocated()", "b = tc.memory_allocated()", "assert a == b"),
            [
                "it compares what is held before and after, which is a leak",
                '@pytest.mark.max_gpu_leak("0 B")',
            ],
        ),
        (
            ("start = tc.memory_reserved()", "assert tc.max_memory_reserved() - start < GB"),
            [
                "it compares a peak with what is held",
                '@pytest.mark.max_gpu_memory(reserved="1 GiB"), which leaves out what others left',
            ],
        ),
        (
            ("a = peak_now()", "b = peak_now()", "assert b < 0.8 * a"),
            ["it compares two peaks", "memreq.compare(a, b)"],
        ),
        (
            ("for p in [1]:", "    p = peak_now()", "assert p < GB"),
            None,
        ),
        ((f"assert {PEAK} > 0",), None),
    ],
)
def test_what_is_no_marker_is_listed_with_the_reason(adopt, lines, said):
    text = body(*lines, parameters="limit")
    code, out = adopt("--write", ".", test_a=text)
    assert content().decode() == text
    if said is None:  # what is compared is not known, or says nothing
        assert (code, len(out)) == (0, 1)
        return
    reason, *instead = said
    assert code == 2
    assert out[1] == f"    no marker: {reason}"
    assert out[2:-1] == [f"    instead: {each}" for each in instead]
    assert out[-1] == "0 markers to add to 0 files, 1 to look at by hand"


def test_several_limits_on_one_counter_are_left_to_people(adopt):
    lines = ("p = peak_now()", "assert p < GB", "tc.reset_peak_memory_stats()", "p = peak_now()",
             "assert p < 2 * GB", "assert tc.max_memory_reserved() < GB")  # fmt: skip
    code, out = adopt("--write", ".", test_a=body(*lines))
    assert code == 2
    assert sum("one of several limits" in line for line in out) == 2
    assert '@pytest.mark.max_gpu_memory(reserved="1 GiB")\n' in content().decode()


def test_what_is_in_no_test_is_said_so(adopt):
    text = f"{HEAD}\ndef check():\n    assert peak_now() < GB\n\nassert peak_now() < GB\n"
    code, out = adopt("--write", ".", test_a=text)
    assert code == 2
    assert [line for line in out if "no marker" in line] == [
        "    no marker: it is in no test; mark the tests that come here"
    ] * 2
    assert out[0].startswith("test_a.py:12: check: peak_now() < GB")


def test_other_names_are_other_things(adopt):
    text = (
        "import cupy as torch\ndef test_it():\n    assert torch.cuda.max_memory_allocated() < 5\n"
    )
    assert adopt(test_a=text)[0] == 0


MARKED = [
    "@pytest.mark.max_gpu_memory('1 GiB')\ndef test_it():\n    assert peak_now() < GB\n",
    (
        "pytestmark = [pytest.mark.max_gpu_memory('1 GiB')]\n\n"
        "def test_it():\n    assert peak_now() < GB\n"
    ),
    (
        "@pytest.mark.max_gpu_memory('1 GiB')\nclass TestIt:\n    def test_it(self):\n"
        "        assert peak_now() < GB\n"
    ),
    (
        "class TestIt:\n    pytestmark = pytest.mark.max_gpu_memory('1 GiB')\n\n"
        "    def test_it(self):\n        assert peak_now() < GB\n"
    ),
]


@pytest.mark.parametrize("text", MARKED)
def test_a_test_with_the_marker_is_not_given_another(adopt, text):
    code, out = adopt("--write", ".", test_a=HEAD + text)
    assert (code, out[1]) == (0, "    no marker: the test has max_gpu_memory already")
    assert content().decode() == HEAD + text


TEST = "def test_it():\n    assert torch.cuda.max_memory_allocated() < 2**30\n"
WRITTEN = '@pytest.mark.max_gpu_memory("1 GiB")\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"import torch\n{TEST}", f"import pytest\nimport torch\n{WRITTEN}{TEST}"),
        (
            f'"""Doc."""\n# c\nfrom __future__ import annotations\nimport torch\n{TEST}',
            (
                f'"""Doc."""\n# c\nfrom __future__ import annotations\nimport pytest\n'
                f"import torch\n{WRITTEN}{TEST}"
            ),
        ),
        (
            f"import pytest as pt\nimport torch\n{TEST}",
            f"import pytest as pt\nimport torch\n{WRITTEN.replace('pytest', 'pt')}{TEST}",
        ),
        (
            f"import pytest, torch\n@pytest.mark.slow\n@pytest.mark.x(\n 1)\nasync {TEST}",
            f"import pytest, torch\n{WRITTEN}@pytest.mark.slow\n@pytest.mark.x(\n 1)\nasync {TEST}",
        ),
        (
            f"import pytest, torch\nclass TestIt:\n\t{TEST}".replace("    assert", "\t\tassert"),
            f"import pytest, torch\nclass TestIt:\n\t{WRITTEN}\t{TEST}".replace(
                "    assert", "\t\tassert"
            ),
        ),
        (
            f"import torch; import pytest\nif 1:\n    x = '\x0c'\n{TEST}"[:-1],
            f"import torch; import pytest\nif 1:\n    x = '\x0c'\n{WRITTEN}{TEST}"[:-1],
        ),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_other_byte_stays(adopt, before, after, newline):
    def encoded(text):
        return text.replace("\n", newline).encode()

    code, _ = adopt("--write", ".", test_a=encoded(before))
    assert (code, content()) == (0, encoded(after))
    again, out = adopt("--write", ".")
    assert (again, out[-1]) == (0, "0 markers to add to 0 files, 0 to look at by hand")
    assert content() == encoded(after)


@pytest.mark.parametrize(
    ("start", "encoding"),
    [
        ("\ufeff", "utf-8"),
        ("# -*- coding: latin-1 -*-\n# \xe9\xff\n", "latin-1"),
        ("# coding: shift_jis\n# 表\n", "shift_jis"),
    ],
)
def test_encodings_stay(adopt, start, encoding):
    code, _ = adopt("--write", ".", test_a=f"{start}import torch\n{TEST}".encode(encoding))
    text = f"{start}import pytest\nimport torch\n{WRITTEN}{TEST}"
    assert (code, content()) == (0, text.encode(encoding))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'"""Doc."""; import torch\n{TEST}', "takes no markers: its lines are laid out"),
        (
            f"from __future__ import annotations; import torch\n{TEST}",
            "takes no markers: its lines are laid out",
        ),
        (f"import torch\npytest = 1\n{TEST}", "takes no markers: the name pytest is something"),
        (
            f"import torch\nfrom x import y as pytest\n{TEST}",
            "takes no markers: the name pytest is something",
        ),
        (f"import pytest, torch\n@\\\npytest.mark.x\n{TEST}", "takes no markers: its lines"),
        ("def test_it(:\n", "is not Python: "),
        (b"a = 1\0\n", "is not Python: "),
        (b"# coding: no-such\n", "is not Python: "),
        (b"\xff\xfe\n", "is not Python: "),
        ("x = " + "(" * 5000 + ")" * 5000, "is not Python: "),
        ("x = " + "-" * 100_000 + "1", "is nested too deep to be read"),
        ("import torch\nassert torch.cuda.max_memory_allocated() < 1" + "+1" * 50_000, "is nested"),
        ("#" * (8 * 2**20 + 1), "is larger than 8 MiB"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_a_file_that_cannot_be_marked_is_left_alone(adopt, text, said):
    code, out = adopt("--write", ".", test_a=text)
    assert code == 2
    assert out[0].startswith(f"test_a.py: {said}")
    assert content() == (text if isinstance(text, bytes) else text.encode())


def test_rights_and_links_stay(adopt, tmp_path):
    text = f"import pytest, torch\n{TEST}"
    real = tmp_path / "test_real.py"
    real.write_text(text)
    real.chmod(0o640)
    (tmp_path / "test_link.py").symlink_to(real)
    code, _ = adopt("test_link.py", "--write")
    assert (code, stat.S_IMODE(real.stat().st_mode)) == (0, 0o640)
    assert (tmp_path / "test_link.py").is_symlink()
    assert WRITTEN in real.read_text()


def test_folders_are_searched_but_not_those_of_others(adopt, tmp_path):
    for folder in ("a/b", ".git", "node_modules", "venv"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "test_x.py").write_text(f"import torch\n{TEST}")
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    _, out = adopt()
    assert [line.split(":")[0] for line in out if line.endswith("2 ** 30")] == ["a/b/test_x.py"]


def test_names_of_files_stay_text(adopt, tmp_path):
    (tmp_path / "test_\x1b[31m\n::error::x.py").write_text(f"import torch\n{TEST}")
    _, out = adopt()
    assert len(out) == 3
    assert all(line.isprintable() for line in out)


def test_a_path_that_is_not_there_is_a_usage_error(capsys, tmp_path):
    assert main(["adopt", str(tmp_path / "none")]) == 4
    assert "is no file and no folder; give test files or their folder" in capsys.readouterr().err


def test_what_was_written_is_held_against_the_test(pytester):
    pytester.makepyfile(
        test_a="""
        import torch

        def test_it():
            x = torch.zeros(3 * 2**20, dtype=torch.uint8, device="cuda")
            assert torch.cuda.max_memory_allocated() / 2**20 < 4
        """
    )
    assert main(["adopt", str(pytester.path), "--write"]) == 0
    result = pytester.runpytest("--memreq=simulate", "--memreq-report")
    result.stdout.fnmatch_lines(["within       3.00 MiB of    4.00 MiB *", "1 within"])


@given(st.integers(1, 2**63 - 1) | st.integers(1, 10**6).map(lambda n: n * 2**20))
def test_a_size_is_written_exactly(size_bytes):
    text = written(size_bytes)
    assert parse_size(text.strip('"')) == size_bytes


def test_the_lines_come_in_the_order_of_the_file(adopt):
    text = HEAD + "".join(f"def test_{n}():\n    assert peak_now() < {n}\n" for n in (3, 1, 2))
    _, out = adopt(test_a=text)
    numbers = [int(line.split(":")[1]) for line in out if line.startswith("test_a.py")]
    assert all(a < b for a, b in pairwise(numbers))
