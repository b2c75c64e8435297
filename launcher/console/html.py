"""HTML as text that escapes whatever is put into it: ``markup("<b>{}</b>", name)``. Pages are functions that return it.

Names, log lines and values of hyperparameters come from jobs, which may hold anything. Only ``markup`` and ``Markup``
make HTML of text, and their first argument is always a literal of this package.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from launcher.console import ROOT
from launcher.terminal import neutralised

EMPTY = Markup()
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STATIC = Path(__file__).parent
_GOOD, _BAD = ("Completed", "InService", "SUCCEEDED", "VALID"), ("Failed", "FAILED")
_STILL = ("Stopped", "Deleting", "INVALID", "DISABLED")


def markup(template: str, *values: object) -> Markup:
    """Return a literal with ``{}`` where escaped values go; HTML among the values stays HTML."""
    return Markup(template).format(*values)


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Return parts side by side; what is no HTML is escaped."""
    return Markup(between).join(parts)  # type: ignore[arg-type]


def static_text(name: str) -> str:
    """Return the stylesheet or the script."""
    return (_STATIC / name).read_text(encoding="utf-8")


def link(text: object, *parts: str, query: str = "") -> Markup:
    """Return a link to a page of the console; the parts of its path are quoted."""
    return markup('<a href="{}">{}</a>', path_to(*parts) + query, text)


def path_to(*parts: str) -> str:
    """Return the path of a page."""
    return "/".join((ROOT, *(quote(part, safe="") for part in parts)))


def status_mark(status: str) -> Markup:
    """Return a status with a dot that says at a glance how it is."""
    kind = "good" if status in _GOOD else "bad" if status in _BAD else "still" if status in _STILL else "busy"
    return markup('<span class="status {}">{}</span>', kind, status)


def moment(seconds: float | None, *, whole: bool = False) -> Markup:
    """Return a time of this machine's zone.

    Args:
        seconds: since 1970.
        whole: with its date, also where it was today.
    """
    if seconds is None:
        return markup("–")
    local = datetime.fromtimestamp(seconds).astimezone()
    shape = "%H:%M:%S" if not whole and abs(time.time() - seconds) < 43_200 else "%Y-%m-%d %H:%M"
    return markup(
        '<time datetime="{}" title="{}">{}</time>', local.isoformat("T", "seconds"), local, f"{local:{shape}}"
    )


def duration(seconds: float) -> str:
    """Return a span of time in its two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{max(0.0, seconds):.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min" if whole < 86_400 else f"{whole / 86_400:.1f} days"


def size(count: float) -> str:
    """Return a number of bytes in a unit that leaves few digits."""
    power = 0
    while count >= 1024 and power < len(_UNITS) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.0f} {_UNITS[power]}" if not power or count >= 100 else f"{count:.1f} {_UNITS[power]}"


def number(value: float | None) -> str:
    """Return a value as a person reads it; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:.5g}"


def log_line(line: str) -> str:
    """Return a line of a log without control sequences."""
    return neutralised(line, colours=False).replace("^[[", "")


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Return a list of names and values; those without a value are left out."""
    rows = joined(
        markup("<div><dt>{}</dt><dd>{}</dd></div>", name, value) for name, value in pairs if value not in ("", None)
    )
    return markup('<dl class="facts">{}</dl>', rows) if rows else EMPTY


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, classes: str = "") -> Markup:
    """Return a table; a heading that begins with ``#`` stands above numbers."""
    styles = [markup(' class="number"') if name.startswith("#") else EMPTY for name in headings]
    names = [name.removeprefix("#") for name in headings]
    head = joined(markup('<th scope="col"{}>{}</th>', *pair) for pair in zip(styles, names, strict=True))
    body = joined(
        markup(
            "<tr>{}</tr>",
            joined(markup('<td{} data-label="{}">{}</td>', *cell) for cell in zip(styles, names, row, strict=True)),
        )
        for row in rows
    )
    return markup(
        '<div class="wide"><table class="{}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>',
        classes, head, body,
    )  # fmt: skip


def section(title: str, *content: object, anchor: str = "", aside: object = EMPTY) -> Markup:
    """Return a part of a page under its heading; nothing where it has no content."""
    inner = joined(content)
    if not inner:
        return EMPTY
    place = anchor or title.lower().replace(" ", "-")
    return markup('<section id="{}"><h2>{}<span class="aside">{}</span></h2>{}</section>', place, title, aside, inner)


def command(text: str) -> Markup:
    """Return a command of the shell."""
    return markup('<code class="command">{}</code>', text)
