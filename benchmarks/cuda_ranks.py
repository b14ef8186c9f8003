"""One rank of many beside a CUDA build of torch, as `cuda` does it for one card.

`python -m benchmarks.cuda_ranks` runs the scripts of `rank_scripts`; their recordings are
`data/ranks_*.json.xz`.
"""

from benchmarks.cuda import compared, simulated_rank, tables
from benchmarks.results import Benchmark, run

BENCHMARK = Benchmark(
    name="cuda_ranks",
    measure=lambda: compared("ranks", simulated_rank),
    tables=tables,
    by_torch=True,
    is_timed=False,
)

if __name__ == "__main__":
    run(BENCHMARK)
