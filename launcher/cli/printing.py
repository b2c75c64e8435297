"""How the commands print values."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

_LEAST_COLUMNS = 12


def print_json(value: Any) -> None:
    """Print JSON for scripts; times as ISO 8601."""
    print(to_json(value))


def to_json(value: Any) -> str:
    """Return JSON, indented; times as ISO 8601."""

    def encode(member: Any) -> str:
        if isinstance(member, datetime):
            return member.isoformat()
        raise TypeError(f"{type(member).__name__} is not JSON")

    return json.dumps(value, indent=2, default=encode)


def print_table(rows: Sequence[Sequence[str]], *, fit: bool = False) -> None:
    """Print rows of text in columns, the first row being the headings.

    Args:
        fit: on a terminal, shorten texts so that rows fit its width: those of the first column (names, cut in their
            middle) or of the last one (sentences, cut at their end), whichever is wider.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    long = 0 if widths[0] >= widths[-1] else len(widths) - 1
    if fit and sys.stdout.isatty():
        others = sum(widths) - widths[long] + 2 * (len(widths) - 1)
        widths[long] = min(widths[long], max(shutil.get_terminal_size().columns - others, _LEAST_COLUMNS))
    for row in rows:
        texts = [*row]
        texts[long] = _shortened(row[long], widths[long], at_end=long > 0)
        print("  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip())


def _shortened(text: str, width: int, *, at_end: bool) -> str:
    """Return a text in at most ``width`` characters; of a name both ends stay, which tell jobs apart."""
    if len(text) <= width:
        return text
    end = 0 if at_end else (width - 1) * 2 // 3
    return text[: width - 1 - end] + "\N{HORIZONTAL ELLIPSIS}" + text[len(text) - end :]
