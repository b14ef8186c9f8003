"""The version of torch whose kernels and allocator are simulated: the one that is installed."""

import torch


def torch_version() -> tuple[int, int]:
    """Major and minor."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
