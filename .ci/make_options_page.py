"""Write the tables of ``docs/options.md`` from the one table of options: ``launcher/sdk/options.py``.

    python .ci/make_options_page.py

Each table stands between two marks in the page; the text around them is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from launcher.requests.members import MEMBERS, Member
from launcher.sdk.options import ESTIMATOR_OPTIONS, FIT_OPTIONS, INPUT_OPTIONS, Option

PAGE = Path(__file__).resolve().parents[1] / "docs" / "options.md"


def taken(options: Iterable[Option]) -> str:
    """Return the table of the options that do something."""
    rows = [
        (f"`{option.name}`", option.here, _code(option.member))
        for option in options
        if option.accepted is None and not option.noted
    ]
    return _table(("argument", "here", "member of the request"), rows)


def noted(options: Iterable[Option]) -> str:
    """Return the table of the options that mean nothing on one machine."""
    rows = [(f"`{option.name}`", option.advice, _code(option.member)) for option in options if option.noted]
    return _table(("argument", "why it has no effect", "member of the request"), rows)


def refused(options: Iterable[Option]) -> str:
    """Return the table of the options that raise."""
    rows = [
        (f"`{option.name}`", ", ".join(f"`{value!r}`" for value in option.accepted), option.advice)
        for option in options
        if option.accepted is not None
    ]
    return _table(("argument", "accepted", "what to do instead"), rows)


def members() -> str:
    """Return the table of the members of CreateTrainingJob."""
    rows = [
        (
            f"`{row.path}`",
            _accepted(row),
            row.instead,
        )
        for row in MEMBERS.values()
    ]
    return _table(("member", "accepted", "what to do instead, or why it has no effect"), rows)


def _accepted(row: Member) -> str:
    """Return the values that are accepted, in a few words."""
    if row.noted:
        return "any, with a warning"
    return "any" if row.accepted is None else ", ".join(f"`{value!r}`" for value in row.accepted) or "none"


TABLES: dict[str, Callable[[], str]] = {
    "estimator": lambda: taken(ESTIMATOR_OPTIONS),
    "noted": lambda: noted((*ESTIMATOR_OPTIONS, *FIT_OPTIONS)),
    "raise": lambda: refused((*ESTIMATOR_OPTIONS, *FIT_OPTIONS)),
    "training-input": lambda: taken(INPUT_OPTIONS),
    "training-input-raise": lambda: refused(INPUT_OPTIONS),
    "members": members,
}


def with_tables(page: str) -> str:
    """Return the page with each table as it is now."""
    for name, table in TABLES.items():
        marks = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        parts = marks.split(page)
        if len(parts) != 4:
            raise SystemExit(f"{PAGE}: there are {len(parts) // 3} places for the table '{name}', not one")
        page = f"{parts[0]}{parts[1]}{table()}{parts[2]}{parts[3]}"
    return page


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
