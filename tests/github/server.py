"""A server on this machine that plays GitHub's API, with its store of files on another port."""

import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

LOGIN = "github-actions[bot]"
TOKEN = "ghs_secret"
NOT_FOUND = (404, {}, {"message": "Not Found"})


class GitHub:
    """What the server knows; `requests` is what it was asked, `troubles` what it answers first."""

    def __init__(self):
        self.pulls = []
        self.comments = defaultdict(list)  # by number of the pull request
        self.changed = []
        self.artifacts = []
        self.files = {}  # by id of the artifact
        self.troubles = defaultdict(list)  # by (method, path)
        self.requests = []  # (method, path, headers)
        self.servers = [
            ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, answer))
            for answer in (self.answer, self.store)
        ]
        self.url, self.store_url = (f"http://127.0.0.1:{each.server_port}" for each in self.servers)
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def asked(self, method):
        return [path for verb, path, _ in self.requests if verb == method]

    def answer(self, asked):
        """(status, headers, answer) of the true API."""
        for pattern, play in ROUTES.items():
            if match := re.fullmatch(pattern, f"{asked.method} {asked.path}"):
                return play(self, asked, *map(int, match.groups()))
        return NOT_FOUND

    def store(self, asked):
        return 200, {}, self.files[int(asked.path[1:])]

    def login(self, _):
        return 200, {}, {"data": {"viewer": {"login": LOGIN}}}

    def list_pulls(self, asked):
        owner, _, ref = asked.query["head"].partition(":")
        wanted = (asked.query["state"], ref, owner)
        found = [p for p in self.pulls if (p["state"], p["head"]["ref"], p["owner"]) == wanted]
        return _page(found, asked)

    def list_files(self, asked, _):
        return _page(self.changed, asked)

    def list_comments(self, asked, number):
        return _page(self.comments[number], asked)

    def make_comment(self, asked, number):
        made = {"id": 1000 + len(self.requests), "user": {"login": LOGIN}, **asked.content}
        self.comments[number].append(made)
        return 201, {}, made

    def change_comment(self, asked, number):
        everywhere = [each for some in self.comments.values() for each in some]
        for comment in everywhere:
            if comment["id"] == number:
                comment.update(asked.content)
                return 200, {}, comment
        return NOT_FOUND

    def list_artifacts(self, asked, _):
        found = [each for each in self.artifacts if each["name"] == asked.query["name"]]
        status, headers, part = _page(found, asked)
        return status, headers, {"total_count": len(found), "artifacts": part}

    def send_artifact(self, _, number):
        return 302, {"Location": f"{self.store_url}/{number}?sig=secret"}, {}


ROUTES = {
    r"POST /graphql": GitHub.login,
    r"GET /repos/octo/models/pulls": GitHub.list_pulls,
    r"GET /repos/octo/models/pulls/(\d+)/files": GitHub.list_files,
    r"GET /repos/octo/models/issues/(\d+)/comments": GitHub.list_comments,
    r"POST /repos/octo/models/issues/(\d+)/comments": GitHub.make_comment,
    r"PATCH /repos/octo/models/issues/comments/(\d+)": GitHub.change_comment,
    r"GET /repos/octo/models/actions/runs/(\d+)/artifacts": GitHub.list_artifacts,
    r"GET /repos/octo/models/actions/artifacts/(\d+)/zip": GitHub.send_artifact,
}


def _page(found, asked):
    size, page = int(asked.query["per_page"]), int(asked.query["page"])
    # Who follows the address of a link, instead of counting, goes where nothing is.
    more = {"Link": '<http://192.0.2.1/>; rel="next"'} if page * size < len(found) else {}
    return 200, more, found[(page - 1) * size : page * size]


def _handler(github, answer):
    class Handler(BaseHTTPRequestHandler):
        def __getattr__(self, name):  # do_GET and its like
            if name.startswith("do_"):
                return self.play
            raise AttributeError(name)

        def play(self):
            url = urlsplit(self.path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            github.requests.append((self.command, url.path, dict(self.headers)))
            asked = SimpleNamespace(
                method=self.command,
                path=url.path,
                query={key: value for key, [value] in parse_qs(url.query).items()},
                content=json.loads(sent or "null"),
            )
            troubles = github.troubles[self.command, url.path]
            self.send(*(troubles.pop(0) if troubles else answer(asked)))

        def send(self, status, headers, content):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    return Handler
