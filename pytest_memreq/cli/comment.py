"""`memreq comment`: a run's report as the one comment on its pull request.

The last step of the gate on GitHub, in a workflow of its own with a token that may write
(docs/ci.md). All that it trusts are its own environment and what the API says now.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from pytest_memreq.cli.commenting import body, thread
from pytest_memreq.cli.commenting.answers import (
    PULL_REQUEST,
    Artifact,
    ChangedFile,
    Comment,
    Event,
    NoAnswerError,
    Pull,
    read_event,
)
from pytest_memreq.cli.commenting.archive import read_member
from pytest_memreq.cli.limits import CANNOT_TELL, FITS
from pytest_memreq.errors import MemreqError
from pytest_memreq.reports.files import read_whole
from pytest_memreq.reports.reading import NAME, results_of
from pytest_memreq.reports.text import visible
from pytest_memreq.results import Results
from pytest_memreq.strict_json import build
from pytest_memreq.units import format_size

if TYPE_CHECKING:
    from pytest_memreq.cli.commenting.api import Api

Value = TypeVar("Value")

DEFAULT_ARTIFACT = "memreq-report"
DEFAULT_API_URL = "https://api.github.com"
DEFAULT_SERVER_URL = "https://github.com"
MOST_EVENT_BYTES = 32 * 2**20  # GitHub sends at most 25 MB
MOST_ARTIFACT_BYTES = 256 * 2**20  # snapshots of tests that are over may be among it
LOCAL = ("127.0.0.1", "localhost", "::1")
EPILOG = """\
environment, as GitHub Actions sets it:
  GITHUB_EVENT_PATH  the event, one of workflow_run
  GITHUB_TOKEN       may read actions and write pull requests; set it in the step's env
  GITHUB_API_URL, GITHUB_GRAPHQL_URL, GITHUB_SERVER_URL

