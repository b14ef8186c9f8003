"""What users may choose about the files of a report."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.choices import JUnitFamily


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Choices that do not change what a report says. `junit_family` is that of `memreq.xml`."""

    junit_family: JUnitFamily = "strict"


PLAIN = Style()
