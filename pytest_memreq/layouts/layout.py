"""One way to lay a transformer's training out over ranks."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.activations import RECOMPUTATIONS
from pytest_memreq.estimate.lookup import check_count, check_divides, row_of
from pytest_memreq.estimate.parallelism import Parallelism

# What is kept in the memory of the host, by the least ZeRO stage that can: ZeRO-Offload (arXiv
# 2101.06840) has gradients and optimizer there, ZeRO-Infinity (arXiv 2104.07857) parameters too.
OFFLOADS: dict[str, dict[str, int]] = {
    "none": {},
    "cpu": {"optimizer_states": 1, "gradients": 1, "parameters": 3},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`ranks` cards as data x tensor ranks, with the words of the other choices.

    `batch` are samples of one data-parallel rank's step. MemreqError names what does not go
    together.
    """

    ranks: int
    zero: int = 0
    tensor: int = 1
    recompute: str = "none"
    offload: str = "none"
    batch: int = 1

    def __post_init__(self) -> None:
        check_count("ranks", self.ranks)
        check_count("tensor", self.tensor)
        check_count("batch", self.batch)
        check_divides("ranks", self.ranks, "tensor", self.tensor)
        Parallelism(zero=self.zero)  # refuses what is no stage
        row_of(RECOMPUTATIONS, "recompute", self.recompute)
        row_of(OFFLOADS, "offload", self.offload)
        if self.offload != "none" and self.zero == 0:
            raise MemreqError(f"offload={self.offload!r} is ZeRO's; write zero=1, 2 or 3")

    @property
    def data(self) -> int:
        """Ranks that have other samples than each other."""
        return self.ranks // self.tensor

    @property
    def samples(self) -> int:
        """Samples of a step of all ranks."""
        return self.data * self.batch

    @property
    def parallelism(self) -> Parallelism:
        """As the formulas take it."""
        words = OFFLOADS[self.offload]
        return Parallelism(
            data=self.data,
            zero=self.zero,
            tensor=self.tensor,
            offload={word: "cpu" for word, stage in words.items() if self.zero >= stage},
        )