exit code: 0 the comment is up to date, or there is nothing to comment on (it says which), 2 cannot
tell (GitHub did not answer, or refused), 4 usage
"""
_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,99}")
_TOKEN = re.compile(r"[!-~]{1,2000}")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "In a workflow on workflow_run: read the report that the finished run uploaded, and post "
        "or update the comment on its pull request."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--artifact",
        metavar="NAME",
        default=DEFAULT_ARTIFACT,
        help=f"the artifact with the report at its top (default: {DEFAULT_ARTIFACT}); each name "
        "has a comment of its own",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the comment instead of posting it"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if not _ARTIFACT_NAME.fullmatch(arguments.artifact):
        raise MemreqError(
            f"--artifact {visible(arguments.artifact, 100)!r}: is letters, digits, blanks, "
            "_ . and -, at most 100"
        )
    api = _api(os.environ)
    path = Path(_needed(os.environ, "GITHUB_EVENT_PATH"))
    event = read_event(read_whole(path, MOST_EVENT_BYTES), str(path))
    try:
        print(_comment(api, event, arguments.artifact, is_dry=arguments.dry_run))
    except NoAnswerError as error:
        print(f"memreq: cannot tell: {error}", file=sys.stderr)
        return CANNOT_TELL
    return FITS


def _api(environment: Mapping[str, str]) -> Api:
    try:
        from pytest_memreq.cli.commenting.api import Api
    except ModuleNotFoundError:
        raise MemreqError("comment needs urllib3; pip install 'pytest-memreq[github]'") from None
    token = _needed(environment, "GITHUB_TOKEN")
    if not _TOKEN.fullmatch(token):
        raise MemreqError("GITHUB_TOKEN: is no token: it has blanks or characters beyond ASCII")
    url = _address(environment, "GITHUB_API_URL", DEFAULT_API_URL)
    graphql_url = _address(environment, "GITHUB_GRAPHQL_URL", f"{url}/graphql")
    return Api(url=url, graphql_url=graphql_url, token=token)


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise MemreqError(f"{name} is not set; memreq comment --help says what it needs")
    return value


def _address(environment: Mapping[str, str], name: str, default: str) -> str:
    """An address that the token may be sent to."""
    given = environment.get(name) or default
    parts = urlsplit(given)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOCAL):
        raise MemreqError(f"{name}: {visible(given, 100)!r} is no https address")
    return given.rstrip("/")


def _comment(api: Api, event: Event, artifact_name: str, *, is_dry: bool) -> str:
    """Do it, and say in a line what was done or why there was nothing to do."""
    run = event.workflow_run
    if run.event != PULL_REQUEST:
        return f"run {run.id} was for {visible(run.event, 50)}: no pull request to comment on"
    pull = thread.pull_of(run, _pulls(api, event))
    if pull is None:
        return f"run {run.id}: no open pull request is of its branch any more"
    if pull.head.sha != run.head_sha:
        return (
            f"run {run.id} is stale: it was of {visible(run.head_sha, 40)}, pull request "
            f"#{pull.number} is at {visible(pull.head.sha, 40)} now"
        )
    frame = _frame(api, event, pull, artifact_name)
    text = _text(api, event, artifact_name, frame)
    return text if is_dry else _say(api, event, pull, frame.mark, text)


def _pulls(api: Api, event: Event) -> list[Pull]:
    head = event.workflow_run
    if head.head_repository is None or head.head_branch is None:
        return []  # the fork is gone
    branch = f"{head.head_repository.owner.login}:{head.head_branch}"
    found = api.pages(f"{_of(event)}/pulls", state="open", head=branch)
    return _built(Pull, found, "pulls")


def _frame(api: Api, event: Event, pull: Pull, artifact_name: str) -> body.Frame:
    run = event.workflow_run
    server = _address(os.environ, "GITHUB_SERVER_URL", DEFAULT_SERVER_URL)
    files = api.pages(f"{_of(event)}/pulls/{pull.number}/files")
    return body.Frame(
        mark=thread.marker(artifact_name),
        run=run,
        link=f"{server}/{quote(event.repository.full_name)}/actions/runs/{run.id}",
        version=metadata.version("pytest-memreq"),
        changed=thread.of_the_gate(_built(ChangedFile, files, "files")),
    )


def _text(api: Api, event: Event, artifact_name: str, frame: body.Frame) -> str:
    try:
        results = _results(api, event, artifact_name)
    except MemreqError as problem:
        return body.of_no_report(str(problem), frame)
    return body.of_report(results, frame)


def _results(api: Api, event: Event, name: str) -> Results:
    """The report that the run uploaded; raises MemreqError where it gave none that can be used."""
    runs = f"{_of(event)}/actions/runs/{event.workflow_run.id}/artifacts"
    found = _built(Artifact, api.pages(runs, within="artifacts", name=name), "artifacts")
    artifact = thread.newest(found, name)
    if artifact is None:
        raise MemreqError(f"it left no artifact {name}")
    if artifact.expired:
        raise MemreqError(f"its artifact {name} is expired")
    if artifact.size_in_bytes > MOST_ARTIFACT_BYTES:
        raise MemreqError(f"artifact {name} is larger than {format_size(MOST_ARTIFACT_BYTES)}")
    path = f"{_of(event)}/actions/artifacts/{artifact.id}/zip"
    try:
        content = read_member(api.download(path, MOST_ARTIFACT_BYTES), NAME)
    except MemreqError as error:
        raise MemreqError(f"artifact {name} {error}") from None
    if content is None:
        raise MemreqError(f"artifact {name} has no {NAME} at its top")
    return results_of(content, NAME)


def _say(api: Api, event: Event, pull: Pull, mark: str, text: str) -> str:
    where = f"{_of(event)}/issues/{pull.number}/comments"
    login = api.login()
    before = thread.ours(_built(Comment, api.pages(where), "comments"), login, mark)
    if before is None:
        api.post(where, {"body": text})
        return f"commented on pull request #{pull.number} as {visible(login, 50)}"
    if before.body != text:
        api.patch(f"{_of(event)}/issues/comments/{before.id}", {"body": text})
    return f"the comment on pull request #{pull.number} is up to date"


def _of(event: Event) -> str:
    return f"repos/{quote(event.repository.full_name)}"


def _built(kind: type[Value], raw: Iterable[object], what: str) -> list[Value]:
    try:
        return [build(kind, each, what) for each in raw]
    except MemreqError as error:
        raise NoAnswerError(f"GitHub's answer is not understood: {error}") from None
