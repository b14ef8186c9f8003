"""The closed forms of ZeRO-Infinity, for a transformer known by its shape alone.

Rajbhandari et al., ZeRO-Infinity: Breaking the GPU Memory Wall for Extreme Scale Deep Learning
(arXiv 2104.07857), section 3. Embeddings, biases and norms are left out. All results but
`parameters` are bytes, with numbers of 2 bytes in the passes. In the paper's letters: nl layers, hd
hidden, bsz sequences of seq tokens, ci blocks between two checkpoints of activations.
"""

from __future__ import annotations


def parameters(*, layers: int, hidden: int) -> int:
    """12 nl hd^2: the four matrices of attention and the two of the network (equation 1)."""
    return 12 * layers * hidden**2


def model_state_bytes(*, layers: int, hidden: int) -> int:
    """240 nl hd^2, 20 bytes a parameter with Adam in mixed precision (equation 2)."""
    return 20 * parameters(layers=layers, hidden=hidden)


def checkpoint_bytes(
    *, sequences: int, tokens: int, hidden: int, layers: int, blocks_between: int = 1
) -> int:
    """2 bsz seq hd nl / ci: the input of every ci-th block (equation 3)."""
    return 2 * sequences * tokens * hidden * layers // blocks_between


def model_state_working_bytes(*, hidden: int) -> int:
    """4 hd x 4 hd: parameter and gradient of the largest operator, hd to 4 hd (equation 4)."""
    return 4 * hidden * 4 * hidden


def activation_working_bytes(
    *, sequences: int, tokens: int, hidden: int, heads: int, blocks_between: int = 1
) -> int:
    """bsz seq ci (16 hd + 2 heads seq): what lies between two checkpoints (equation 5)."""
    return sequences * tokens * blocks_between * (16 * hidden + 2 * heads * tokens)
