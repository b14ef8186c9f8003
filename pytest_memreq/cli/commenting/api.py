"""GitHub's REST API over urllib3: what is asked again, where the token goes, how much is read.

Loaded by `memreq comment` alone: urllib3 comes with the extra `github`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.util import Retry

from pytest_memreq.cli.commenting.answers import NoAnswerError
from pytest_memreq.reports.text import visible
from pytest_memreq.units import format_size

TRIES_AGAIN = 4
BACKOFF_SECONDS = 0.5  # then twice as long each time
MOST_WAIT_SECONDS = 60.0  # GitHub asks for a minute where it says nothing else
TIMEOUT = urllib3.Timeout(connect=10, read=60)
MOST_ANSWER_BYTES = 16 * 2**20  # a hundred comments of 65,536 characters
PER_PAGE = 100
MOST_PAGES = 100
CHUNK_BYTES = 64 * 2**10
OK = range(200, 300)
TOO_OFTEN = (403, 429)
FOUND = (301, 302, 303, 307, 308)
HINTS = {
    401: "the token is not valid",
    403: "the token may not do this, or has asked too often; see `permissions:` of the job",
    404: "there is no such thing, or the token may not see it",
    429: "the token has asked too often",
}


class _Patient(Retry):
    """Waits as GitHub's secondary rate limit asks: 403 or 429, with the seconds."""

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """What was refused for now was not done, so even a comment is posted again."""
        if has_retry_after and status_code in TOO_OFTEN:
            return bool(self.total)
        return super().is_retry(method, status_code, has_retry_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The API at `url`, as whoever the token belongs to.

    Every method raises NoAnswerError, in one line without the token, where GitHub refuses or cannot
    be reached; what a server's trouble cut short is asked again first.
    """

    url: str
    graphql_url: str
    token: str = field(repr=False)
    pool: urllib3.PoolManager = field(default_factory=urllib3.PoolManager, repr=False)

    def get(self, path: str, **query: str | int) -> Any:
        """The parsed answer."""
        return self._call("GET", self._at(path, query))[0]

    def pages(self, path: str, within: str | None = None, **query: str | int) -> Iterator[Any]:
        """The elements of a list, page by page; `within` is its name in the answer.

        A link to the next page says only that there is one: no address of the answer is followed.
        """
        for page in range(1, MOST_PAGES + 1):
            asked = self._at(path, {**query, "per_page": PER_PAGE, "page": page})
            answer, headers = self._call("GET", asked)
            found = answer if within is None else _item(answer, within, asked)
            if not isinstance(found, list):
                raise NoAnswerError(f"{asked}: the answer is no list")
            yield from found
            if 'rel="next"' not in headers.get("Link", ""):
                return
        raise NoAnswerError(f"{self.url}/{path}: has more than {MOST_PAGES} pages")

    def login(self) -> str:
        """The name under which comments appear, also of tokens that may not see their own user."""
        query = {"query": "query { viewer { login } }"}
        answer, _ = self._call("POST", self.graphql_url, query, is_repeatable=True)
        viewer = _item(_item(answer, "data", self.graphql_url), "viewer", self.graphql_url)
        return str(_item(viewer, "login", self.graphql_url))

    def post(self, path: str, content: Mapping[str, str]) -> Any:
        """Make something; not asked again, for it may have been made before the answer broke."""
        return self._call("POST", self._at(path), content, is_repeatable=False)[0]

    def patch(self, path: str, content: Mapping[str, str]) -> Any:
        """Change something; the same twice is the same."""
        return self._call("PATCH", self._at(path), content)[0]

    def download(self, path: str, most_bytes: int) -> bytes:
        """A file that the API sends elsewhere for; elsewhere never sees the token.

        Raises NoAnswerError for more than `most_bytes`.
        """
        address = self._at(path)
        status, headers, content = self._send("GET", address, most_bytes=most_bytes)
        if status in FOUND:
            address = self._elsewhere(headers.get("Location", ""), address)
            status, _, content = self._send("GET", address, most_bytes=most_bytes, has_token=False)
        _check(status, content, "GET", address)
        return content

    def _at(self, path: str, query: Mapping[str, str | int] | None = None) -> str:
        return f"{self.url}/{path}{f'?{urlencode(query)}' if query else ''}"

    def _elsewhere(self, location: str, address: str) -> str:
        scheme = urlsplit(location).scheme
        if scheme != "https" and scheme != urlsplit(self.url).scheme:
            raise NoAnswerError(f"{address}: sends for the file to no https address")
        return location

    def _call(
        self,
        method: str,
        address: str,
        content: Mapping[str, str] | None = None,
        *,
        is_repeatable: bool = True,
    ) -> tuple[Any, Mapping[str, str]]:
        status, headers, answer = self._send(method, address, content, is_repeatable=is_repeatable)
        _check(status, answer, method, address)
        try:
            return json.loads(answer), headers
        except (ValueError, RecursionError):
            raise NoAnswerError(f"{method} {_shown(address)}: the answer is no JSON") from None

    def _send(
        self,
        method: str,
        address: str,
        content: Mapping[str, str] | None = None,
        *,
        is_repeatable: bool = True,
        has_token: bool = True,
        most_bytes: int = MOST_ANSWER_BYTES,
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            response = self.pool.request(
                method,
                address,
                body=None if content is None else json.dumps(content).encode(),
                headers=self._headers(has_token=has_token),
                redirect=False,
                retries=_retries(is_repeatable=is_repeatable),
                timeout=TIMEOUT,
                preload_content=False,
            )
            with response:
                return response.status, response.headers, _read(response, most_bytes, address)
        except urllib3.exceptions.HTTPError as error:
            reason = visible(str(getattr(error, "reason", None) or error), 200)
            raise NoAnswerError(f"{method} {_shown(address)}: no answer: {reason}") from None

    def _headers(self, *, has_token: bool) -> dict[str, str]:
        told = {"User-Agent": "pytest-memreq"}
        if not has_token:
            return told
        return {
            **told,
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "X-GitHub-Api-Version": "2022-11-28",
        }


def _retries(*, is_repeatable: bool) -> Retry:
    """What never reached the server is always asked again, what may have been done only here."""
    return _Patient(
        TRIES_AGAIN,
        read=TRIES_AGAIN if is_repeatable else 0,
        allowed_methods=None if is_repeatable else ("GET",),
        status_forcelist=(500, 502, 503, 504),
        backoff_factor=BACKOFF_SECONDS,
        retry_after_max=int(MOST_WAIT_SECONDS),
        raise_on_status=False,
    )


def _read(response: urllib3.BaseHTTPResponse, most_bytes: int, address: str) -> bytes:
    read = bytearray()
    for chunk in response.stream(CHUNK_BYTES):
        read += chunk
        if len(read) > most_bytes:
            raise NoAnswerError(f"{_shown(address)}: is larger than {format_size(most_bytes)}")
    return bytes(read)


def _check(status: int, answer: bytes, method: str, address: str) -> None:
    if status in OK:
        return
    said = visible(_message(answer), 200)
    parts = [f"{method} {_shown(address)}: {status}", *filter(None, (HINTS.get(status), said))]
    raise NoAnswerError(": ".join(parts))


def _message(answer: bytes) -> str:
    """GitHub's own word for what is wrong."""
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""


def _item(answer: Any, key: str, address: str) -> Any:
    if not isinstance(answer, dict) or key not in answer:
        raise NoAnswerError(f"{_shown(address)}: the answer has no {key!r}")
    return answer[key]


def _shown(address: str) -> str:
    """Without its query: signed addresses of files have their secret there."""
    return visible(address.partition("?")[0], 200)
