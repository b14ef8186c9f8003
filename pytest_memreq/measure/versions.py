"""Which torch it is that runs."""

from __future__ import annotations

import torch


def torch_versions() -> tuple[str, str | None]:
    """torch's version with its build, and the CUDA it was built for, None without one."""
    # Plain text: torch's own is a subclass of str, which no test worker can send.
    return str(torch.__version__), torch.version.cuda


def hip_version() -> str | None:
    """The ROCm it was built for, None without one."""
    return torch.version.hip
