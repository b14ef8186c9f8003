"""What DeepSpeed's estimator of model states prints for T5-3B (case B41), by `estimate`.

It divides by 2**30. Its stage 2 keeps gradients in half precision whole, as stage 1 does here, and
spreads the single-precision copies with the optimizer's states. Its stage 3 adds the largest layer,
in half precision with its gradients.
"""

from functools import partial

from benchmarks.published_case import Case
from pytest_memreq import Parallelism, estimate

CLASSES, WIDTH, INNER, HIDDEN, DEPTH, HEADS = 32_128, 1024, 4096, 16_384, 24, 32
EMBEDDING = CLASSES * WIDTH
ATTENTION, FEED_FORWARD = 4 * WIDTH * INNER, 2 * WIDTH * HIDDEN
ENCODER = DEPTH * (ATTENTION + FEED_FORWARD + 2 * WIDTH) + WIDTH
DECODER = DEPTH * (2 * ATTENTION + FEED_FORWARD + 3 * WIDTH) + WIDTH
T5_3B = EMBEDDING + ENCODER + DECODER + 2 * 32 * HEADS  # two tables of relative positions
LARGEST_LAYER_BYTES = 4 * EMBEDDING
STATES = {"gradients": "cpu", "optimizer_states": "cpu"}


def each_rank(zero, precision, offload=None):
    """Bytes of eight cards that the fullest holds."""
    parallelism = Parallelism(data=8, zero=zero, offload=offload or {})
    return estimate(T5_3B, precision=precision, parallelism=parallelism).total_bytes


def with_largest_layer(offload=None):
    return LARGEST_LAYER_BYTES + each_rank(3, "mixed_single_gradients", offload)


CASES = [
    Case(
        "B41",
        "Tesla V100-SXM2-32GB",
        {
            "ZeRO-2, offload": partial(each_rank, 2, "mixed", STATES),
            "ZeRO-2": partial(each_rank, 1, "mixed"),
            "ZeRO-3, all offload": partial(with_largest_layer, {"parameters": "cpu", **STATES}),
            "ZeRO-3, optimizer offload": partial(with_largest_layer, STATES),
            "ZeRO-3": with_largest_layer,
        },
    )
]
