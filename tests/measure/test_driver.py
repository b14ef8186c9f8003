"""What the driver says of a card, put into the mouth of a scripted NVML."""

import os
import sys
from types import SimpleNamespace

import pytest
import torch

from pytest_memreq.measure.driver import device_used_bytes, process_bytes

UUID = "01234567-89ab-cdef-0123-456789abcdef"
OTHER_PID = os.getpid() + 1


class NVMLError(Exception):
    pass


class NotFoundError(NVMLError):
    pass


class ScriptedNvml:
    """One card of the name `uuid`, which the processes `held` (bytes by number) are on."""

    NVMLError = NVMLError
    NVMLError_NotFound = NotFoundError

    def __init__(self, held, uuid=f"GPU-{UUID}", used_bytes=0, failing=()):
        self.held = held
        self.uuid = uuid
        self.used_bytes = used_bytes
        self.failing = failing
        self.begun = 0

    def nvmlInit(self):  # noqa: N802  # NVML's name, as those below
        self._fail_if_told("init")
        self.begun += 1

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid != self.uuid:
            raise NotFoundError("Not Found")
        return "the card"

    def nvmlDeviceGetComputeRunningProcesses(self, card):  # noqa: N802
        assert card == "the card"
        self._fail_if_told("processes")
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in self.held.items()]

    def nvmlDeviceGetMemoryInfo(self, card):  # noqa: N802
        assert card == "the card"
        return SimpleNamespace(used=self.used_bytes)

    def _fail_if_told(self, what):
        if what in self.failing:
            raise NVMLError("Driver Not Loaded")


@pytest.fixture(autouse=True)
def _one_cuda_device(monkeypatch):
    properties = {0: SimpleNamespace(uuid=UUID)}
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)


@pytest.mark.parametrize(
    ("held", "ours_bytes"),
    [
        ({os.getpid(): 700}, 700),
        ({OTHER_PID: 5_000, os.getpid(): 700}, 700),
        ({OTHER_PID: 700}, 700),  # alone there, by a number of the host's
    ],
    ids=["alone", "beside another", "alone in a container"],
)
def test_what_this_process_holds(held, ours_bytes):
    found = process_bytes(0, ScriptedNvml(held))
    assert (found.bytes, found.reason) == (ours_bytes, "")


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ({OTHER_PID: 1, OTHER_PID + 1: 2}, "lists 2 processes on the card and none by our number"),
        ({}, "lists 0 processes on the card and none by our number"),
        ({os.getpid(): None}, "does not tell what a process holds"),
    ],
    ids=["two in a container", "nobody listed", "WDDM"],
)
def test_why_it_is_not_known(held, reason):
    found = process_bytes(0, ScriptedNvml(held))
    assert found.bytes is None
    assert reason in found.reason


@pytest.mark.parametrize("failing", ["init", "processes"])
def test_an_error_of_nvml_is_the_reason(failing):
    found = process_bytes(0, ScriptedNvml({os.getpid(): 700}, failing=failing))
    assert (found.bytes, found.reason) == (None, "NVML says: Driver Not Loaded")


def test_a_card_that_nvml_does_not_have_is_a_reason():
    found = process_bytes(0, ScriptedNvml({os.getpid(): 700}, uuid="GPU-another"))
    assert (found.bytes, found.reason) == (None, "NVML says: Not Found")


def test_a_part_of_a_card_is_found():
    assert process_bytes(0, ScriptedNvml({os.getpid(): 700}, uuid=f"MIG-{UUID}")).bytes == 700


@pytest.mark.parametrize("question", [process_bytes, device_used_bytes])
def test_without_the_package(monkeypatch, question):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = question(0)
    assert (found.bytes, found.reason) == (None, "nvidia-ml-py is not installed")


def test_nvml_is_not_asked_about_amd(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert process_bytes(0, ScriptedNvml({os.getpid(): 700})).reason == "NVML knows no AMD cards"


def test_what_everybody_uses_of_the_card():
    assert device_used_bytes(0, ScriptedNvml({OTHER_PID: 700}, used_bytes=9_000)).bytes == 9_000


def test_nvml_begins_once_and_again_after_a_failure():
    nvml = ScriptedNvml({os.getpid(): 700}, failing=("init",))
    assert process_bytes(0, nvml).bytes is None
    nvml.failing = ()
    assert [process_bytes(0, nvml).bytes, device_used_bytes(0, nvml).bytes] == [700, 0]
    assert nvml.begun == 1
