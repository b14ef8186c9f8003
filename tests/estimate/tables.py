"""The tables of docs/formulas.md, computed; `python -m tests.estimate.tables` writes them there."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from example_project.models.alexnet import AlexNet, two_towers
from example_project.models.coatnet import coatnet_7
from example_project.models.gpt import gpt_3
from pytest_memreq.estimate import Parallelism, estimate, zero_infinity
from pytest_memreq.estimate.activations import Work, block_bytes
from pytest_memreq.estimate.optimizers import optimizer_of
from pytest_memreq.estimate.precisions import PRECISIONS
from tests.estimate import alexnet
from tests.estimate.test_activations import TOKENS, model_of
from tests.estimate.test_optimizers import NOT_OF_TORCH, REAL
from tests.estimate.test_parallelism import TABLE_1
from tests.estimate.test_transformer import COUNTS
from tests.estimate.test_zero_infinity import FIGURE_2A

DOCUMENT = Path(__file__).parents[2] / "docs" / "formulas.md"
Rows = Iterable[Iterable[object]]


def the_20_bytes() -> Rows:
    mixed = PRECISIONS["mixed"]
    yield "term", "bytes per parameter"
    yield "parameters", mixed.parameter_bytes
    yield "gradients", mixed.gradient_bytes
    for copy in mixed.copies:
        yield f"optimizer_states: {copy} copy", mixed.state_bytes
    for state in ("momentum (exp_avg)", "variance (exp_avg_sq)"):
        yield f"optimizer_states: {state}", mixed.state_bytes
    yield "total", estimate(1).total_bytes


def precisions() -> Rows:
    yield (
        "precision",
        "parameters",
        "gradients",
        "copies",
        "a state",
        "casts",
        "sum with Adam",
        "sum with SGD",
    )
    for name, row in PRECISIONS.items():
        copies = f"{len(row.copies)} x {row.state_bytes}" if row.copies else ""
        sums = (estimate(1, precision=name, optimizer=o).total_bytes for o in ("adam", "sgd"))
        held = (row.parameter_bytes, row.gradient_bytes, copies, row.state_bytes)
        yield f"`{name}`", *held, row.cast_bytes or "", *sums


def optimizers() -> Rows:
    yield "optimizer", "keeps of each parameter", "bytes of a 1024 x 1024 parameter, over 2^20"
    for written in (*REAL, "lbfgs", *NOT_OF_TORCH):
        if "Adam" in written or "fused" in written or written in ("adamw", "adamw8bit"):
            continue
        states = optimizer_of(written).states
        sizes = [(s.elements((1024, 1024)) * (s.element_bytes or 4), s) for s in states]
        names = [
            f"{state.name} (host)" if state.tier == "cpu" else state.name
            for size, state in sizes
            if size
        ]
        on_device = sum(size for size, state in sizes if state.tier == "device")
        yield f"`{written.replace('_', '')}`", ", ".join(names), f"{on_device / 2**20:.4g}"


def alexnet_layers() -> Rows:
    with torch.device("meta"):
        needed = estimate(alexnet.one_tower(), torch.empty(1, 3, 227, 227))
    yield "Layer", "Output", "Activations", "Weights", "Biases", "Parameters"
    for row in needed.layers:
        numbers = (row.activation_elements, row.weight_elements, row.bias_elements)
        shape = "x".join(map(str, row.output_shape))
        yield row.name, shape, *map("{:,}".format, (*numbers, row.parameter_elements))
    activations = sum(row.activation_elements for row in needed.layers)
    yield "Total", "", f"{activations:,}", "", "", f"{needed.parameter_elements:,}"


def alexnet_sum() -> Rows:
    with torch.device("meta"):
        needed = estimate(alexnet.one_tower(), torch.empty(1, 3, 227, 227))
    yield "term", "bytes"
    for word, count, factor in (
        ("parameters", alexnet.PARAMETERS, 2),
        ("gradients", alexnet.PARAMETERS, 2),
        ("optimizer_states", alexnet.PARAMETERS, 16),
        ("activations", alexnet.ACTIVATIONS, 4),
    ):
        size = getattr(needed.breakdown, f"{word}_bytes")
        yield f"{word}: {count:,} x {factor}", f"{size:,}"
    yield "total", f"{needed.total_bytes:,}"


def examples() -> Rows:
    yield "model", "parameters", "x 20 bytes"
    with torch.device("meta"):
        modules = {
            "AlexNet, one tower": AlexNet(),
            "AlexNet, two towers as published": two_towers(),
            "CoAtNet-7 for 512 x 512": coatnet_7(),
            "GPT-3": gpt_3(),
        }
    for name, count in (("AlexNet", "61M"), ("CoAtNet-7", "2440M"), ("GPT-3", "175B")):
        yield f"{name}, by its number", count, decimal(estimate(count).total_bytes)
    for name, module in modules.items():
        needed = estimate(module)
        states = needed.total_bytes - (needed.breakdown.buffers_bytes or 0)
        yield f"{name}, as a module", f"{needed.parameter_elements:,}", decimal(states)


def decimal(size: int) -> str:
    for unit, name in ((10**12, "TB"), (10**9, "GB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    raise ValueError(size)


def transformers() -> Rows:
    yield "model", "layers", "hidden", "heads (of keys)", "parameters"
    for name, (model, count) in COUNTS.items():
        shape = (model.layers, model.hidden, f"{model.heads} ({model.key_heads})")
        yield name, *shape, f"{count:,}"


def recomputation() -> Rows:
    yield "setting", "bytes of a layer", "GPT-3, t = 8, MiB"
    for setting, formula, degrees, recompute in (
        ("alone", "s b h (34 + 5 a s / h)", Parallelism(), "none"),
        ("tensor", "s b h (10 + 24/t + 5 a s / (h t))", Parallelism(tensor=8), "none"),
        (
            "tensor, sequence",
            "s b h / t (34 + 5 a s / h)",
            Parallelism(tensor=8, sequence=True),
            "none",
        ),
        ("tensor, selective", "s b h (10 + 24/t)", Parallelism(tensor=8), "selective"),
        (
            "tensor, sequence, selective",
            "34 s b h / t",
            Parallelism(tensor=8, sequence=True),
            "selective",
        ),
        ("full", "2 s b h", Parallelism(), "full"),
    ):
        work = Work(sequences=1, tokens=TOKENS, compute_bytes=2, recompute=recompute)
        yield setting, formula, f"{block_bytes(model_of('175B'), work, degrees) / 2**20:.0f}"


def zero() -> Rows:
    yield "ranks", "stage 1", "stage 2", "stage 3"
    for ranks in TABLE_1:
        sizes = [
            estimate(
                "7.5B",
                precision="mixed_half_gradients",
                parallelism=Parallelism(data=ranks, zero=stage),
            ).total_bytes
            for stage in (1, 2, 3)
        ]
        yield ranks, *(f"{size / 1e9:.4g}" for size in sizes)


def figure_2a() -> Rows:
    yield (
        "layers, hidden, heads",
        "parameters, T",
        "model states, TiB",
        "checkpoints of 32, TiB",
        "working: states, GiB",
        "working: activations of 4, GiB",
    )
    for layers, thousands, heads in FIGURE_2A:
        hidden, sizes = 1024 * thousands, {"tokens": 1024, "hidden": 1024 * thousands}
        checkpoints = zero_infinity.checkpoint_bytes(sequences=32, layers=layers, **sizes)
        activations = zero_infinity.activation_working_bytes(sequences=4, heads=heads, **sizes)
        yield (
            f"{layers}, {thousands}K, {heads}",
            f"{zero_infinity.parameters(layers=layers, hidden=hidden) / 1e12:.2f}",
            f"{zero_infinity.model_state_bytes(layers=layers, hidden=hidden) / 2**40:.2f}",
            f"{checkpoints / 2**40:.2f}",
            f"{zero_infinity.model_state_working_bytes(hidden=hidden) / 2**30:.2f}",
            f"{activations / 2**30:.2f}",
        )


TABLES: dict[str, Callable[[], Rows]] = {
    table.__name__: table
    for table in (
        *(the_20_bytes, precisions, optimizers, alexnet_layers, alexnet_sum, examples),
        *(transformers, recomputation, zero, figure_2a),
    )
}


def markdown(rows: Rows) -> str:
    head, *body = [[str(cell) for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def written_anew(document: str) -> str:
    """The document with every table between its marks computed anew."""
    for name, table in TABLES.items():
        mark = re.compile(rf"(<!-- table: {name} -->\n\n).*?(\n<!-- end -->)", re.DOTALL)
        document, count = mark.subn(lambda m: m[1] + markdown(table()) + m[2], document)  # noqa: B023
        assert count == 1, name
    return document


if __name__ == "__main__":
    DOCUMENT.write_text(written_anew(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
