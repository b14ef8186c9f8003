"""`memreq comment`, from outside, against a server that plays GitHub's API."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile

import pytest

from pytest_memreq.cli import main
from pytest_memreq.cli.commenting import api as api_module
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Results, TestResult, to_json
from tests.github.server import LOGIN, TOKEN, GitHub
from tests.reports.hostile import NAMES

SHA, OLD_SHA = "a" * 40, "b" * 40
MARKER = "<!-- pytest-memreq: memreq-report -->"
COMMENTS = "/repos/octo/models/issues/7/comments"
PULLS = "/repos/octo/models/pulls"
ZIP = "/repos/octo/models/actions/artifacts/50/zip"
ARTIFACTS = "/repos/octo/models/actions/runs/99/artifacts"


def repository(owner="someone", name="models"):
    return {"full_name": f"{owner}/{name}", "owner": {"login": owner}, "private": False}


def pull(number=7, owner="someone", name="models", ref="bigger", sha=SHA):
    head = {"ref": ref, "sha": sha, "repo": repository(owner, name)}
    return {"number": number, "state": "open", "owner": owner, "head": head, "title": "x"}


def event_of(**run):
    given = {
        "id": 99,
        "event": "pull_request",
        "head_sha": SHA,
        "head_branch": "bigger",
        "head_repository": repository(),
        "conclusion": "failure",
        "pull_requests": [],  # as GitHub sends it for every fork
        **run,
    }
    return {"action": "completed", "workflow_run": given, "repository": repository("octo")}


def result(name="test_a.py::test_a", verdict="over", **more):
    given = {"outcome": "failed" if verdict == "over" else "passed", "reason": "r", **more}
    peak = Peak(allocated_bytes=3 * 2**30)
    return TestResult(nodeid=name, mode="simulated", verdict=verdict, peak=peak, **given)


def report(*tests, status="complete"):
    return to_json(Results(tests=tests or (result(),), status=status)).encode()


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, text in members:
            archive.writestr(name, text)
    return content.getvalue()


def upload(github, content, number=50, name="memreq-report", **more):
    size = {"size_in_bytes": len(content), "expired": False, **more}
    github.artifacts.append({"id": number, "name": name, **size})
    github.files[number] = content


@pytest.fixture
def github(monkeypatch):
    """A pull request of a fork whose run found a test over its budget."""
    monkeypatch.setattr(api_module, "BACKOFF_SECONDS", 0)
    playing = GitHub()
    playing.pulls.append(pull())
    upload(playing, zipped(("memreq.json", report()), ("memreq.md", "# trust me")))
    yield playing
    playing.close()


@pytest.fixture
def comment(github, tmp_path, monkeypatch, capsys):
    """(exit code, stdout, stderr) of `memreq comment` where an event started it."""

    def run(*options, event=None, **environment):
        path = tmp_path / "event.json"
        path.write_text(json.dumps(event or event_of()))
        given = {
            "GITHUB_EVENT_PATH": str(path),
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_API_URL": github.url,
            "GITHUB_GRAPHQL_URL": f"{github.url}/graphql",
            "GITHUB_SERVER_URL": "https://github.example",
            **environment,
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        code = main(["comment", *options])
        printed = capsys.readouterr()
        assert TOKEN not in printed.out + printed.err
        assert "sig=secret" not in printed.out + printed.err
        assert printed.err.count("\n") == bool(code)
        return code, printed.out, printed.err

    return run


def bodies(github, number=7):
    return [each["body"] for each in github.comments[number]]


def foreign(body, number=1, login="mallory"):
    return {"id": number, "body": body, "user": {"login": login}}


def test_the_report_becomes_a_comment_in_our_words(github, comment):
    code, out, _ = comment()
    assert (code, out) == (0, f"commented on pull request #7 as {LOGIN}\n")
    [body] = bodies(github)
    assert body.startswith(f"{MARKER}\n\n### GPU memory: failed: 1 over\n")
    assert "trust me" not in body
    link = '<a href="https://github.example/octo/models/actions/runs/99">run 99</a>'
    assert f"<sub>Commit `{SHA}`, {link}, which ended with `failure" in body


def test_the_same_again_asks_for_no_change(github, comment):
    comment()
    code, out, _ = comment()
    assert (code, out) == (0, "the comment on pull request #7 is up to date\n")
    assert len(bodies(github)) == 1
    assert not github.asked("PATCH")


def test_a_later_run_updates_its_comment_wherever_it_is(github, comment):
    github.comments[7] = [foreign(f"talk {n}", n) for n in range(250)]
    comment()
    github.comments[7] += [foreign(f"more talk {n}", 300 + n) for n in range(99)]
    github.artifacts.clear()
    upload(github, zipped(("memreq.json", report(result(verdict="within")))))
    assert comment(event=event_of(conclusion="success"))[0] == 0
    [ours] = [each for each in github.comments[7] if each["user"]["login"] == LOGIN]
    assert "### GPU memory: passed: 1 within" in ours["body"]
    assert len(github.comments[7]) == 350


@pytest.mark.parametrize(
    "others",
    [
        [foreign(f"{MARKER}\n\nall is well")],
        [foreign(f"{MARKER}\n\nall is well", login="github-actions")],
        [{"id": 1, "body": MARKER, "user": None}],
        [foreign(f"see\n{MARKER}", login=LOGIN)],
        [foreign("<!-- pytest-memreq: another -->", login=LOGIN)],
        [foreign(None, login=LOGIN)],
    ],
)
def test_a_comment_of_others_is_left_alone(github, comment, others):
    github.comments[7] = [*others]
    assert comment()[0] == 0
    assert github.comments[7][0] == others[0]
    assert len(github.comments[7]) == 2


def test_each_artifact_has_a_comment_of_its_own(github, comment):
    upload(github, zipped(("memreq.json", report(result("b")))), number=51, name="on-h100")
    comment()
    comment("--artifact", "on-h100")
    assert len(bodies(github)) == 2
    assert "<code>b</code>" in bodies(github)[1]


def test_the_last_attempt_counts(github, comment):
    upload(github, zipped(("memreq.json", report(result("newer")))), number=53)
    upload(github, zipped(("memreq.json", report(result("older")))), number=52)
    comment()
    assert "<code>newer</code>" in bodies(github)[0]


@pytest.mark.parametrize(
    ("tests", "conclusion", "said"),
    [
        ([result(verdict="within")], "failure", "**The run ended with `failure` all"),
        ([result(verdict="within")], "success", ""),
        ([result()], "failure", ""),
        ([result()], "success", "**The run ended with `success` all the same:** its w"),
        ([result(verdict="within")], "timed_out", "`timed_out` all the same"),
    ],
)
def test_where_run_and_report_contradict_the_comment_says_so_first(
    github, comment, tests, conclusion, said
):
    github.artifacts.clear()
    upload(github, zipped(("memreq.json", report(*tests))))
    comment(event=event_of(conclusion=conclusion))
    top = bodies(github)[0].partition("###")[0]
    assert (said in top) if said else top == f"{MARKER}\n\n"


def test_a_run_cut_short_is_not_called_passed(github, comment):
    github.artifacts.clear()
    upload(github, zipped(("memreq.json", report(result(verdict="within"), status="incomplete"))))
    comment()
    assert "### GPU memory: incomplete: 1 within" in bodies(github)[0]


@pytest.mark.parametrize(
    ("file", "is_named"),
    [
        ({"filename": "memreq-baseline.json"}, True),
        ({"filename": "ci/memreq-baseline.json", "patch": None}, True),
        ({"filename": "pyproject.toml", "patch": '-"a" = "1 GiB"\n+"a" = "9 GiB"'}, True),
        ({"filename": "a/pyproject.toml"}, True),
        ({"filename": ".github/workflows/memreq.yml"}, True),
        ({"filename": "test_a.py", "patch": "@@ -1 +1 @@\n+@mark.max_gpu_memory('9 GiB')"}, True),
        ({"filename": "tox.ini", "patch": "-pytest\n+pytest --memreq-unchecked=skip"}, True),
        ({"filename": "test_a.py", "patch": " @mark.max_gpu_memory('9 GiB')\n+x"}, False),
        ({"filename": "model.py", "patch": "+hidden = 4096"}, False),
        ({"filename": "image.png"}, False),
    ],
)
@pytest.mark.parametrize("has_report", [True, False])
def test_files_that_may_say_what_is_allowed_are_named_first(
    github, comment, file, is_named, has_report
):
    github.changed = [*({"filename": f"model_{n}.py"} for n in range(100)), file]
    if not has_report:
        github.artifacts.clear()
    assert comment()[0] == 0
    top = bodies(github)[0].partition("###")[0]
    name = f"`{file['filename']}`"
    said = f"\n\n**Changed here, and may say what is allowed:** {name}\n\n"
    assert top == (f"{MARKER}{said}" if is_named else f"{MARKER}\n\n")


def test_of_many_such_files_some_are_named(github, comment):
    github.changed = [{"filename": f"memreq-{n}|<b>@octocat" + "x" * 999} for n in range(13)]
    assert comment()[0] == 0
    [line] = [line for line in bodies(github)[0].splitlines() if line.startswith("**Changed")]
    assert re.fullmatch(r"\*\*Changed[^`]*(`memreq-\d\|<b>@[^`]*`(, )?){10} and 3 more", line)
    assert len(line) < 1500


def symlink():
    member = zipfile.ZipInfo("memreq.json")
    member.external_attr = 0o120777 << 16
    return zipped((member, "/etc/passwd"))


def twice():
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zipped(("memreq.json", report(result(verdict="within"))), ("memreq.json", report()))


def lying():
    """Says that it is small; more comes out."""
    content = zipped(("memreq.json", b" " * 2**22))
    return content.replace((2**22).to_bytes(4, "little"), (100).to_bytes(4, "little"))


BROKEN = {
    "bomb": (lambda: zipped(("memreq.json", b" " * 2**26 + b"{}")), "packed`"),
    "lying": (lying, "artifact memreq-report"),
    "many": (lambda: zipped(*((f"{n}", "") for n in range(10_001))), "more than 10,000 members"),
    "climbing": (lambda: zipped(("../memreq.json", report())), "has no memreq.json at its top"),
    "deeper": (lambda: zipped(("a/memreq.json", report())), "has no memreq.json at its top"),
    "twice": (twice, "has memreq.json 2 times"),
    "symlink": (symlink, "is not a plain file"),
    "lzma": (lambda: zipped(("memreq.json", report()), method=zipfile.ZIP_LZMA), "unusual way"),
    "empty": (lambda: b"", "is no zip that can be read"),
    "html": (lambda: b"<html>" * 99, "is no zip that can be read"),
    "torn": (lambda: zipped(("memreq.json", report()))[:-40], "is no zip that can be read"),
    "no-json": (lambda: zipped(("memreq.json", "{")), "memreq.json: is not JSON"),
    "nan": (lambda: zipped(("memreq.json", report().replace(b"0.0", b"NaN"))), "has NaN"),
    "deep": (lambda: zipped(("memreq.json", "[" * 2**17)), "nested too deep"),
    "future": (lambda: zipped(("memreq.json", '{"format": 99}')), "made by a newer version"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_of_a_report_that_cannot_be_used_the_comment_says_why(github, comment, name):
    make, said = BROKEN[name]
    github.artifacts.clear()
    upload(github, make())
    assert comment()[0] == 0
    [body] = bodies(github)
    assert "### GPU memory: no report" in body
    assert said in body


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "another"}, "it left no artifact memreq-report"),
        ({"expired": True}, "its artifact memreq-report is expired"),
        ({"size_in_bytes": 2**40}, "artifact memreq-report is larger than 256.00 MiB"),
    ],
)
def test_of_a_report_that_is_not_there_too(github, comment, change, said):
    github.artifacts[0].update(change)
    assert comment()[0] == 0
    assert said in bodies(github)[0]
    assert ZIP not in github.asked("GET")


def test_hostile_names_stay_text_and_the_comment_short(github, comment):
    tests = [result(f"{n}{name}", reason=name) for n, name in enumerate(NAMES * 40)]
    github.artifacts.clear()
    upload(github, zipped(("memreq.json", report(*tests))))
    assert comment()[0] == 0
    [body] = bodies(github)
    assert 50_000 < len(body.encode()) <= 60_000
    assert not re.search(r"<(img|script)|^::|\x1b", body, re.MULTILINE)
    assert "that need a look" in body


@pytest.mark.parametrize(
    ("event", "pulls", "said"),
    [
        (event_of(event="push"), [pull()], "run 99 was for push: no pull request to comment on"),
        (event_of(event="merge_group"), [pull()], "was for merge_group"),
        (event_of(head_sha=OLD_SHA), [pull()], f"is stale: it was of {OLD_SHA}, pull request #7"),
        (event_of(), [], "no open pull request is of its branch any more"),
        (event_of(head_repository=None), [pull()], "no open pull request"),
        (event_of(), [pull(name="another-fork")], "no open pull request"),
        (event_of(), [{**pull(), "head": {**pull()["head"], "repo": None}}], "no open pull"),
        (event_of(head_branch="a&b=c"), [pull()], "no open pull request"),
    ],
)
def test_where_there_is_nothing_to_comment_on_it_says_so(github, comment, event, pulls, said):
    github.pulls[:] = pulls
    code, out, _ = comment(event=event)
    assert code == 0
    assert said in out
    assert not github.asked("POST")


def test_the_number_of_a_pull_request_in_the_data_is_not_trusted(github, comment):
    raw = {**json.loads(report()), "pull_request": 8, "number": 8}
    github.artifacts.clear()
    content = zipped(("memreq.json", json.dumps(raw)), ("pr_number.txt", "8"))
    upload(github, content)
    github.pulls += [pull(8, sha=OLD_SHA, ref="other")]
    assert comment()[0] == 0
    assert not bodies(github, 8)


@pytest.mark.parametrize("name", ["bigger", "a&state=all", "ünï/cödé #1", "x;y", "a%20b"])
def test_branches_are_found_by_any_name(github, comment, name):
    github.pulls[:] = [pull(ref=name)]
    assert comment(event=event_of(head_branch=name))[0] == 0
    assert len(bodies(github)) == 1


def test_two_pull_requests_of_one_branch_cannot_be_told_apart(github, comment):
    github.pulls.append(pull(8))
    code, _, err = comment()
    assert code == 2
    assert "pull requests #7, #8 are of one branch" in err
    assert not github.asked("POST")


@pytest.mark.parametrize(
    ("where", "trouble"),
    [
        (("GET", PULLS), (502, {}, b"<html>")),
        (("GET", COMMENTS), (500, {}, {"message": "Server Error"})),
        (("GET", ARTIFACTS), (503, {"Retry-After": "0"}, {})),
        (("GET", PULLS), (403, {"Retry-After": "0"}, {"message": "secondary rate limit"})),
        (("POST", COMMENTS), (403, {"Retry-After": "0"}, {"message": "secondary rate limit"})),
        (("POST", COMMENTS), (429, {"Retry-After": "0"}, {})),
        (("POST", "/graphql"), (502, {}, b"")),
        (("GET", "/50"), (500, {}, b"")),
    ],
)
def test_what_passes_is_asked_again(github, comment, where, trouble):
    github.troubles[where] += [trouble, trouble]
    assert comment()[0] == 0
    assert len(bodies(github)) == 1


@pytest.mark.parametrize(
    ("where", "trouble", "said"),
    [
        (("GET", PULLS), (404, {}, {"message": "Not Found"}), "404: there is no such thing, or"),
        (("GET", PULLS), (401, {}, {"message": "Bad credentials"}), "token is not valid: Bad cr"),
        (("GET", PULLS), (403, {"x-ratelimit-remaining": "0"}, {}), "has asked too often"),
        (("GET", PULLS), (301, {"Location": "http://192.0.2.1/"}, {}), "/pulls: 301"),
        (("GET", PULLS), (200, {}, b"<html>"), "the answer is no JSON"),
        (("GET", PULLS), (200, {}, {"message": "hm"}), "the answer is no list"),
        (("GET", PULLS), (200, {}, [{"number": "7"}]), "is not understood: pulls"),
        (("GET", PULLS), (422, {}, {"message": "\x1b[31m\n::error::x"}), r"422: \x1b[31m\n::err"),
        (("GET", ARTIFACTS), (200, {}, []), "has no 'artifacts'"),
        (("GET", ZIP), (302, {"Location": "file:///etc/passwd"}, {}), "to no https address"),
        (("GET", ZIP), (410, {}, {}), "/zip: 410"),
        (("POST", "/graphql"), (200, {}, {"errors": []}), "has no 'data'"),
        (("POST", COMMENTS), (403, {}, {"message": "locked"}), "the token may not do this"),
    ],
)
def test_a_refusal_is_one_line_and_cannot_tell(github, comment, where, trouble, said):
    github.troubles[where] += [trouble] * 9
    code, _, err = comment()
    assert code == 2
    assert err.startswith("memreq: cannot tell: ")
    assert said in err
    assert not bodies(github)


def test_a_comment_that_may_have_been_made_is_not_made_twice(github, comment):
    github.troubles["POST", COMMENTS] += [(502, {}, b"")] * 2
    code, _, err = comment()
    assert code == 2
    assert "/comments: 502" in err
    assert len([path for path in github.asked("POST") if path == COMMENTS]) == 1


def test_a_server_that_stays_broken_is_given_up(github, comment):
    github.troubles["GET", PULLS] += [(502, {}, b"")] * 99
    code, _, err = comment()
    assert code == 2
    assert "/pulls: 502" in err
    assert len(github.asked("GET")) == 1 + api_module.TRIES_AGAIN


def test_nobody_there_is_one_line(comment, github):
    github.close()
    code, _, err = comment()
    assert code == 2
    assert "no answer" in err


def test_only_the_api_sees_the_token(github, comment):
    comment()
    for _, path, headers in github.requests:
        assert headers.get("Authorization") == (None if path == "/50" else f"Bearer {TOKEN}")


def test_a_dry_run_prints_and_posts_nothing(github, comment):
    code, out, _ = comment("--dry-run")
    assert code == 0
    assert out.startswith(f"{MARKER}\n\n### GPU memory: failed")
    assert not github.asked("POST")


@pytest.mark.parametrize(
    ("options", "event", "environment", "said"),
    [
        ((), None, {"GITHUB_TOKEN": ""}, "GITHUB_TOKEN is not set"),
        ((), None, {"GITHUB_TOKEN": f"{TOKEN}\nX: y"}, "GITHUB_TOKEN: is no token"),
        ((), None, {"GITHUB_EVENT_PATH": ""}, "GITHUB_EVENT_PATH is not set"),
        ((), None, {"GITHUB_EVENT_PATH": "/nowhere"}, "/nowhere: is not there"),
        ((), None, {"GITHUB_API_URL": "http://192.0.2.1"}, "is no https address"),
        ((), None, {"GITHUB_API_URL": "api.github.com"}, "is no https address"),
        ((), {"pull_request": {}}, {}, "is no event of workflow_run"),
        ((), {"workflow_run": {"id": "9"}}, {}, "has no"),
        (("--artifact", "-->"), None, {}, "--artifact"),
        (("--artifact", "a\nb"), None, {}, "--artifact"),
        (("--pr", "7"), None, {}, "--pr"),
    ],
)
def test_a_mistake_is_one_line_and_usage(github, comment, options, event, environment, said):
    code, _, err = comment(*options, event=event, **environment)
    assert code == 4
    assert said in err
    assert not github.requests


LIGHT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "pytest", "_pytest", "pluggy", "tomli", "numpy"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from pytest_memreq.cli import main
raise SystemExit(main(["comment"]))
"""


def test_it_runs_without_torch_and_pytest(github, tmp_path):
    (tmp_path / "event.json").write_text(json.dumps(event_of()))
    environment = {
        **os.environ,
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_API_URL": github.url,
        "GITHUB_GRAPHQL_URL": f"{github.url}/graphql",
    }
    command = [sys.executable, "-c", LIGHT]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "GPU memory: failed" in bodies(github)[0]
