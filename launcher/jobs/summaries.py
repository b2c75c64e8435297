"""What lists show of everything of one kind in a home, without reading again what has not changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from launcher.errors import BadInputError, RecordError
from launcher.jobs.record import Record
from launcher.jobs.store import Store


class Summary(NamedTuple):
    """A line of a list.

    Attributes:
        created, modified: in seconds since 1970.
        values: what was made of the record; shared by all who ask, so nobody changes it.
        record: the record; None where nothing will happen to it any more.
    """

    name: str
    created: float
    modified: float
    values: Mapping[str, Any]
    record: Record | None = None


_Signature = tuple[int, int, int]
_read: dict[tuple[Path, Callable[..., Any]], dict[str, tuple[_Signature, Summary | None]]] = {}
_lock = threading.Lock()


def summaries(store: Store[Any], summarize: Callable[[Any], Mapping[str, Any]]) -> list[Summary]:
    """Return a summary of everything that can be read, in no order.

    A record is read when its file has changed since this process read it last; others cost a look at the file.

    Args:
        store: the home and the kind.
        summarize: makes the values of a record; the same function for the same kind.
    """
    with _lock:
        before = _read.get((store.path, summarize), {})
    entries: dict[str, tuple[_Signature, Summary | None]] = {}
    for name, signature in _signatures(store):
        entry = before.get(name)
        entries[name] = entry if entry and entry[0] == signature else (signature, _summary(store, name, summarize))
    with _lock:
        _read[store.path, summarize] = entries
    return [summary for _, summary in entries.values() if summary is not None]


def _signatures(store: Store[Any]) -> list[tuple[str, _Signature]]:
    """Return by name what changes with a record: each is replaced by a rename, so its inode and its time do."""
    signatures = []
    try:
        with os.scandir(store.path) as folders:
            names = [entry.name for entry in folders if not entry.name.startswith(".") and not entry.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        try:
            status = os.stat(f"{store.path}/{name}/{store.kind.record_file}")  # noqa: PTH116 - ten times as fast
        except OSError:
            continue  # a claim, or removed at this moment
        signatures.append((name, (status.st_ino, status.st_mtime_ns, status.st_size)))
    return signatures


def _summary(store: Store[Any], name: str, summarize: Callable[[Any], Mapping[str, Any]]) -> Summary | None:
    """Return a summary; None where the record cannot be read, so that it is not tried each time."""
    try:
        record: Record = store.load(name)
    except (RecordError, BadInputError):
        return None
    return Summary(name, record.created, record.modified, summarize(record), None if record.terminal else record)
