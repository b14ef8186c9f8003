"""Words that settings are chosen from: the command line names them in every run.

What they choose is where it is used, and is loaded when it is.
"""

from __future__ import annotations

from typing import Literal

# What becomes of a test that the baseline does not have.
Missing = Literal["fail", "record", "ignore"]
MISSING: tuple[Missing, ...] = ("fail", "record", "ignore")
# Of a run's tests, those that it writes into the baseline.
Which = Literal["new", "failing", "all"]
WHICH: tuple[Which, ...] = ("new", "failing", "all")
# Of memreq.xml: as the schema has it, or with what that has no place for.
JUnitFamily = Literal["strict", "extended"]
JUNIT_FAMILIES: tuple[JUnitFamily, ...] = ("strict", "extended")
# CI servers whose runners show an annotation beside its line.
Vendor = Literal["github", "azure"]
VENDORS: tuple[Vendor, ...] = ("github", "azure")
