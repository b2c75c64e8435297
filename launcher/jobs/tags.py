"""The tags of what lives in a home: those of its request until they change, then a file beside its record."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from launcher.errors import RecordError
from launcher.jobs.changes import mark_changed
from launcher.jobs.folder import is_locked
from launcher.jobs.record import Record
from launcher.jobs.store import Store

TAGS_FILE = "tags.json"
_LOCK = "tags.lock"


def read_tags(store: Store[Any], name: str, record: Record) -> dict[str, str]:
    """Return the tags, in the order in which they were given.

    Args:
        record: what is written of it, with the tags that it was made with.
    Raises:
        RecordError: the file is damaged.
    """
    changed = changed_tags(store, name)
    return tags_of(record) if changed is None else changed


def changed_tags(store: Store[Any], name: str) -> dict[str, str] | None:
    """Return the tags where they have changed since something was made; None where they have not.

    Raises:
        RecordError: the file is damaged.
    """
    path = f"{store.path}/{name}/{TAGS_FILE}"
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - Search asks for each of ten thousand
            values = json.load(file)
        return {str(key): str(value) for key, value in values.items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, AttributeError) as error:
        raise RecordError(f"the tags of {store.kind.noun} '{name}' cannot be read: {path}.", "Remove it.") from error


def tags_of(record: Record) -> dict[str, str]:
    """Return the tags that something was made with."""
    if "Tags" in record.request:
        return {tag["Key"]: tag["Value"] for tag in record.request["Tags"]}
    return {str(key): str(value) for key, value in record.spec.get("tags", ())}


def tags_are_changing(store: Store[Any], name: str) -> bool:
    """Return whether a process changes the tags at this moment.

    Raises:
        OSError: that cannot be looked at.
    """
    return is_locked(store.folder(name).path / _LOCK)


def change_tags(
    store: Store[Any], name: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]
) -> Mapping[str, str]:
    """Write other tags in place of those there are, whoever else does meanwhile; return them.

    Raises:
        BadInputError: nothing has this name, or ``change`` refuses.
        OSError: they cannot be written.
    """
    record = store.load(name)
    folder = store.folder(name).path
    with (folder / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tags = change(read_tags(store, name, record))
        mark_changed(store.home, store.path, name)
        part = folder / f"{TAGS_FILE}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump(dict(tags), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / TAGS_FILE)
    return tags
