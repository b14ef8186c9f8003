"""One checked test under way: from what it needed to a verdict, and what the verdict does to it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import reduce

import pytest

from pytest_memreq.errors import (
    DeviceLostError,
    MemreqError,
)
from pytest_memreq.gate.baseline import both
from pytest_memreq.gate.budget import Budget
from pytest_memreq.gate.hints import Hint, hints
from pytest_memreq.gate.leak import judge_leak
from pytest_memreq.gate.standing import Standing, what_grew
from pytest_memreq.gate.verdict import (
    NOTHING_ALLOCATED,
    Verdict,
    judge,
)
from pytest_memreq.holdings import Held, nothing_held, total_bytes
from pytest_memreq.measure.backends import Explanation
from pytest_memreq.plugin.baselines import Baselines
from pytest_memreq.plugin.checks import Check
from pytest_memreq.plugin.judging import verdict_of_exception
from pytest_memreq.plugin.leaks import Leak, find_leak
from pytest_memreq.plugin.meters import Meter
from pytest_memreq.requirement import Finding
from pytest_memreq.results import Environment, Simulated
from pytest_memreq.units import format_size

NO_CAP = 'this device cannot refuse allocations, which enforce="cap" asks for'
BY_SIMULATION = "by what was simulated:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """What simulating a test said before it is measured.

    `verdict` is that of the baseline's entry of the simulation, None where nothing is to be said.
    """

    said: Simulated
    verdict: Verdict | None = None
    fails_improved: bool = False
    notes: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Course:
    """A test's check and meter; `finding` and `verdict` are there once its call is over.

    A rehearsal is the simulation of a test before it is measured, which then has it as `rehearsed`.
    One that `came_through` has figures of all that it does. `not_held` says why a test can be held
    against no baseline.
    """

    nodeid: str
    check: Check
    meter: Meter | None
    problem: str = ""
    is_rehearsal: bool = False
    rehearsed: Rehearsed | None = None
    came_through: bool = False
    finding: Finding | None = None
    verdict: Verdict | None = None
    leak: Leak | None = None
    leaked_bytes: int | None = None
    held: Callable[[], Held] = nothing_held
    lost: str = ""
    cap_bytes: int | None = None
    snapshot: str | None = None
    baselines: Baselines | None = None
    not_held: str = ""
    standing: Standing | None = None

    def refuse_small_card(self) -> None:
        """Skip a test that asks to be, on a card with less than its limits."""
        budget = self.budget_or_none()
        if budget is None or not budget.skip_too_small:
            return
        if budget.too_large_for(self._metered.card_bytes):
            card = self.environment()
            size = format_size(card.gpu_bytes or 0)
            pytest.skip(f"memreq: {card.gpu} has {size}, less than the test's limits")

    def begin(self, held: Callable[[], Held]) -> None:
        """The call begins; `held` says what is alive now."""
        self.held = held
        self._metered.start(held)

    def left_bytes(self) -> int:
        """What is still there of what others left when the call began."""
        alive = frozenset(self._metered.live() or ())
        return total_bytes(block for block in self.held().others_blocks if block in alive)

    @property
    def left(self) -> frozenset[Hashable]:
        """The blocks of that, by their keys."""
        return frozenset(block.key for block in self.held().others_blocks)

    @contextmanager
    def capped(self) -> Iterator[None]:
        """The allocator is kept to the budget within it, where the test says so."""
        budget = self.budget_or_none()
        limit_bytes = None if budget is None else budget.cap_bytes()
        if self.check.budget.enforce != "cap" or limit_bytes is None:
            yield
            return
        self.cap_bytes = limit_bytes
        with self._metered.capped(limit_bytes) as can_be_kept:
            self.problem = "" if can_be_kept else NO_CAP
            yield

    def repeat(self, item: pytest.Item) -> None:
        """Run the test as often as its limit on leaks asks for."""
        if self.check.leak is not None:
            self.leak = find_leak(item, self._metered, self.check.leak, self.left_bytes)

    def conclude(self, raised: BaseException | None) -> None:
        """Take the finding, and reach the verdict; `raised` is what the test's call raised.

        Raises DeviceLostError where there is nothing to take any more.
        """
        try:
            self.finding = self._metered.finding()
        except DeviceLostError as error:
            self.lose(error)
            raise
        if self.check.is_judged:
            self.verdict = self._verdict(self.finding, raised)

    def lose(self, error: DeviceLostError) -> None:
        """The device is gone, and with it the figures."""
        self.lost = str(error)
        self.verdict = Verdict(word="error", reason=self.lost)

    def conclude_failed(self, raised: BaseException) -> None:
        """The same, after which what the test raised goes on, whatever else there is to say."""
        with suppress(DeviceLostError):
            self.conclude(raised)

    def note(self, text: str) -> None:
        """Something that a reader of the figures has to know."""
        if self.finding is not None:
            self.finding = replace(self.finding, notes=(*self.finding.notes, text))

    @property
    def is_to_explain(self) -> bool:
        """True where a limit was exceeded and nothing says yet by what."""
        is_over = self.verdict is not None and self.verdict.word in ("over", "regressed")
        is_leak = self.leak is not None and bool(self.leak.survivors)
        return (
            is_over
            and not is_leak
            and not self._is_by_simulation
            and self.finding is not None
            and not self.finding.sites
        )

    def explain(self, explanation: Explanation) -> None:
        """What was live at the peak, where the finding itself does not know."""
        if self.finding is not None:
            self.finding = replace(
                self.finding,
                breakdown=explanation.breakdown,
                sites=explanation.sites,
                peak_at=explanation.peak_at,
                timeline=explanation.timeline,
                notes=(*self.finding.notes, *explanation.notes),
            )

    @property
    def fails_improved(self) -> bool:
        """True where needing less than the baseline is a failure as well."""
        return any(
            each is not None and each.fails_improved for each in (self.standing, self.rehearsed)
        )

    @property
    def is_not_held(self) -> bool:
        """True where the test has a baseline, or should have, and was not held against it."""
        has_no_match = self.standing is not None and self.standing.match is None
        return self._is_known or has_no_match or bool(self.not_held)

    @property
    def grew(self) -> tuple[str, ...]:
        """What changed since the baseline, for a test that is over or has regressed."""
        is_to_tell = self.verdict is not None and self.verdict.word in ("over", "regressed")
        if self.finding is None or not is_to_tell:
            return ()
        told = what_grew(self.standing, self.finding)
        simulated = () if self.rehearsed is None else self.rehearsed.said.grew
        if not simulated or (told and not self._is_by_simulation):
            return told
        return (*told, BY_SIMULATION, *simulated)

    @property
    def hints(self) -> tuple[Hint, ...]:
        """Known causes that the figures have the evidence of."""
        return () if self.finding is None else hints(self.finding)

    def budget_or_none(self) -> Budget | None:
        """What it may need, in bytes; None where a share is of a card that is not known."""
        try:
            return self._budget()
        except MemreqError:
            return None  # the verdict says so

    def environment(self) -> Environment:
        """What the figures hold for."""
        return Environment() if self.meter is None else self.meter.environment()

    @property
    def _metered(self) -> Meter:
        assert self.meter is not None  # a test without a meter has no call
        return self.meter

    def _verdict(self, finding: Finding, raised: BaseException | None) -> Verdict | None:
        if not finding.did_allocate and not self._is_required:
            return None
        try:
            if raised is not None:
                return verdict_of_exception(
                    finding, raised, self._budget(), self.left_bytes(), self.cap_bytes
                )
            return self._verdict_of_figures(finding)
        except MemreqError as error:
            return Verdict(word="unchecked", reason=str(error))

    def _verdict_of_figures(self, finding: Finding) -> Verdict:
        problem = self.problem or ("" if finding.did_allocate else NOTHING_ALLOCATED)
        if problem:
            return Verdict(word="unchecked", reason=problem)
        self.came_through = True
        verdict = judge(finding.peak, self._budget(), dict(finding.unknown))
        if verdict.word == "within" and self.leak is not None and self.check.leak is not None:
            leak = judge_leak(self.leak.growths, self.check.leak)
            verdict = leak if leak.word == "over" or self.check.budget.is_empty else verdict
        has_limit = self.check.leak is not None or not self.check.budget.is_empty
        of_baseline = self._verdicts_of_baseline(finding)
        return reduce(
            both, [verdict, *of_baseline] if has_limit or not of_baseline else of_baseline
        )

    def _verdicts_of_baseline(self, finding: Finding) -> list[Verdict]:
        if self.baselines is None:
            return []
        if self.not_held:
            return [Verdict(word="unchecked", reason=self.not_held)]
        self.standing = self.baselines.standing_of(
            self.nodeid, self.environment(), finding, self.check.budget.tolerance
        )
        simulated = None if self.rehearsed is None else self.rehearsed.verdict
        if simulated is None:
            return [self.standing.verdict]
        return [self.standing.verdict, replace(simulated, reason=f"simulated: {simulated.reason}")]

    @property
    def _is_by_simulation(self) -> bool:
        """True where the simulation regressed, and what was measured did not."""
        simulated = None if self.rehearsed is None else self.rehearsed.verdict
        has_regressed = self.verdict is not None and self.verdict.word == "regressed"
        is_measured = self.standing is not None and self.standing.verdict.word == "regressed"
        return has_regressed and simulated is not None and not is_measured

    @property
    def _is_required(self) -> bool:
        return self.check.is_required or self._is_known

    @property
    def _is_known(self) -> bool:
        return self.baselines is not None and self.baselines.knows(self.nodeid)

    def _budget(self) -> Budget:
        return self.check.budget.in_bytes(None if self.meter is None else self.meter.card_bytes)


COURSE = pytest.StashKey[Course]()
