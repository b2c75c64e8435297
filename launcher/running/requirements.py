"""Packages of a job's ``requirements.txt``, installed once for the same file and interpreter and lent to every job.

An entry is a folder below ``LAUNCHER_HOME/cache/requirements``, made whole by a rename, with a note beside it. Whoever
installs holds the lock of the entry; others wait for it. A job that runs has a file in its work folder that names its
entry, which is not removed while the job is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from launcher.settings import cache_bytes, cache_folder
from launcher.trees import remove_tree

COMPLETE = ".launcher-complete"
"""What the installation leaves when it is over: without it, a folder is no entry."""

IN_USE = "requirements-in-use"
"""The file in a job's work folder that names the entry that the job uses."""

_ABANDONED_SECONDS = 24 * 3600
# A line that names a file or a folder: its content is not in the text.
_NAMES_A_FILE = re.compile(
    r"^\s*(-r|-c|-e|--requirement|--constraint|--editable)\b|^\s*[./~]|\bfile:|^\s*[^#\s]+\.(whl|zip|tar\.gz)\b", re.M
)


def is_cacheable(text: str) -> bool:
    """Return whether the text alone says what will be installed: it names no other file of the source."""
    options = re.compile(r"^\s*--(find-links|index-url|extra-index-url|trusted-host)\b.*$|^\s*-f\b.*$", re.M)
    return not _NAMES_A_FILE.search(options.sub("", text))


def entry_name(text: str, interpreter: str) -> str:
    """Return the name of the entry for a file's text and what it is installed for."""
    return hashlib.sha256(json.dumps([text, interpreter]).encode()).hexdigest()[:32]


class RequirementsCache:
    """The entries below one folder, for any number of processes at once.

    Args:
        path: the folder; it is made when it is first needed.
        max_bytes: of all entries together; the least recently used are removed first.
        jobs_path: where jobs have their folders.
    """

    def __init__(self, path: Path, max_bytes: int, jobs_path: Path) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._jobs_path = jobs_path

    def entry(self, name: str) -> Path | None:
        """Return the folder of an entry, and note that it was used; None where there is none."""
        folder = self._path / name
        try:
            os.utime(self._note(name))
        except FileNotFoundError:
            return None
        return folder if (folder / COMPLETE).exists() else None

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[bool]:
        """Try to be the one that makes an entry; yields whether this process is."""
        self._path.mkdir(parents=True, exist_ok=True)
        with (self._path / f"{name}.lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def new_folder(self) -> Path:
        """Return an empty folder to install into."""
        self._path.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="new-", dir=self._path))
        folder.chmod(0o755)
        return folder

    def add(self, name: str, folder: Path) -> Path | None:
        """Make a folder an entry; None where nothing was installed into it. Others may be removed for it."""
        if not (folder / COMPLETE).exists():
            remove_tree(folder)
            return None
        target = self._path / name
        if target.exists():  # cut off by a crash
            remove_tree(target)
        size = sum(file.lstat().st_size for file in folder.rglob("*"))
        folder.rename(target)
        self._note(name).write_text(json.dumps({"bytes": size}), encoding="utf-8")
        self.prune(self._max_bytes, name)
        return target

    def prune(self, max_bytes: int, newest: str = "") -> int:
        """Remove the least recently used entries until ``max_bytes`` suffice; return how many bytes were removed.

        Args:
            max_bytes: what may stay; entries that running jobs use stay in any case.
            newest: an entry that stays.
        """
        used = {self._read(path) for path in self._jobs_path.glob(f"*/work/{IN_USE}")} | {newest}
        removed = 0
        notes = sorted(self._path.glob("*.json"), key=lambda note: note.stat().st_mtime)
        sizes = {note.stem: self._size(note) for note in notes}
        total = sum(sizes.values())
        for name, size in sizes.items():
            if total - removed > max_bytes and name not in used:
                with self.locked(name) as alone:
                    if alone:
                        self._note(name).unlink(missing_ok=True)
                        remove_tree(self._path / name)
                        removed += size
        for folder in self._path.glob("new-*"):
            if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        return removed

    def _note(self, name: str) -> Path:
        return self._path / f"{name}.json"

    @staticmethod
    def _size(note: Path) -> int:
        try:
            return int(json.loads(note.read_text(encoding="utf-8"))["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    @staticmethod
    def _read(path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except OSError:
            return ""


def requirements_cache(jobs_path: Path) -> RequirementsCache:
    """Return the cache of this home."""
    return RequirementsCache(cache_folder() / "requirements", cache_bytes(), jobs_path)
