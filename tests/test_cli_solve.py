"""`memreq solve`, from outside: its table, its JSON, its exit codes, and Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref

import pytest

from pytest_memreq.cli import main
from pytest_memreq.cli.interrupting import interruptible

CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 1024,
}
WORK = ("c.json", "--seq", "64", "--ranks", "8")
COMMAND = [sys.executable, "-m", "pytest_memreq", "solve"]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    (tmp_path / "c.json").write_text(json.dumps(CONFIG))
    (tmp_path / "deep.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 2000}))
    experts = {**CONFIG, "model_type": "mixtral", "tie_word_embeddings": False}
    (tmp_path / "experts.json").write_text(json.dumps(experts))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """(exit code, lines printed, lines on stderr) of a command line."""

    def run(*argv):
        code = main(["solve", *argv])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def document_of(run, *argv):
    code, out, err = run(*argv, "--json", "--quiet")
    assert err == []
    return code, json.loads("\n".join(out))


def test_all_layouts_are_in_a_table_most_left_over_first(run):
    code, out, err = run(*WORK, "--gpu", "T4", "--finalists", "0", "--rows", "100")
    assert (code, err) == (0, [])
    assert out[0].split()[:6] == ["ZeRO", "Tensor", "Data", "Recompute", "Offload", "Batch"]
    rows = [line.split() for line in out[1:43]]
    assert {row[1] for row in rows} == {"1", "2", "4"}
    assert all(int(row[1]) * int(row[2]) == 8 for row in rows)
    assert out[43] == "left out: tensor=8: kv_heads=4 does not divide by tensor=8"
    assert out[44].startswith("42 of 42 layouts fit Tesla T4; the most is left over with ZeRO-3, ")
    assert out[44].endswith(" (by formula)")


def test_rows_beyond_the_table_are_counted(run):
    _, out, _ = run(*WORK, "--gpu", "T4", "--finalists", "0", "--rows", "2")
    assert out[3] == "and 40 more; --rows shows more, --json all"


def test_json_has_every_layout_and_both_figures(run):
    argv = ("--gpu", "T4", "--zero", "2,3", "--tensor", "1,2", "--offload", "none")
    code, document = document_of(run, *WORK, *argv, "--batch", "1,4", "--finalists", "2")
    assert code == 0
    assert (document["format"], document["status"]) == (1, "complete")
    assert document["asked"] == {"layouts": 16, "finalists": 2}
    assert (document["limit"], document["metric"]) == ("Tesla T4", "reserved")
    rows = document["layouts"]
    assert len(rows) == 16
    assert [row["simulated_bytes"] is not None for row in rows] == [True] * 2 + [False] * 14
    for row in rows:
        needed = row["simulated_bytes"] or row["estimated_bytes"]
        assert row["spare_bytes"] == document["limit_bytes"] - needed
        assert row["samples"] == row["data"] * row["batch"]
    for group in (rows[:2], rows[2:]):
        spare = [row["spare_bytes"] for row in group]
        assert spare == sorted(spare, reverse=True)
    assert all(row["estimated_bytes"] <= rows[2]["estimated_bytes"] for row in rows[:2])


def test_a_row_is_what_estimate_says(run, capsys):
    argv = ("--gpu", "T4", "--zero", "3", "--tensor", "2", "--recompute", "full")
    _, document = document_of(run, *WORK, *argv, "--offload", "cpu", "--finalists", "0")
    words = ("parameters", "gradients", "optimizer_states")
    offload = [word for name in words for word in ("--offload", f"{name}=cpu")]
    main(
        [
            "estimate",
            *WORK,
            "--zero",
            "3",
            "--tensor",
            "2",
            "--recompute",
            "full",
            *offload,
            "--json",
        ]
    )
    estimated = json.loads(capsys.readouterr().out)
    (row,) = document["layouts"]
    assert row["estimated_bytes"] == estimated["total_bytes"]
    assert row["cpu_bytes"] == estimated["cpu_bytes"]


def test_the_best_are_simulated_and_progress_is_said(run):
    code, out, err = run(*WORK, "--gpu", "T4", "--finalists", "1")
    assert code == 0
    assert err == [
        "simulating 1 of 1: ZeRO-3, tensor 4, data 2, recompute full, offload cpu, batch 1"
    ]
    assert out[1].split()[-3].endswith("MiB") or out[1].split()[-3].endswith("GiB")
    assert any(line.startswith("not simulated, ") for line in out)
    assert out[-1].endswith(" (reserved, simulated)")


@pytest.mark.parametrize(
    ("argv", "code", "last"),
    [
        (("--gpu", "T4"), 0, "layouts fit Tesla T4"),
        (("--budget", "1 MiB"), 1, "0 of 42 layouts fit the budget of 1.00 MiB; the best, "),
        # By formula all of ZeRO-3 fits; the one that is simulated does not, and others were not.
        (("--budget", "8 MiB", "--finalists", "1"), 2, "fit the budget of 8.00 MiB"),
        (("--budget", "8 MiB", "--finalists", "0"), 0, "fit the budget of 8.00 MiB"),
    ],
)
def test_exit_code_says_whether_one_fits(run, argv, code, last):
    found, out, _ = run(*WORK, *argv)
    assert found == code
    assert last in out[-1]


def test_experts_are_judged_by_formula_alone_and_it_says_so(run):
    code, out, err = run("experts.json", *WORK[1:], "--gpu", "T4")
    assert (code, err) == (0, [])
    assert "not simulated, 42 of them: experts have no module here" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "the following arguments are required: MODEL; see memreq solve --help"),
        (("c.json", "--seq", "64"), "solve needs to know for what: give --gpu or --budget"),
        (("c.json", "--gpu", "T4"), "activations depend on the tokens of a sample; give --seq"),
        (("7B", "--seq", "64", "--gpu", "T4"), "'7B' is no configuration; how layers divide"),
        (("a:b", "--seq", "64", "--gpu", "T4"), "'a:b' is no configuration; how layers divide"),
        ((*WORK, "--gpu", "T4", "--zero", "2;3"), "--zero '2;3' is no list of whole numbers"),
        ((*WORK, "--gpu", "T4", "--zero", "2,"), "--zero '2,' is no list of whole numbers"),
        ((*WORK, "--gpu", "T4", "--zero", "4"), "zero=4 is no ZeRO stage"),
        ((*WORK, "--gpu", "T4", "--tensor", "8"), "kv_heads=4 does not divide by tensor=8"),
        ((*WORK, "--gpu", "T4", "--tensor", "3"), "ranks=8 does not divide by tensor=3"),
        ((*WORK, "--gpu", "T4", "--offload", "nvme"), "offload='nvme' is not known; write one of"),
        ((*WORK, "--gpu", "T4", "--recompute", "half"), "recompute='half' is not known"),
        ((*WORK, "--gpu", "T4", "--batch", "0"), "batch=0 is not a whole number of 1 or more"),
        ((*WORK, "--gpu", "T4", "--finalists", "-1"), "--finalists=-1 is not a whole number"),
        ((*WORK, "--gpu", "T4", "--rows", "0"), "--rows=0 is not a whole number of 1 or more"),
        ((*WORK, "--gpu", "T4", "--optimizer", "x"), "optimizer='x' is not known"),
        ((*WORK, "--gpu", "T4", "--zero", "0", "--offload", "cpu"), "no layout is left"),
        (("c.json", "--seq", "0", "--gpu", "T4"), "sequence_length=0 is not a whole number"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_4(run, argv, said):
    code, out, err = run(*argv)
    assert (code, out, len(err)) == (4, [], 1)
    assert err[0].startswith("memreq: ")
    assert said in err[0]


def test_by_formula_alone_it_needs_no_torch():
    argv = [sys.executable, "-X", "importtime", *COMMAND[1:], *WORK, "--gpu", "T4"]
    done = subprocess.run(
        [*argv, "--finalists", "0"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pytest_memreq.layouts.finalists" in imported
    assert "torch" not in imported


# Ctrl-C


def interrupted(*argv, at):
    """(exit code, JSON) of a command that gets SIGINT once it says what matches."""
    process = subprocess.Popen(
        [*COMMAND, *argv, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if re.search(at, line):
            time.sleep(0.3)  # into the work that the line announced
            process.send_signal(signal.SIGINT)
            break
    out, _ = process.communicate(timeout=60)
    return process.returncode, json.loads(out)


@pytest.mark.parametrize("at", ["simulating 1 of 3", "operators"], ids=("importing", "at work"))
def test_interrupted_while_simulating_it_gives_what_it_has(at):
    code, document = interrupted("deep.json", *WORK[1:], "--gpu", "T4", "--zero", "3", at=at)
    assert (code, document["status"]) == (2, "incomplete")
    assert document["asked"]["finalists"] == 3
    assert len(document["layouts"]) == document["asked"]["layouts"]
    assert all(row["simulated_bytes"] is None for row in document["layouts"])


def test_interrupted_while_judging_it_gives_the_layouts_so_far():
    batches = ",".join(map(str, range(1, 3000)))
    code, document = interrupted(*WORK, "--gpu", "T4", "--batch", batches, at="layouts by formula")
    assert (code, document["status"]) == (2, "incomplete")
    assert 0 < len(document["layouts"]) < document["asked"]["layouts"] == 42 * 2999


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_the_work_and_no_more():
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as interruption:
        interrupt()
        pytest.fail("went on")
    assert interruption.was_heard
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_a_callback_is_not_lost():
    class Thing:
        pass

    with interruptible() as interruption:
        thing = Thing()
        reference = weakref.ref(thing, lambda _: interrupt())
        del thing  # python says what the callback raised, and goes on
        interruption.check()
        pytest.fail("went on")
    assert interruption.was_heard
    assert reference() is None


def test_what_others_make_of_ctrl_c_is_not_raised():
    with interruptible() as interruption:
        try:
            interrupt()
        except KeyboardInterrupt as error:
            raise ImportError("broken off") from error
    assert interruption.was_heard


def test_other_errors_are_raised():
    with pytest.raises(KeyError), interruptible():
        raise KeyError("mine")
