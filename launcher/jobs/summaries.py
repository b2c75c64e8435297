"""What lists show of everything of one kind in a home, without reading again what has not changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from launcher.errors import BadInputError, RecordError
from launcher.jobs.index import signatures
from launcher.jobs.record import Record
from launcher.jobs.store import Store
from launcher.jobs.tags import changed_tags


class Summary(NamedTuple):
    """A line of a list.

    Attributes:
        created, modified: in seconds since 1970.
        values: what was made of the record; shared by all who ask, so nobody changes it.
        record: the record; None where nothing will happen to it any more.
        changed_tags: its tags where they have changed since it was made, or why they cannot be read; else None.
    """

    name: str
    created: float
    modified: float
    values: Mapping[str, Any]
    record: Record | None = None
    changed_tags: Mapping[str, str] | RecordError | None = None


_read: dict[tuple[Path, Callable[..., Any]], dict[str, tuple[str, Summary | None]]] = {}
_lock = threading.Lock()


def summaries(store: Store[Any], summarize: Callable[[Any], Mapping[str, Any]]) -> list[Summary]:
    """Return a summary of everything that can be read, in no order.

    A record is read when it has changed since this process read it last, as the index of the home knows.

    Args:
        store: the home and the kind.
        summarize: makes the values of a record; the same function for the same kind.
    Raises:
        SettingsError: the home may not be looked into.
    """
    with _lock:
        before = _read.get((store.path, summarize), {})
    entries: dict[str, tuple[str, Summary | None]] = {}
    for name, signature in signatures(store):
        entry = before.get(name)
        entries[name] = entry if entry and entry[0] == signature else (signature, _summary(store, name, summarize))
    with _lock:
        _read[store.path, summarize] = entries
    return [summary for _, summary in entries.values() if summary is not None]


def _summary(store: Store[Any], name: str, summarize: Callable[[Any], Mapping[str, Any]]) -> Summary | None:
    """Return a summary; None where the record cannot be read, so that it is not tried each time."""
    try:
        record: Record = store.load(name)
    except (RecordError, BadInputError):
        return None
    tags: Mapping[str, str] | RecordError | None
    try:
        tags = changed_tags(store, name)
    except RecordError as error:
        tags = error
    running = None if record.terminal else record
    return Summary(name, record.created, record.modified, summarize(record), running, tags)
