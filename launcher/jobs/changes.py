"""Marks of what changed after it had ended: the index of a home looks at no other ended record again.

A mark is an empty file with the name of the job. Whoever writes makes it before the record and under the job's lock;
the index takes it before it reads the record. So a process that is killed in between leaves a mark too many, never one
too few.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

INDEX_LOCK_FILE = "index.lock"
"""Below the home; held by the process that writes the index. A home without it has none, and needs no marks."""

_FOLDER = ".changed"
_TAKEN = ".taken"  # no name of a job has a dot


def mark_changed(home: Path, path: Path, name: str) -> None:
    """Have the index read a record again.

    A mark that cannot be made is no error: the index is only a shorter way to the records, and looks at some of those
    that have ended each time.

    Args:
        path: the folder of all of the kind.
    """
    if not (home / INDEX_LOCK_FILE).exists():
        return
    with contextlib.suppress(OSError):
        folder = path / _FOLDER
        folder.mkdir(exist_ok=True)
        (folder / name).touch()


def marked_names(path: Path) -> set[str]:
    """Return the names that have a mark, those included whose mark was taken by a process that died."""
    try:
        return {name.removesuffix(_TAKEN) for name in os.listdir(path / _FOLDER)}  # noqa: PTH208 - names are enough
    except OSError:
        return set()


def take_marks(path: Path) -> set[str]:
    """Take all marks and return their names; those that are made from now on are new ones.

    Raises:
        OSError: the folder cannot be written.
    """
    names = marked_names(path)
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # it was taken before, by a process that died
            (path / _FOLDER / name).rename(path / _FOLDER / f"{name}{_TAKEN}")
    return names


def drop_taken_marks(path: Path, names: set[str]) -> None:
    """Remove marks that were taken, when the index is written."""
    for name in names:
        with contextlib.suppress(OSError):
            (path / _FOLDER / f"{name}{_TAKEN}").unlink()
