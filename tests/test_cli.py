"""The command, from outside: what it prints, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_memreq.cli import main
from pytest_memreq.estimate import Parallelism, estimate
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

class Masked(nn.Module):
    def forward(self, x, *, mask):
        return nn.functional.relu(x) * mask

masked = Masked()
"""
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 4,
    "vocab_size": 256,
}
FILES = {
    "c.json": json.dumps(CONFIG),
    "broken.json": "{",
    "deep.json": "[" * 100_000,
    "list.json": "[]",
    "large.json": '"' + "x" * 2**20 + '"',
    "other.json": '{"model_type": "bert"}',
    "gpt2/config.json": '{"model_type": "gpt2"}',
}


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module in the working directory, which is not on the path."""
    (tmp_path / "nets_for_cli.py").write_text(NETS)
    (tmp_path / "gpt2").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
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
        "175,000,000,000 parameters",
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
    assert document["parameter_elements"] == 30
    assert (document["cpu_bytes"], document["nvme_bytes"]) == (4, 0)
    assert [share["ranks"] for share in document["ranks"]] == [1]
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
        (
            ("estimate", "61M", "--batch-size", "0"),
            "batch_size=0 is not a whole number of 1 or more",
        ),
        (("estimate", "61M", "--input", "1,3"), "--input is for a module; '61M' is read as"),
        (("estimate", "61M", "--budget", "5 MBps"), "'5 MBps' is not a limit"),
        (("estimate", "61M", "--budget", "80%"), "--budget 80% is a share of a card; say which"),
        (("estimate", "61M", "--gpu", "A100"), "'A100' may be any of"),
        (("estimate", ":net"), "':net' names no model; write package.module:factory"),
        (("estimate", "no_such_module:net"), "ModuleNotFoundError: No module named"),
        (("estimate", "{nets}:missing"), "AttributeError"),
        (("estimate", "{nets}:number"), "gave a int; it must give an nn.Module"),
        (("estimate", "{nets}:wrong"), "could not be loaded: OSError: no weights here"),
        (("estimate", "{nets}:leaves"), "could not be loaded: SystemExit: 0"),
        (("estimate", "{nets}:number_of"), "number_of gave a int; it must give an nn.Module"),
        (("estimate", "{nets}:net", "--input", "1x4"), "--input '1x4' is not a shape; write 1,3"),
        (("estimate", "{nets}:net", "--input", "0,4"), "is not a shape"),
        (("estimate", "{nets}:net", "--input", "1,4:nn"), "is not a shape"),
        (("estimate", "{nets}:net", "--input", "9" * 12 + ",99999999"), "more than 2^60 elements"),
        (("estimate", "{nets}:net", "--input", "1,5"), "Net does not run on these inputs"),
        (("estimate", "{nets}:masked", "--input", "ma sk=1,4"), "Masked does not run on these"),
        (("estimate", "1B", "--optimizer", "lion"), "optimizer='lion' is not known; write one of"),
        (("estimate", "1B", "--precision", "int8"), "precision='int8' is not known; write one of"),
        (("estimate", "1B", "--ranks", "0"), "ranks=0 is not a whole number of 1 or more"),
        (("estimate", "1B", "--tensor", "2"), "tensor divides or changes layers that only a"),
        (("estimate", "1B", "--zero", "5"), "zero=5 is no ZeRO stage"),
        (("estimate", "1B", "--offload", "gradients"), "'gradients' says not where; write opt"),
        (("estimate", "1B", "--offload", "gradients=tape"), "gradients='tape' is not known; write"),
        (("estimate", "c.json", "--pipeline", "2", "--stages", "1;1"), "'1;1' are no layers"),
        (
            ("estimate", "c.json", "--ranks", "6", "--tensor", "4"),
            "ranks=6 does not divide by tens",
        ),
        (("estimate", "c.json", "--input", "1,4"), "'c.json' is read as a configuration; give --s"),
        (("estimate", "missing.json"), "missing.json: is not there"),
        (("estimate", "broken.json"), "broken.json is not JSON: Expecting"),
        (("estimate", "deep.json"), "deep.json is not JSON: nested too deep"),
        (("estimate", "list.json"), "list.json holds a list, no configuration"),
        (("estimate", "large.json"), "large.json: is larger than 1.00 MiB"),
        (("estimate", "other.json"), "model_type 'bert' is not known; known are gpt2,"),
        (
            ("estimate", "c.json", "--solve", "batch"),
            "--solve needs to know for what: give --budget",
        ),
        (("estimate", "c.json", "--solve", "x", "--budget", "1 GB"), "--solve='x' is not known"),
        (
            ("estimate", "c.json", "--solve", "batch", "--budget", "1 GB"),
            "activations are not known",
        ),
        (("estimate", "--solve", "batch", "--budget", "1 GB"), "--solve batch needs a MODEL"),
        (("estimate", "1B", "--solve", "parameters", "--gpu", "T4"), "is without a MODEL"),
        (("estimate", "1B", "--solve", "sequence", "--gpu", "T4"), "is for a configuration; a mod"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_4(nets, run, argv, said):
    code, out, err = run(*(word.format(nets=nets) for word in argv))
    assert (code, out, len(err)) == (4, [], 1)
    assert err[0].startswith("memreq: ")
    assert said in err[0]


def estimated(run, *argv):
    """The JSON printed."""
    code, out, err = run("estimate", *argv, "--json")
    assert err == []
    return code, json.loads("\n".join(out))


def test_an_input_may_be_for_a_keyword(nets, run):
    code, document = estimated(run, f"{nets}:masked", "--input", "2,4", "--input", "mask=2,4:bool")
    assert code == 0
    assert document["breakdown"]["activations_bytes"] == 4 * 3 * 4


def test_a_configuration_is_estimated_as_it_would_be_in_python(nets, run):
    argv = ("c.json", "--batch", "2", "--seq", "32", "--optimizer", "sgd", "--precision", "bf16")
    code, document = estimated(run, *argv, "--recompute", "full")
    needed = estimate(
        CONFIG,
        batch_size=2,
        sequence_length=32,
        optimizer="sgd",
        precision="bf16",
        recompute="full",
    )
    assert code == 0
    assert document["total_bytes"] == needed.total_bytes
    assert document["parameter_elements"] == needed.parameter_elements


def test_a_folder_stands_for_its_configuration(nets, run):
    assert estimated(run, "gpt2")[1]["parameter_elements"] == 124_439_808


def test_ranks_are_listed_worst_first(nets, run):
    argv = ("c.json", "--seq", "32", "--ranks", "24", "--tensor", "2", "--sequence-parallel")
    more = ("--pipeline", "3", "--stages", "1,2,1", "--zero", "1", "--microbatches", "2")
    code, document = estimated(run, *argv, *more)
    needed = estimate(
        CONFIG,
        sequence_length=32,
        parallelism=Parallelism(
            data=4,
            tensor=2,
            sequence=True,
            pipeline=3,
            stages=(1, 2, 1),
            zero=1,
            microbatches=2,
        ),
    )
    assert code == 0
    shares = [(s["stage"], s["ranks"], s["total_bytes"]) for s in document["ranks"]]
    assert shares == [(s.stage, s.ranks, s.total_bytes) for s in needed.ranks]
    assert sum(ranks for _, ranks, _ in shares) == 24
    code, out, _ = run("estimate", *argv, *more)
    assert out[0].split() == ["Ranks", "Stage", "Device", "CPU", "NVMe"]
    assert len(out[1 : out.index("")]) == len(shares)
    assert out[out.index("") + 1] == "205,376 parameters on 24 ranks; the worst one needs"


def test_offloaded_words_are_shown_beside_the_device(run):
    argv = ("estimate", "1B", "--zero", "3", "--ranks", "4", "--shard", "2")
    code, out, _ = run(*argv, "--offload", "parameters=nvme", "--offload", "gradients=cpu")
    assert code == 0
    assert [line.split() for line in out if line.startswith("on ")] == [
        ["on", "the", "CPU", "1,000,000,000", "B", "953.67", "MiB"],
        ["on", "NVMe", "1,000,000,000", "B", "953.67", "MiB"],
    ]


def test_experts_are_spread(nets, run):
    mixtral = {**CONFIG, "model_type": "mixtral"}
    Path("c.json").write_text(json.dumps(mixtral))
    one, two = (estimated(run, "c.json", "--ranks", "2", "--expert", n)[1] for n in "12")
    assert two["total_bytes"] < one["total_bytes"]


@pytest.mark.parametrize(
    ("argv", "last"),
    [
        (
            ("c.json", "--seq", "32", "--solve", "batch", "--budget", "8 MiB"),
            "the largest batch that fits the budget of 8.00 MiB: ",
        ),
        (
            ("c.json", "--solve", "sequence", "--gpu", "T4", "--budget", "8 MiB"),
            "the largest sequence that fits the budget of 8.00 MiB: ",
        ),
        (
            ("{nets}:net", "--input", "1,4", "--solve", "batch", "--budget", "1000"),
            "the largest batch that fits the budget of 1000 B: 6, 16 B to spare",
        ),
        (
            ("--solve", "parameters", "--budget", "1999"),
            "the largest parameter count that fits the budget of 1.95 KiB: 99, 19 B to spare",
        ),
        (
            ("gpt2", "--solve", "sequence", "--gpu", "H200"),
            "the largest sequence that fits NVIDIA H200: 1,024, ",
        ),
    ],
)
def test_the_largest_that_fits(nets, run, argv, last):
    code, out, err = run("estimate", *(word.format(nets=nets) for word in argv))
    assert (code, err) == (0, [])
    assert out[-1].startswith(last)


def test_one_more_than_the_largest_does_not_fit(nets, run):
    argv = ("c.json", "--seq", "32", "--budget", "8 MiB")
    _, document = estimated(run, *argv, "--solve", "batch")
    batch = document["solution"]["value"]
    assert document["solution"]["needed_bytes"] == document["total_bytes"]
    assert estimated(run, *argv, "--batch", str(batch))[0] == 0
    assert estimated(run, *argv, "--batch", str(batch + 1))[0] == 1


def test_where_not_even_one_fits_the_code_is_1(nets, run):
    argv = ("estimate", "c.json", "--seq", "32", "--solve", "batch", "--budget", "1 MiB")
    code, out, _ = run(*argv)
    assert code == 1
    assert out[-1].startswith("not even a batch of 1 fits the budget of 1.00 MiB: ")


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
