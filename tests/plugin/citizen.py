"""The suite that runs beside others' plugins and under pytest's own options."""

import json

SUITE = """
import pytest

budget = pytest.mark.max_gpu_memory(1000)

@budget
def test_within(card):
    card.allocate(10)

@budget
def test_over(card):
    card.allocate(1001)

def test_unmarked():
    pass

@budget
@pytest.mark.skip(reason="later")
def test_skipped(card):
    pass

@budget
@pytest.mark.xfail(reason="known")
def test_expected(card):
    card.allocate(1001)
"""
VERDICTS = {
    "test_within": ("within", "passed"),
    "test_over": ("over", "failed"),
    "test_skipped": ("unchecked", "skipped"),
    "test_expected": ("over", "xfailed"),
}
OUTCOMES = {"passed": 2, "failed": 1, "skipped": 1, "xfailed": 1}
# A process that only asks for torch's version need not spend its seconds on importing torch.
WITHOUT_TORCH = """
import sys, types

versions = types.ModuleType("pytest_memreq.measure.versions")
versions.torch_versions = lambda: ("2.13.0", None)
sys.modules[versions.__name__] = versions
"""


def report_of(pytester):
    """The status, and the verdict and outcome by the test's name."""
    report = json.loads((pytester.path / "memreq-report" / "memreq.json").read_text())
    verdicts = {
        test["nodeid"].rpartition("::")[2]: (test["verdict"], test["outcome"])
        for test in report["tests"]
    }
    return report["status"], verdicts


class Runs:
    """Runs of pytest with the plugins that are named and no others."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.path = pytester.path

    def write(self, source, name="test_suite"):
        self.pytester.makepyfile(**{name: "import pytest\nfrom conftest import BACKEND\n" + source})

    def here(self, *options):
        return self.pytester.runpytest("-p", "pytest_memreq.plugin", "--memreq-report", *options)

    def process(self, *options):
        return self.pytester.runpytest_subprocess(
            "-p", "pytest_memreq.plugin", "--memreq-report", *options, timeout=120
        )

    @property
    def verdicts(self):
        return report_of(self.pytester)[1]

    @property
    def status(self):
        return report_of(self.pytester)[0]
