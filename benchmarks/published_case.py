"""What a case is: work rebuilt from its description, and what it was run on."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """`run` returns bytes; the published labels are the keys of a case's runs.

    `ranks` has the work of one rank of many, by label: how many there are, and which it is.
    """

    id: str
    gpu: str
    runs: dict[str, Callable[[], int]]
    ranks: dict[str, tuple[int, int]] = field(default_factory=dict)
    workspaces: str | None = None  # for cuBLAS, where its authors set CUBLAS_WORKSPACE_CONFIG
