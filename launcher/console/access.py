"""Who may look: somebody on this machine who has the token of the home, in the address once and in a cookie afterwards.

The token is made from the key of the home, so it stays the same from one server to the next; a new key makes a new one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.console import ROOT
from launcher.s3_server.access import home_key, is_loopback, prove
from launcher.s3_server.service import store_path

if TYPE_CHECKING:
    from launcher.s3_server.wire import Head

HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""Of every answer: a page loads nothing but the console's own style and script, and no other site gets hold of it."""


def is_for_console(head: Head) -> bool:
    """Return whether a request is for the console, and not for a bucket of that host's name."""
    path = head.target.partition("?")[0]
    return (path == ROOT or path.startswith(f"{ROOT}/")) and is_loopback(_name(head.headers.get("host", "")))


def token_of(home: Path) -> str:
    """Return what the console asks for.

    Raises:
        S3Error: the key of the home cannot be read.
    """
    return prove(home_key(store_path(home)).secret_key, "console")


def cookie_name(home: Path) -> str:
    """Return the cookie of a home: a browser sends cookies to every port, and several homes may have a console."""
    return f"launcher-console-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"


def is_right(word: str, token: str) -> bool:
    """Return whether a word is the token; it takes the same time for every word."""
    return hmac.compare_digest(word.encode("utf-8", "replace"), token.encode())


def cookie_of(head: Head, name: str) -> str:
    """Return the value of a cookie; empty where there is none."""
    for part in head.headers.get("cookie", "").split(";"):
        given, _, value = part.strip().partition("=")
        if given == name:
            return value
    return ""


def is_of_another_site(head: Head) -> bool:
    """Return whether a page of another site, or of another port of this machine, has its browser ask.

    To follow a link to the console is not that: the page that has the link does not see the answer.
    """
    site = head.headers.get("sec-fetch-site", "none")
    is_followed = head.headers.get("sec-fetch-mode") == "navigate" and head.headers.get("sec-fetch-dest") == "document"
    return site not in ("none", "same-origin") and not is_followed


def _name(host: str) -> str:
    return (host if host.endswith("]") else host.rpartition(":")[0] or host).strip("[]")


def address_of(home: Path, url: str) -> str:
    """Return the address that opens the console on a server; whoever has it can read all that is in the home."""
    return f"{url}{ROOT}/?token={token_of(home)}"
