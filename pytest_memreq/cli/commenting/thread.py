"""Where the comment belongs: the pull request of a run, its artifact, and our comment of before."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_memreq.cli.commenting.answers import (
    Artifact,
    ChangedFile,
    Comment,
    NoAnswerError,
    Pull,
    Run,
)

SETTINGS = "pyproject.toml"
WORDS = ("memreq", "max_gpu_")  # in our files, settings, options, markers


def pull_of(run: Run, pulls: Iterable[Pull]) -> Pull | None:
    """The pull request whose head is the run's branch in the run's repository.

    The API can be asked for a branch of an owner alone, who may have several forks. Raises
    NoAnswerError where a branch has several: each has a run of its own, merged with another base,
    and no answer of GitHub says which run was whose.
    """
    found = [
        pull
        for pull in pulls
        if run.head_repository is not None
        and pull.head.repo is not None
        and pull.head.repo.full_name == run.head_repository.full_name
        and pull.head.ref == run.head_branch
    ]
    if len(found) > 1:
        numbers = ", ".join(f"#{pull.number}" for pull in found)
        raise NoAnswerError(
            f"pull requests {numbers} are of one branch, and a run does not say of which it was"
        )
    return found[0] if found else None


def newest(artifacts: Iterable[Artifact], name: str) -> Artifact | None:
    """That of the last attempt; ids grow."""
    named = [artifact for artifact in artifacts if artifact.name == name]
    return max(named, key=lambda artifact: artifact.id, default=None)


def of_the_gate(files: Iterable[ChangedFile]) -> tuple[str, ...]:
    """Names of the files that may say what is allowed, among those that a pull request changes.

    A budget under `[tool.memreq.budgets]` can change with none of our words near it, so any change
    of `pyproject.toml` counts.
    """
    return tuple(file.filename for file in files if _is_of_the_gate(file))


def _is_of_the_gate(file: ChangedFile) -> bool:
    lines = [line for line in (file.patch or "").split("\n") if line[:1] in ("+", "-")]
    is_settings = file.filename.rpartition("/")[2] == SETTINGS
    return is_settings or any(word in text for text in (file.filename, *lines) for word in WORDS)


def marker(artifact_name: str) -> str:
    """The line by which a comment is found again; reports of other names have other comments."""
    return f"<!-- pytest-memreq: {artifact_name} -->"


def ours(comments: Iterable[Comment], login: str, mark: str) -> Comment | None:
    """The comment that begins with our marker and is by us: anybody can copy the marker."""
    for comment in comments:
        is_ours = comment.user is not None and comment.user.login == login
        if is_ours and (comment.body or "").startswith(mark):
            return comment
    return None
