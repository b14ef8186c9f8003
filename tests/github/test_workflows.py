"""The rules that every workflow here keeps; zizmor and actionlint check the rest in `.ci/run`."""

import re
import subprocess

import pytest
import yaml

from pytest_memreq.cli import main
from pytest_memreq.reports.files import REPORTS
from tests.github.files import ACTION, EXAMPLES, ROOT, WORKFLOWS, read, steps_of

DOCUMENTS = {"action.yml": ACTION, **{path.name: read(path) for path in WORKFLOWS}}
JOBS = [
    pytest.param(job, id=f"{path.name}-{name}")
    for path in WORKFLOWS
    for name, job in read(path)["jobs"].items()
]
MEASURING, COMMENTING = (read(EXAMPLES / f"{name}.yml") for name in ("memreq", "memreq-comment"))


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_actions_are_pinned_and_no_expression_is_in_a_script(document):
    for step in steps_of(document):
        assert "${{" not in step.get("run", "")
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / "action.yml"], ids=lambda path: path.name)
def test_a_pin_says_its_version(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        if "uses:" in line:
            assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize("job", JOBS)
def test_a_job_may_do_what_it_needs_and_ends(job):
    assert job["timeout-minutes"].isdigit()
    assert "permissions" in job
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_nothing(path):
    assert read(path)["permissions"] == {}
    assert "pull_request_target" not in read(path)["on"]


def test_who_measures_may_only_read():
    assert MEASURING["jobs"]["measure"]["permissions"] == {"contents": "read"}
    assert MEASURING["on"].keys() == {"pull_request", "push", "merge_group"}
    [action] = [step for step in steps_of(MEASURING) if "minutes" in step.get("with", {})]
    assert int(action["with"]["minutes"]) < int(MEASURING["jobs"]["measure"]["timeout-minutes"])


@pytest.mark.parametrize("result", ["success", "failure", "cancelled", "skipped", ""])
def test_the_verdict_is_success_of_the_measurement_alone(result):
    job = MEASURING["jobs"]["verdict"]
    assert job["if"] == "${{ always() }}"
    assert job["needs"] == ["measure"]
    [step] = job["steps"]
    assert step["env"] == {"RESULT": "${{ needs.measure.result }}"}
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], env={"RESULT": result}, check=False, timeout=10
    )
    assert (done.returncode == 0) == (result == "success")


def test_who_comments_runs_nothing_of_the_pull_request():
    [job] = COMMENTING["jobs"].values()
    assert job["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert COMMENTING["on"] == {"workflow_run": {"workflows": ["memreq"], "types": ["completed"]}}
    assert MEASURING["name"] in COMMENTING["on"]["workflow_run"]["workflows"]
    assert [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step] == [
        "actions/setup-python"
    ]
    assert job["steps"][-1]["run"] == "memreq comment"


def test_what_is_installed_to_comment_is_what_is_tested():
    [install] = [s["run"] for s in steps_of(COMMENTING) if "pip install" in s.get("run", "")]
    pinned = (ROOT / "constraints.txt").read_text().split()
    for package in re.findall(r"[\w-]+==[\w.]+", install):
        assert package in pinned or package.startswith("pytest-memreq==")


PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_are_yaml():
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        assert isinstance(yaml.safe_load(block), dict)


def test_the_page_names_what_there_is():
    options = set(re.findall(r"--memreq-[a-z-]+", PAGE))
    known = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert options
    assert all(option in known for option in options)
    for name in re.findall(r"memreq-report/([\w.]+\.\w+)", PAGE):
        assert name in {*REPORTS, "index.html"}


def test_the_commands_of_the_page_exist(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    known = re.findall(r"^    ([a-z-]+) ", capsys.readouterr().out, re.MULTILINE)
    named = set(re.findall(r"memreq (?=[a-z-]+ (?:-|memreq-report))([a-z-]+)", PAGE))
    assert {"comment", "outputs", "render", "validate"} <= named
    assert named <= set(known)


def test_the_inputs_of_the_action_are_those_of_the_page():
    table = PAGE[PAGE.index("| input |") : PAGE.index("Outputs: ")]
    defaults = dict(re.findall(r"^\| `([a-z-]+)` \| (?:`(.*?)`|none) \|", table, re.MULTILINE))
    assert defaults == {name: each["default"] for name, each in ACTION["inputs"].items()}
    said = PAGE[PAGE.index("Outputs: ") : PAGE.index("Without the action")]
    assert ACTION["outputs"].keys() == set(re.findall(r"`([a-z]+)`", said))
