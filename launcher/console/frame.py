"""What stands around every page: the head, the ways to other pages, and what a browser is told it may do with it."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from markupsafe import Markup

from launcher import __version__
from launcher.console import ROOT
from launcher.console.html import EMPTY, joined, link, markup, path_to, static_text

_PLACES = (
    ("Jobs", ""),
    ("Queue", "queue"),
    ("Endpoints", "endpoints"),
    ("Models", "models"),
    ("Storage", "storage"),
)
_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
{}</head><body{}>
<a class="skip" href="#content">Skip to the content</a>
<header><a class="mark" href="{}">launcher</a>{}</header>
<main id="content" tabindex="-1">{}</main>
<footer>{}</footer></body></html>
"""


@cache
def version_of(name: str) -> str:
    """Return what names a static file's content, so that a browser may keep it for ever."""
    return hashlib.sha256(static_text(name).encode()).hexdigest()[:12]


def page(title: str, body: Markup, *, place: str = "", events: str = "", home: object = "") -> bytes:
    """Return a page of the console.

    Args:
        place: the last part of the path that is marked among the ways to other pages.
        events: the path of its stream of events; empty for a page that does not change by itself. Without JavaScript
            such a page loads itself again every five seconds.
    """
    head = markup(
        '<link rel="stylesheet" href="{}/style.css?{}"><link rel="icon" href="data:,">'
        '<script defer src="{}/script.js?{}"></script>{}',
        *(ROOT, version_of("style.css"), ROOT, version_of("script.js")),
        markup('<noscript><meta http-equiv="refresh" content="5"></noscript>') if events else EMPTY,
    )
    ways = joined(
        markup(
            '<a href="{}"{}>{}</a>', path_to(*filter(None, [part])) + ("" if part else "/"),
            markup(' aria-current="page"') if part == place else EMPTY, name,
        )
        for name, part in _PLACES
    )  # fmt: skip
    return _whole(
        title,
        head,
        markup(' data-events="{}"', events) if events else EMPTY,
        markup("<nav>{}</nav>", ways),
        body,
        markup("<span>{}</span><span>launcher {} · reads only</span>", home, __version__),
    )


def standalone(title: str, body: Markup, footer: str) -> bytes:
    """Return a page in one file: it needs no server, has no script, and loads nothing."""
    style = static_text("style.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    head = markup(
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'sha256-{}\'">'
        "<style>{}</style>",
        digest, Markup(style),
    )  # fmt: skip
    return _whole(title, head, EMPTY, EMPTY, body, markup("<span>{}</span>", footer)).replace(
        f'<a class="mark" href="{ROOT}/">launcher</a>'.encode(), b'<span class="mark">launcher</span>'
    )


def message(title: str, text: str, hint: object = "") -> bytes:
    """Return a page that says why there is no other."""
    body = markup('<h1>{}</h1><p class="lead">{}</p><p>{}</p>', title, text, hint)
    return page(title, body + markup("<p>{}</p>", link("All jobs", "")))


def _whole(title: str, head: Markup, attributes: Markup, ways: Markup, body: Markup, footer: Markup) -> bytes:
    text = markup(_FRAME, f"{title} · launcher", head, attributes, f"{ROOT}/", ways, body, footer)
    return text.encode("utf-8", "replace")
