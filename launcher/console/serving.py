"""Answers requests for the console: whether the caller may see anything, and then a page of ``routing.py``.

Somebody waits for the first answer, which lets a browser in and is no page yet. So pages, and all that they read by,
are loaded behind it, while the browser asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlencode

from launcher.console import ROOT
from launcher.console.access import (
    HEADERS,
    cookie_name,
    cookie_of,
    is_for_console,
    is_of_another_site,
    is_right,
    token_of,
)
from launcher.console.html import command, markup
from launcher.errors import BadInputError, LauncherError
from launcher.s3_server.errors import S3Error
from launcher.s3_server.messages import Response

if TYPE_CHECKING:
    from launcher.console.routing import Pages
    from launcher.s3_server.wire import Head

_SENT_SECONDS = 0.01  # by then the first answer has gone out; to load beside it would hold it up


class Console:
    """The console of one home.

    Args:
        home: ``LAUNCHER_HOME``.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._loaded_pages: Pages | None = None
        self._lock = threading.Lock()

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
        if any(part.startswith(".") or "/" in part or not part.isprintable() for part in parts):
            return _said(404, "There is no such thing here", "No name is like that.")
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
            return self._pages().answer(parts, asked, head)
        except BadInputError as error:
            return _said(404, "There is no such thing here", str(error))
        except (LauncherError, S3Error, OSError) as error:
            return _said(500, "This cannot be shown", str(error))

    def _let_in(self, path: str, asked: Mapping[str, str], token: str) -> Response:
        """Put the token into a cookie, and go on without it in the address.

        Not by a redirect: a browser that came from another site would leave the cookie out there.
        """
        soon = threading.Timer(_SENT_SECONDS, self._pages)
        soon.daemon = True
        soon.start()
        target = path + (f"?{urlencode(asked)}" if asked else "")
        body = markup(
            '<!doctype html><meta http-equiv="refresh" content="0;url={}"><a href="{}">Go on</a>', *[target] * 2
        )
        cookie = f"{cookie_name(self._home)}={token}; Path={ROOT}; HttpOnly; SameSite=Strict"
        return Response(200, {**HEADERS, "Set-Cookie": cookie}, body.encode())

    def _pages(self) -> Pages:
        """Return what has the pages; it is loaded when it is first needed."""
        with self._lock:
            if self._loaded_pages is None:
                from launcher.console.routing import Pages

                self._loaded_pages = Pages(self._home)
            return self._loaded_pages


def _said(status: int, title: str, text: str, headers: Mapping[str, str] | None = None, hint: object = "") -> Response:
    from launcher.console import frame

    return Response(status, {**HEADERS, **(headers or {})}, frame.message(title, text, hint))
