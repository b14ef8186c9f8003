"""What settings and options can be chosen from."""

from __future__ import annotations

from pytest_memreq.reports.annotations import RUNNERS

MODES = ("auto", "measure", "simulate", "both", "off")
UNCHECKED = ("fail", "skip")
HISTORY = ("over", "all", "off")
ANNOTATIONS = ("auto", *RUNNERS, "off")
