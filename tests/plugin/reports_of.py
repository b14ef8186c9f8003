"""What a run wrote, by the name of the test."""

import json


def results_of(pytester):
    report = json.loads((pytester.path / "memreq-report" / "memreq.json").read_text())
    return {test["nodeid"].rpartition("::")[2]: test for test in report["tests"]}


def peaks_of(pytester, metric="allocated"):
    return {name: test["peak"][f"{metric}_bytes"] for name, test in results_of(pytester).items()}
