"""What was measured of a card that no simulation derives: its context, cuBLAS's workspace.

`memreq validate --device --calibration FILE` writes it, `--memreq-calibration FILE` reads it.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace

from pytest_memreq.errors import MemreqError
from pytest_memreq.requirement import Breakdown, Metric, Peak
from pytest_memreq.strict_json import build, check_format, exact_keys, parse, shown
from pytest_memreq.strict_json import to_text as json_text
from pytest_memreq.units import format_size

FORMAT = 1
MAX_CALIBRATION_BYTES = 64 * 2**10  # it has nine short values
NO_CONTEXT = "the size of the context is not simulated; --memreq-calibration tells it"
NOT_MEASURED = "the calibration does not know the context: it was made without NVML"
FOUND = ("context_bytes", "cublas_workspace_bytes")

_MINOR = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?![0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What holds for one card, version of torch and driver; None is "not known".

    `context_bytes` is what a process holds beside torch's allocator once cuBLAS, cuDNN and autograd
    are ready; `cublas_workspace_bytes` what a handle's first product on a stream allocates.
    """

    gpu: str
    gpu_bytes: int | None
    torch: str
    cuda: str | None
    driver: str | None
    date: str
    context_bytes: int | None
    cublas_workspace_bytes: int | None

    @property
    def torch_version(self) -> tuple[int, int] | None:
        """Major and minor, None where that is no version."""
        found = _MINOR.match(self.torch)
        return None if found is None else (int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """One line: `NVIDIA H200, torch 2.13.0, CUDA 13.0, driver 580.65`, in ASCII."""
        cuda = self.cuda and f"CUDA {_plain(self.cuda)}"
        driver = self.driver and f"driver {_plain(self.driver)}"
        return ", ".join(
            filter(None, [_plain(self.gpu), f"torch {_plain(self.torch)}", cuda, driver])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What a simulation takes from a calibration; `reason` says why the context is not known."""

    context_bytes: int | None = None
    workspace_bytes: int | None = None
    reason: str = NO_CONTEXT
    notes: tuple[str, ...] = ()

    @property
    def unknown(self) -> tuple[tuple[Metric, str], ...]:
        """As `Finding` has it."""
        return () if self.context_bytes is not None else (("device", self.reason),)

    def peak(self, peak: Peak) -> Peak:
        """With `device`: a context is there before and after all segments."""
        if self.context_bytes is None or peak.reserved_bytes is None:
            return peak
        return replace(peak, device_bytes=peak.reserved_bytes + self.context_bytes)

    def breakdown(self, breakdown: Breakdown) -> Breakdown:
        """With the context, which is no part of `allocated`."""
        return replace(breakdown, context_bytes=self.context_bytes)


def calibrated(
    calibration: Calibration | None, gpu: str, torch_version: tuple[int, int]
) -> Calibrated:
    """What holds for a card and a version of torch: nothing where the calibration is of others."""
    if calibration is None:
        return Calibrated()
    is_same = calibration.gpu.casefold() == gpu.casefold()
    if not is_same or calibration.torch_version != torch_version:
        simulated = "{}, torch {}.{}".format(gpu, *torch_version)
        other = f"the calibration is of {calibration}; simulated is {simulated}: it is not used"
        return Calibrated(reason=other, notes=(other,))
    return Calibrated(
        context_bytes=calibration.context_bytes,
        workspace_bytes=calibration.cublas_workspace_bytes,
        reason=NOT_MEASURED,
        notes=(_used(calibration),),
    )


def from_text(content: bytes, where: str) -> Calibration:
    """Read what `to_text` wrote; `where` names it in errors.

    Raises MemreqError, in one line, for whatever else it holds.
    """
    raw = parse(content, where)
    check_format(raw, FORMAT, where)
    exact_keys(raw, ("format", *(field.name for field in fields(Calibration))), where)
    found = build(Calibration, raw, f"{where}: calibration")
    if found.torch_version is None:
        raise MemreqError(f"{where}: torch: {shown(found.torch)} is no version; write 2.13.0")
    for name in FOUND:
        _check_size(getattr(found, name), found.gpu_bytes, f"{where}: {name}")
    return found


def to_text(calibration: Calibration) -> str:
    """As the file has it."""
    return json_text({"format": FORMAT, **asdict(calibration)}, indent=2) + "\n"


def _check_size(size_bytes: int | None, gpu_bytes: int | None, where: str) -> None:
    if size_bytes == 0:
        raise MemreqError(f"{where}: 0 is not a size; what is not known is null")
    if None not in (size_bytes, gpu_bytes) and (size_bytes or 0) > (gpu_bytes or 0):
        raise MemreqError(f"{where}: {size_bytes} is more than the card has, {gpu_bytes} bytes")


def _used(calibration: Calibration) -> str:
    sizes = [
        f"{word} {format_size(size)}"
        for word, size in (
            ("context", calibration.context_bytes),
            ("cuBLAS workspace", calibration.cublas_workspace_bytes),
        )
        if size is not None
    ]
    later = "; kernels that libraries load later are not in it" * (
        calibration.context_bytes is not None
    )
    return f"calibrated on {calibration}: {', '.join(sizes) or 'nothing is known'}{later}"


def _plain(text: str) -> str:
    return shown(text)[1:-1]
