"""The command, from outside: what it prints, and its exit codes."""

import json
import subprocess
import sys

import pytest

from pytest_memreq.cli import main
from pytest_memreq.simulate.cards import CARDS
from tests.estimate import alexnet

NETS = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 6), nn.ReLU())

net = Net()
words = nn.Sequential(nn.Embedding(10, 3))
number = 3

class Zoo:
    net = staticmethod(Net)

def wrong():
    raise OSError("no weights\\nhere")

def leaves():
    raise SystemExit(0)

def number_of():
    return 7
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module in the working directory, which is not on the path."""
    (tmp_path / "nets_for_cli.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield "nets_for_cli"
    sys.modules.pop("nets_for_cli", None)


@pytest.fixture
def run(capsys):
    """(exit code, lines printed, lines on stderr) of a command line."""

    def run(*argv):
        code = main(list(argv))
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


UNKNOWN = ("activations", "buffers", "inputs", "temporaries", "workspaces", "context", "other")


def test_a_parameter_count_is_summed(run):
    code, out, err = run("estimate", "175B")
    assert (code, err) == (0, [])
    assert out == [
        "parameters          350,000,000,000 B  325.96 GiB",
        "gradients           350,000,000,000 B  325.96 GiB",
        "optimizer_states  2,800,000,000,000 B    2.55 TiB",
        "total             3,500,000,000,000 B    3.18 TiB",
        f"not known, to be added: {', '.join(UNKNOWN)}",
    ]


def test_alexnets_table_and_sum_are_printed(run):
    code, out, _ = run("estimate", "tests.estimate.alexnet:one_tower", "--input", "1,3,227,227")
    assert code == 0
    cells = [line.split() for line in out]
    for row, (name, shape, activations, weights, biases) in zip(
        cells[1:], alexnet.TABLE, strict=False
    ):
        numbers = (activations, weights, biases, weights + biases)
        assert (row[0], row[2:]) == (
            name,
            ["x".join(map(str, shape)), *map("{:,}".format, numbers)],
        )
    total = cells[1 + len(alexnet.TABLE)]
    assert (total[0], total[1], total[-1]) == ("Total", "936,323", "62,378,344")
    assert "1,251,312,172 B" in next(line for line in out if line.startswith("total"))


@pytest.mark.parametrize("factory", ["net", "Net", "Zoo.net"])
def test_a_model_may_be_an_instance_a_class_or_a_function(nets, run, factory):
    code, out, _ = run("estimate", f"{nets}:{factory}", "--input", "2,4", "--json")
    assert code == 0
    assert json.loads(out and "\n".join(out))["total_bytes"] == 20 * 30 + 4 * (4 + 6 + 6)


def test_json_has_sum_breakdown_layers_and_fits(nets, run):
    argv = ("estimate", f"{nets}:words", "--input", "1,5:int64", "--batch-size", "3")
    code, out, _ = run(*argv, "--budget", "839", "--json")
    document = json.loads("\n".join(out))
    assert code == 1
    assert document["total_bytes"] == 20 * 30 + 3 * 4 * (5 + 15)
    assert document["breakdown"]["activations_bytes"] == 3 * 4 * (5 + 15)
    assert document["breakdown"]["context_bytes"] is None
    assert document["layers"][1] == {
        "name": "0",
        "kind": "Embedding",
        "output_shape": [5, 3],
        "activation_elements": 15,
        "weight_elements": 30,
        "bias_elements": 0,
        "parameter_elements": 30,
    }
    assert document["fits"] == [
        {"limit": "the budget of 839 B", "limit_bytes": 839, "spare_bytes": -1, "fits": False}
    ]


NEEDED_BYTES = 20 * 30 + 4 * (4 + 6 + 6)
NET = ("estimate", "{nets}:net", "--input", "1,4")


@pytest.mark.parametrize(
    ("argv", "code", "last"),
    [
        ((*NET, "--budget", str(NEEDED_BYTES)), 0, "fits the budget of 664 B: 0 B to spare"),
        ((*NET, "--budget", str(NEEDED_BYTES - 1)), 1, "exceeds the budget of 663 B by 1 B"),
        ((*NET, "--gpu", "a10g"), 0, "fits NVIDIA A10G: 22.06 GiB to spare"),
        (
            (*NET, "--gpu", "A10G", "--budget", "50%"),
            0,
            "fits the budget of 50%: 11.03 GiB to spare",
        ),
        (("estimate", "175B", "--gpu", "H200"), 1, "exceeds NVIDIA H200 by 3.05 TiB"),
        (("estimate", "1K", "--budget", "19 KB"), 1, "exceeds the budget of 18.55 KiB by 1000 B"),
        (
            ("estimate", "1K", "--budget", "1 MiB"),
            2,
            "cannot tell whether it fits the budget of 1.00 MiB: 1004.47 KiB are left for",
        ),
        (("estimate", "2B", "--gpu", "T4", "--budget", "1 TiB"), 1, "cannot tell"),
    ],
)
def test_exit_code_says_whether_it_fits(nets, run, argv, code, last):
    found, out, err = run(*(word.format(nets=nets) for word in argv))
    assert (found, err) == (code, [])
    assert out[-1].startswith(last)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "the following arguments are required: COMMAND; see memreq --help"),
        (("shrink",), "invalid choice: 'shrink'"),
        (("estimate",), "the following arguments are required: MODEL"),
        (("estimate", "61M", "--frobnicate"), "unrecognized arguments: --frobnicate"),
        (("estimate", "abc"), "'abc' is not a parameter count"),
        (("estimate", "abc"), "or, for a model, package.module:factory"),
        (("estimate", "61M", "--batch-size", "x"), "invalid int value: 'x'"),
        (("estimate", "61M", "--batch-size", "0"), "batch_size=0 is not a whole number above 0"),
        (("estimate", "61M", "--input", "1,3"), "--input is for a model; '61M' is read as"),
        (("estimate", "61M", "--budget", "5 MBps"), "'5 MBps' is not a limit"),
        (("estimate", "61M", "--budget", "80%"), "--budget 80% is a share of a card; say which"),
        (("estimate", "61M", "--gpu", "A100"), "'A100' may be any of"),
        (("estimate", ":net"), "':net' names no model; write package.module:factory"),
        (("estimate", "no_such_module:net"), "ModuleNotFoundError: No module named"),
        (("estimate", "{nets}:missing"), "AttributeError"),
        (("estimate", "{nets}:number"), "TypeError: 'int' object is not callable"),
        (("estimate", "{nets}:wrong"), "could not be loaded: OSError: no weights here"),
        (("estimate", "{nets}:leaves"), "could not be loaded: SystemExit: 0"),
        (("estimate", "{nets}:number_of"), "number_of gave a int; it must give an nn.Module"),
        (("estimate", "{nets}:net", "--input", "1x4"), "--input '1x4' is not a shape; write 1,3"),
        (("estimate", "{nets}:net", "--input", "0,4"), "is not a shape"),
        (("estimate", "{nets}:net", "--input", "1,4:nn"), "is not a shape"),
        (("estimate", "{nets}:net", "--input", "9" * 12 + ",99999999"), "more than 2^60 elements"),
        (("estimate", "{nets}:net", "--input", "1,5"), "Net does not run on these inputs"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_4(nets, run, argv, said):
    code, out, err = run(*(word.format(nets=nets) for word in argv))
    assert (code, out, len(err)) == (4, [], 1)
    assert err[0].startswith("memreq: ")
    assert said in err[0]


def test_gpus_lists_every_card_with_its_source(run):
    code, out, _ = run("gpus")
    assert code == 0
    assert len(out) == 1 + len(CARDS)
    for line, card in zip(out[1:], CARDS.values(), strict=True):
        assert line.startswith(card.name)
        assert line.endswith(card.source)
        assert f"{card.capacity_bytes:,}" in line


def test_as_a_module_it_runs_without_torch_and_returns_the_exit_code():
    """Importing torch takes seconds; a parameter count needs none of it."""
    argv = [sys.executable, "-X", "importtime", "-m", "pytest_memreq", "estimate", "1B"]
    done = subprocess.run(
        [*argv, "--budget", "1 GiB"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "exceeds the budget of 1.00 GiB by 17.63 GiB" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pytest_memreq.cli" in imported
    assert "torch" not in imported
