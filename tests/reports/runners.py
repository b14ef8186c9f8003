"""What the runners of CI servers take for commands, as their own sources parse it.

GitHub: src/Runner.Common/ActionCommand.cs (`TryParseV2`, then `TryParse`) of actions/runner.
Azure: src/Microsoft.VisualStudio.Services.Agent/Command.cs of microsoft/azure-pipelines-agent, with
DECODE_PERCENTS as it is by default since March 2021.
"""

import re
from dataclasses import dataclass
from functools import reduce

GITHUB_COMMANDS = {
    *("error", "warning", "notice", "debug", "group", "endgroup", "echo", "add-mask", "add-path"),
    *("set-env", "set-output", "save-state", "add-matcher", "remove-matcher", "stop-commands"),
    "internal-set-repo-path",
}
GITHUB_DATA = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
GITHUB_PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))
GITHUB_LEGACY = (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%25", "%"))
AZURE = (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%AZP25", "%"))


@dataclass(frozen=True)
class Command:
    name: str
    properties: dict
    data: str


def lines_of(text):
    """As a .NET stream reader splits what a step writes."""
    return re.split("\r\n|\r|\n", text)


def commands_of(vendor, text):
    return [found for line in lines_of(text) if (found := PARSERS[vendor](line)) is not None]


def _github(line):
    return _github_v2(line) or _github_legacy(line)


def _github_v2(line):
    line = line.lstrip()
    end = line.find("::", 2)
    if not line.startswith("::") or end < 0:
        return None
    name, _, properties = line[2:end].partition(" ")
    if name.lower() not in GITHUB_COMMANDS:
        return None
    pairs = _properties(properties.strip(), ",", GITHUB_PROPERTY)
    return Command(name, pairs, _unescaped(line[end + 2 :], GITHUB_DATA))


def _github_legacy(line):
    info, data = _bracketed(line, "##[")
    name, _, properties = (info or "").partition(" ")
    if name.lower() not in GITHUB_COMMANDS:
        return None
    return Command(
        name, _properties(properties, ";", GITHUB_LEGACY), _unescaped(data, GITHUB_LEGACY)
    )


def _azure(line):
    info, data = _bracketed(line, "##vso[")
    name, _, properties = (info or "").partition(" ")
    if len([part for part in name.split(".") if part]) != 2:
        return None
    return Command(name, _properties(properties, ";", AZURE), _unescaped(data, AZURE))


def _bracketed(line, prefix):
    start = line.find(prefix)
    end = line.find("]", start)
    return (
        (None, "") if start < 0 or end < 0 else (line[start + len(prefix) : end], line[end + 1 :])
    )


def _properties(text, separator, escapes):
    pairs = (_split_once(part) for part in text.split(separator) if part)
    return {pair[0]: _unescaped(pair[1], escapes) for pair in pairs if len(pair) == 2}


def _split_once(text):
    """`Split('=', 2, RemoveEmptyEntries)`: what is empty does not count, and is gone."""
    name, _, value = text.lstrip("=").partition("=")
    return [part for part in (name, value.lstrip("=")) if part]


def _unescaped(text, escapes):
    return reduce(lambda text, pair: text.replace(*pair), escapes, text)


PARSERS = {"github": _github, "azure": _azure}
