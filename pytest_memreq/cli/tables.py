"""A requirement as text for people, and as JSON."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import asdict
from typing import Any

from pytest_memreq.cli.limits import Fit
from pytest_memreq.requirement import Breakdown, LayerRow, RankShare, Requirement
from pytest_memreq.units import format_size


def as_document(needed: Requirement, fits: Sequence[Fit]) -> dict[str, Any]:
    """Everything, as plain values for JSON."""
    return {
        "format": 1,
        "parameter_elements": needed.parameter_elements,
        "total_bytes": needed.total_bytes,
        "breakdown": _breakdown(needed.breakdown),
        "cpu_bytes": needed.cpu_bytes,
        "nvme_bytes": needed.nvme_bytes,
        "ranks": [
            {
                "ranks": share.ranks,
                "stage": share.stage,
                "total_bytes": share.total_bytes,
                "breakdown": _breakdown(share.breakdown),
                "cpu_bytes": share.cpu_bytes,
                "nvme_bytes": share.nvme_bytes,
            }
            for share in needed.ranks
        ],
        "layers": [
            {**asdict(row), "parameter_elements": row.parameter_elements} for row in needed.layers
        ],
        "fits": [asdict(fit) for fit in fits],
    }


def _breakdown(breakdown: Breakdown) -> dict[str, int | None]:
    return {f"{word}_bytes": size for word, size in breakdown.items()}


def as_text(needed: Requirement, fits: Sequence[Fit]) -> list[str]:
    """The layer table, the ranks, the sum of the worst one, and whether it fits."""
    table = [*_layer_table(needed.layers), ""] if needed.layers else []
    ranks = [*_rank_table(needed.ranks), ""] if len(needed.ranks) > 1 else []
    return [*table, *ranks, *_sum(needed), *map(_said, fits)]


def _layer_table(layers: Sequence[LayerRow]) -> list[str]:
    head = ["Layer", "Kind", "Output", "Activations", "Weights", "Biases", "Parameters"]
    rows = [_cells(row.name, row.kind, _shape_text(row), [row]) for row in layers]
    return aligned([head, *rows, _cells("Total", "", "", layers)], numbers=range(3, 7))


def _shape_text(row: LayerRow) -> str:
    return "x".join(map(str, row.output_shape))


def _cells(name: str, kind: str, shape: str, rows: Sequence[LayerRow]) -> list[str]:
    numbers = (
        sum(row.activation_elements for row in rows),
        sum(row.weight_elements for row in rows),
        sum(row.bias_elements for row in rows),
        sum(row.parameter_elements for row in rows),
    )
    return [name, kind, shape, *(f"{number:,}" for number in numbers)]


def _rank_table(ranks: Sequence[RankShare]) -> list[str]:
    head = ["Ranks", "Stage", "Device", "CPU", "NVMe"]
    rows = [
        [f"{share.ranks:,}", str(share.stage)]
        + [format_size(size) for size in (share.total_bytes, share.cpu_bytes, share.nvme_bytes)]
        for share in ranks
    ]
    return aligned([head, *rows], numbers=range(5))


def _sum(needed: Requirement) -> list[str]:
    known = [(word, size) for word, size in needed.breakdown.items() if size is not None]
    unknown = [word for word, size in needed.breakdown.items() if size is None]
    rows = [[word, f"{size:,} B", format_size(size)] for word, size in known]
    total = ["total", f"{needed.total_bytes:,} B", format_size(needed.total_bytes)]
    beside = [
        [where, f"{size:,} B", format_size(size)]
        for where, size in (("on the CPU", needed.cpu_bytes), ("on NVMe", needed.nvme_bytes))
        if size
    ]
    return [
        f"{needed.parameter_elements:,} parameters{_of_ranks(needed.ranks)}",
        *aligned([*rows, total, *beside], numbers=range(1, 3)),
        f"not known, to be added: {', '.join(unknown)}",
    ]


def _of_ranks(ranks: Sequence[RankShare]) -> str:
    count = sum(share.ranks for share in ranks)
    return "" if count == 1 else f" on {count:,} ranks; the worst one needs"


def _said(fit: Fit) -> str:
    spare = format_size(abs(fit.spare_bytes))
    if fit.fits is None:
        return (
            f"cannot tell whether it fits {fit.limit}: {spare} are left for activations, "
            "which only a model with --input tells, or a configuration with --seq"
        )
    return f"fits {fit.limit}: {spare} to spare" if fit.fits else f"exceeds {fit.limit} by {spare}"


def aligned(rows: Sequence[Sequence[str]], numbers: Container[int]) -> list[str]:
    """Columns two blanks apart, those of `numbers` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    signs = [">" if at in numbers else "<" for at in range(len(widths))]
    return [
        "  ".join(
            f"{cell:{sign}{width}}" for cell, sign, width in zip(row, signs, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
