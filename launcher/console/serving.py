"""Answers requests for the console's pages: which page a path is, and whether the caller may see it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode

from markupsafe import Markup

from launcher.console import ROOT, frame, live, pages
from launcher.console.access import (
    HEADERS,
    cookie_name,
    cookie_of,
    is_for_console,
    is_of_another_site,
    is_right,
    token_of,
)
from launcher.console.html import command, markup, path_to, static_text
from launcher.console.reading import JOB_KINDS, job_view, listed_jobs, read_log
from launcher.errors import BadInputError, LauncherError
from launcher.s3_server.errors import S3Error
from launcher.s3_server.messages import Response
from launcher.s3_server.wire import Head

_STATIC = {"style.css": "text/css; charset=utf-8", "script.js": "text/javascript; charset=utf-8"}
_FILTERS = ("text", "kind", "status")
_LOG_BYTES = 256 << 10
_MAX_BEGIN = re.compile(r"[0-9]{1,9}")


class Console:
    """The console of one home.

    Args:
        home: ``LAUNCHER_HOME``.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def is_meant(self, head: Head) -> bool:
        """Return whether a request is for the console, and not for a bucket of that host's name."""
        return is_for_console(head)

    def refusal(self, error: S3Error, status: int) -> Response:
        """Return the answer to a request that was refused before anybody looked at it."""
        return _said(status, "This request is refused", error.words.replace("The embedded S3", "The console"))

    def answer(self, head: Head, *, is_local: bool) -> Response:
        """Answer a request; whatever goes wrong becomes a page that says so.

        Args:
            is_local: whether it came to a loopback address.
        """
        path, _, query = head.target.partition("?")
        try:
            asked = dict(parse_qsl(query, keep_blank_values=True, errors="replace", max_num_fields=20))
        except ValueError:
            return _said(400, "That is no address of the console", "Its query has too many fields.")
        parts = [unquote(part) for part in path.removeprefix(ROOT).strip("/").split("/") if part]
        if not is_local:
            return _said(403, "Only on this machine", "The console answers on a loopback address alone.")
        if head.method not in ("GET", "HEAD"):
            return _said(405, "The console only reads", "It answers GET and HEAD.", {"Allow": "GET, HEAD"})
        token = token_of(self._home)
        if "token" in asked and is_right(asked.pop("token"), token):
            return self._let_in(path, asked, token)
        if is_of_another_site(head):
            return _said(403, "Not for other sites", "A page of another site asked for this.")
        if not is_right(cookie_of(head, cookie_name(self._home)), token):
            hint = markup("This prints an address that has it: {}", command("launcher ui"))
            return _said(403, "This console asks for its token", "The address that you opened has none, or another's.",
                         hint=hint)  # fmt: skip
        try:
            return self._page(parts, asked, head)
        except BadInputError as error:
            return _said(404, "There is no such thing here", str(error))
        except (LauncherError, S3Error, OSError) as error:
            return _said(500, "This cannot be shown", str(error))

    def _let_in(self, path: str, asked: Mapping[str, str], token: str) -> Response:
        """Put the token into a cookie, and go on without it in the address.

        Not by a redirect: a browser that came from another site would leave the cookie out there.
        """
        target = path + (f"?{urlencode(asked)}" if asked else "")
        body = markup(
            '<!doctype html><meta http-equiv="refresh" content="0;url={}"><a href="{}">Go on</a>', *[target] * 2
        )
        cookie = f"{cookie_name(self._home)}={token}; Path={ROOT}; HttpOnly; SameSite=Strict"
        return Response(200, {**HEADERS, "Set-Cookie": cookie}, body.encode())

    def _page(self, parts: list[str], asked: Mapping[str, str], head: Head) -> Response:
        match parts:
            case []:
                return self._job_list(asked)
            case ["events"]:
                return _stream(live.list_events(self._home, _filters(asked), _begin(asked)))
            case [name] if name in _STATIC:
                headers = {"Content-Type": _STATIC[name], "Cache-Control": "private, max-age=31536000, immutable"}
                return Response(200, {**HEADERS, **headers}, static_text(name).encode())
            case [folder, name] if folder in JOB_KINDS:
                return self._job(folder, name)
            case [folder, name, "events"] if folder in JOB_KINDS:
                place = head.headers.get("last-event-id", asked.get("at", ""))
                return _stream(live.job_events(self._home, folder, name, place))
        raise BadInputError(f"The console has no page {path_to(*parts)[:200]}.")

    def _job_list(self, asked: Mapping[str, str]) -> Response:
        filters, begin = _filters(asked), _begin(asked)
        jobs = listed_jobs(self._home, folder=filters["kind"], text=filters["text"], status=filters["status"])
        lines = jobs[begin : begin + pages.PAGE_LINES]
        events = f"{path_to('events')}?{urlencode({**filters, 'begin': begin})}"
        return self._whole("Jobs", pages.job_list(lines, filters, len(jobs), begin), events=events)

    def _job(self, folder: str, name: str) -> Response:
        view = job_view(self._home, folder, name)
        log = read_log(view.folder, _LOG_BYTES)
        place = urlencode({"at": live.place_of(log.offsets)})
        events = "" if view.record.terminal else f"{path_to(folder, name, 'events')}?{place}"
        return self._whole(name, pages.job_page(view, log), events=events)

    def _whole(self, title: str, body: Markup, *, place: str = "", events: str = "") -> Response:
        return _shown(frame.page(title, body, place=place, events=events, home=self._home))


def _shown(text: bytes, status: int = 200) -> Response:
    return Response(status, dict(HEADERS), text)


def _said(status: int, title: str, text: str, headers: Mapping[str, str] | None = None, hint: object = "") -> Response:
    return Response(status, {**HEADERS, **(headers or {})}, frame.message(title, text, hint))


def _stream(events: Iterator[bytes]) -> Response:
    return Response(200, {**HEADERS, "Content-Type": "text/event-stream"}, parts=events, endless=True)


def _filters(asked: Mapping[str, str]) -> dict[str, str]:
    return {name: asked.get(name, "") for name in _FILTERS}


def _begin(asked: Mapping[str, str]) -> int:
    word = asked.get("begin", "0")
    return int(word) if _MAX_BEGIN.fullmatch(word) else 0
