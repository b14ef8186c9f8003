"""What a verdict does to its test."""

from __future__ import annotations

import pytest

from pytest_memreq.errors import MemoryBudgetExceeded, MemoryRegressed
from pytest_memreq.gate.hints import describe_hint
from pytest_memreq.gate.verdict import failure_message
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.course import Course
from pytest_memreq.reports.text import visible, visible_lines

FAILURES = {"over": MemoryBudgetExceeded, "regressed": MemoryRegressed}
BYSTANDER = (
    "memreq: needs a CUDA device, which is only pretended here "
    "(run with --memreq=off, or keep it in a module without budgets)"
)


def enforce(
    nodeid: str, course: Course, settings: Settings, raised: BaseException | None = None
) -> None:
    """Fail or skip the test whose verdict asks for it; return where it may go on as it went."""
    __tracebackhide__ = True
    if course.is_rehearsal:
        return
    if course.check.is_bystander and course.finding is not None and course.finding.did_allocate:
        pytest.skip(BYSTANDER)
    verdict = course.verdict
    if verdict is None:
        return
    if verdict.word in FAILURES:
        sites = course.finding.sites if course.finding is not None else ()
        survivors = course.leak.survivors if course.leak is not None else ()
        message = failure_message(nodeid, verdict.reason, sites, survivors, course.grew)
        told = [message, *(line for hint in course.hints for line in describe_hint(hint))]
        raise FAILURES[verdict.word](visible_lines("\n".join(told))) from raised
    if verdict.word == "improved" and course.fails_improved:
        pytest.fail(visible(f"memreq: {nodeid}: {verdict.reason}"), pytrace=False)
    if verdict.word == "unchecked" and verdict.cause != "skipped":
        message = visible(f"memreq: unchecked: {verdict.reason}")
        if settings.unchecked == "skip" and not course.is_not_held:
            pytest.skip(message)
        pytest.fail(message, pytrace=False)
