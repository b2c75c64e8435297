"""How the commands print values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any


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


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text in columns, the first row being the headings."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
