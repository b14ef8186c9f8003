"""Ways to spread a model over ranks, as named degrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.lookup import check_count, check_divides, row_of
from pytest_memreq.estimate.model import Tier

# The ZeRO stage from which on a rank holds a part alone (arXiv 1910.02054, section 5).
SHARDED_FROM = {"optimizer_states": 1, "gradients": 2, "parameters": 3}
OFFLOADABLE = {word: word for word in (*SHARDED_FROM, "activations")}
OFFLOAD_TIERS: dict[str, Tier] = {"cpu": "cpu", "nvme": "nvme"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """Degrees of each kind of parallelism; there are data x tensor x pipeline ranks.

    `zero` is the stage: 1 shards optimizer states over the data-parallel ranks, 2 gradients too, 3
    parameters too. FSDP's FULL_SHARD is 3, SHARD_GRAD_OP is 2. `shard` is the number of ranks that
    share one copy, all data-parallel ones if None; HSDP has fewer. `sequence` splits over the
    tensor-parallel ranks what tensor parallelism alone would repeat (arXiv 2205.05198, 4.2.2).
    `stages` are the layers of each pipeline stage, equal ones if None; `microbatches` is how many
    are in the pipeline before the first leaves it, enough to fill it if None. `expert` ranks of the
    data-parallel ones share the experts of a layer. `offload` maps a word of the breakdown to
    "cpu" or "nvme". MemreqError names degrees that do not go together.
    """

    data: int = 1
    zero: int = 0
    shard: int | None = None
    tensor: int = 1
    sequence: bool = False
    pipeline: int = 1
    stages: tuple[int, ...] | None = None
    microbatches: int | None = None
    expert: int = 1
    offload: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("data", "tensor", "pipeline", "expert"):
            check_count(name, getattr(self, name))
        for name in ("shard", "microbatches"):
            check_count(name, 1 if getattr(self, name) is None else getattr(self, name))
        self._check_zero()
        check_divides("data", self.data, "shard", self.shard_degree)
        check_divides("the ranks that share a copy", self.shard_degree, "expert", self.expert)
        self._check_stages()
        for word, tier in self.offload.items():
            row_of(OFFLOADABLE, "what to offload", word)
            row_of(OFFLOAD_TIERS, f"where to offload {word}", tier)

    def _check_zero(self) -> None:
        if isinstance(self.zero, bool) or self.zero not in (0, 1, 2, 3):
            raise MemreqError(f"zero={self.zero!r} is no ZeRO stage; write 0, 1, 2 or 3")
        if self.shard is not None and self.zero == 0:
            raise MemreqError(f"shard={self.shard} without sharding; add zero=1, 2 or 3")
        if self.sequence and self.tensor == 1:
            raise MemreqError("sequence parallelism is over the tensor-parallel ranks; add tensor")

    def _check_stages(self) -> None:
        if self.stages is None:
            return
        if len(self.stages) != self.pipeline:
            raise MemreqError(
                f"stages={self.stages} has {len(self.stages)} stages for pipeline={self.pipeline}"
            )
        for layers in self.stages:
            check_count("layers of a stage", layers, least=0)

    @property
    def ranks(self) -> int:
        """All ranks together."""
        return self.data * self.tensor * self.pipeline

    @property
    def shard_degree(self) -> int:
        """Data-parallel ranks that share one copy of what is sharded."""
        return self.data if self.shard is None else self.shard

    def layers_of_stages(self, layers: int) -> tuple[int, ...]:
        """Layers of each pipeline stage; MemreqError where they are not those of the model."""
        if self.stages is None:
            instead = "give the layers of each stage as stages"
            check_divides("layers", layers, "pipeline", self.pipeline, instead)
            return (layers // self.pipeline,) * self.pipeline
        if sum(self.stages) != layers:
            raise MemreqError(f"stages={self.stages} hold {sum(self.stages)} of {layers} layers")
        return self.stages

    def microbatches_in_flight(self, stage: int) -> int:
        """Micro-batches whose activations a stage holds at once.

        With one forward, one backward (Narayanan et al., arXiv 2104.04473, section 2.2) the first
        of p stages holds p, the last 1.
        """
        filled = self.pipeline - stage
        return filled if self.microbatches is None else min(filled, self.microbatches)


ONE_DEVICE = Parallelism()
