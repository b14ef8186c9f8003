"""Which tests there are, as far as this run collected: an entry of a test that is gone is stale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from pytest_memreq.gate.baseline_update import file_of

OUTPUT = "memreq_covered"


# Options after which a file may have fewer tests than by the project's settings, by where pytest
# keeps them. What conftest.py files and others add is for `_own_options`.
OTHERWISE = {
    "lf": "--lf",
    "inifilename": "-c",
    "noconftest": "--noconftest",
    "confcutdir": "--confcutdir",
    "disable_plugin_autoload": "--disable-plugin-autoload",
}


def otherwise(config: pytest.Config) -> str:
    """The option by which a run may collect otherwise than the project's settings say, "" if none.

    An entry whose test it leaves out while collecting its file would be taken for that of a test
    that is gone.
    """
    given = [option for name, option in OTHERWISE.items() if config.getoption(name, None)]
    overridden = config.getoption("override_ini", None) or ()
    # --strict-markers and --strict-config are kept as such, and leave no test out.
    given += ["-o"] * any(not setting.startswith("strict") for setting in overridden)
    blocked = [name for name in config.getoption("plugins", []) if name.startswith("no:")]
    in_settings = config.getini("addopts")
    given += [f"-p {name}" for name in blocked if name not in in_settings]
    return next(iter([*given, *_own_options(config)]), "")


def _own_options(config: pytest.Config) -> Iterator[str]:
    """Options of the project's conftest.py files, by which they may choose what to generate."""
    for option in config._parser._anonymous.options:
        default = getattr(option, "default", None)
        if config.getoption(option.dest, default) != default:
            yield option.names()[0]


class Covering:
    """Notes the files that were collected whole, the tests in them, and those without a check."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._files: set[str] = set()
        self._broken: set[str] = set()
        self._nodeids: set[str] = set()
        self.unchecked: frozenset[str] = frozenset()

    @property
    def nodeids(self) -> frozenset[str]:
        """The tests that were collected, whoever deselected them later."""
        return frozenset(self._nodeids)

    @property
    def files(self) -> frozenset[str]:
        """Files of which every test was collected, as node ids begin with them."""
        is_partial = bool(otherwise(self._config))
        return frozenset() if is_partial else frozenset(self._files - self._broken)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that could not be imported is not whole.

        Nor is one of which the command line names single tests: pytest reports none for it.
        """
        if report.outcome != "passed":  # a class in it, perhaps
            self._broken.add(file_of(report.nodeid))
        elif report.nodeid.endswith(".py"):
            self._files.add(report.nodeid)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Before anybody may deselect it."""
        self._nodeids.add(item.nodeid)

    def note_unchecked(self, nodeids: Iterable[str]) -> None:
        """The tests of this run that nothing checks."""
        self.unchecked = frozenset(nodeids)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the process that reports."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[OUTPUT] = self.covered()

    def covered(self) -> dict[str, list[str]]:
        """All of it, in plain lists."""
        return {
            "files": sorted(self.files),
            "nodeids": sorted(self.nodeids),
            "unchecked": sorted(self.unchecked),
        }
