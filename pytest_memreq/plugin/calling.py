"""The call of a checked test: run it within its limits, find out what it needed, explain it."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from pytest_memreq.measure.backends import Recording
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.course import Course
from pytest_memreq.plugin.frames import clear_frames, raise_kept
from pytest_memreq.plugin.meters import Meter
from pytest_memreq.plugin.owning import Owning

RAN_TWICE = "what was live at the peak is from a second run"


def called(
    item: pytest.Item, course: Course, settings: Settings, owning: Owning
) -> Generator[None, object, object]:
    """pytest's call, measured; whatever it raises goes on. DeviceLostError if the device went."""
    __tracebackhide__ = True
    meter = course.meter
    assert meter is not None
    with meter.active():
        meter.tidy()
        course.begin(owning.held(item, meter))
        with _recording(meter, is_wanted=settings.history == "all") as recording:
            outcome = yield from _concluded(item, course, recording, settings)
        # Not where the test raised: what it held is kept for its traceback, which has the line.
        if course.is_to_explain and settings.history == "over":
            _run_again(item, course, meter, settings)
        return outcome


def _concluded(
    item: pytest.Item, course: Course, recording: Recording | None, settings: Settings
) -> Generator[None, object, object]:
    __tracebackhide__ = True
    try:
        with course.capped():
            outcome = yield
        raise_kept(item)
        course.repeat(item)
    except BaseException as error:  # an interrupt and pytest's own outcomes too; it goes on
        course.conclude_failed(error)
        _explain(item, course, recording, settings)
        raise
    course.conclude(None)
    _explain(item, course, recording, settings)
    return outcome


def _run_again(item: pytest.Item, course: Course, meter: Meter, settings: Settings) -> None:
    """Run the test once more, recorded; the figures stay those of the first run."""
    meter.tidy()
    with _recording(meter, is_wanted=True) as recording:
        if recording is None:
            return
        try:
            with course.capped():
                item.runtest()
            raise_kept(item)
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:  # noqa: BLE001 - the user's test
            clear_frames(error)
        course.note(RAN_TWICE)
        _explain(item, course, recording, settings)


def _recording(meter: Meter, *, is_wanted: bool) -> AbstractContextManager[Recording | None]:
    recording = meter.recording() if is_wanted else None
    return nullcontext() if recording is None else recording


def _explain(
    item: pytest.Item, course: Course, recording: Recording | None, settings: Settings
) -> None:
    if recording is None or course.lost:
        return
    course.explain(recording.explain(course.left))
    if settings.report:
        name = hashlib.sha256(item.nodeid.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        directory = item.config.invocation_params.dir / settings.report_dir
        course.snapshot = save_snapshot(recording, directory, f"{name}.pickle")


def save_snapshot(recording: Recording, report_dir: Path, name: str) -> str | None:
    """Write for PyTorch's memory viewer; its path within the report, None where one may not."""
    directory = report_dir / "snapshots"
    path = directory / name
    if report_dir.is_symlink() or directory.is_symlink() or path.is_symlink():
        return None  # as with reports, nothing is written through a link
    directory.mkdir(parents=True, exist_ok=True)
    recording.save(path)
    return f"snapshots/{name}"
