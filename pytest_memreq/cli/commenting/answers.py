"""What GitHub says: the event that started the workflow, and the API's answers.

Fields are those that are used, by GitHub's own names. Source: the webhook `workflow_run` and the
REST API, version 2022-11-28.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.errors import MemreqError
from pytest_memreq.strict_json import build, parse

PULL_REQUEST = "pull_request"


class NoAnswerError(Exception):
    """GitHub did not answer, or not with what is needed: whether to comment cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A user or an organisation."""

    login: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """`full_name` is owner/name."""

    full_name: str
    owner: Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run of the measuring workflow.

    `head_branch` is named by whoever made it; `head_repository` is None once a fork is deleted.
    """

    id: int
    event: str
    head_sha: str
    head_branch: str | None = None
    head_repository: Repository | None = None
    conclusion: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The payload of `workflow_run`."""

    workflow_run: Run
    repository: Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The branch that a pull request would merge; `repo` is None once a fork is deleted."""

    ref: str
    sha: str
    repo: Repository | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """A pull request, as it is now."""

    number: int
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """`user` is None where the account is gone."""

    id: int
    body: str | None = None
    user: Owner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What a run uploaded; of the same name there is one an attempt."""

    id: int
    name: str
    size_in_bytes: int
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFile:
    """A file that a pull request changes; `patch` is None where it is large or not text."""

    filename: str
    patch: str | None = None


def read_event(content: bytes, where: str) -> Event:
    """The event in the file at GITHUB_EVENT_PATH.

    Raises MemreqError for another event than `workflow_run`, which alone has a run.
    """
    raw = parse(content, where)
    if "workflow_run" not in raw:
        raise MemreqError(
            f"{where}: is no event of workflow_run; memreq comment runs in a workflow with "
            "`on: workflow_run`"
        )
    return build(Event, raw, where)
