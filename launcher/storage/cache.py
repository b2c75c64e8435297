"""Objects of S3 that were fetched before, kept as files below ``LAUNCHER_HOME/cache`` and hard-linked into jobs.

An entry is a file and a note that describes it. Entries appear whole, by rename, under a name made
of endpoint, bucket, key, ETag and size. A job gets a link, in one step, so an entry may be removed at any time. The
process that downloads a file holds its lock: other processes wait for it and use its file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.paths import is_open_at

_READ_ONLY = 0o444


@dataclass(frozen=True)
class ObjectVersion:
    """What tells one content of an object from every other.

    Attributes:
        endpoint: the address of the S3, ``aws`` for the real one.
        etag: without quotation marks.
        size: in bytes.
    """

    endpoint: str
    bucket: str
    key: str
    etag: str
    size: int

    @property
    def name(self) -> str:
        """A file name that no other version has."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class CacheEntry:
    """One file of the cache.

    Attributes:
        used: when it was last used, in seconds since 1970.
    """

    version: ObjectVersion
    used: float


class Partial:
    """A file on its way into the cache; its lock is held until ``keep`` or ``discard``, whichever comes first.

    Attributes:
        path: where the content is written.
    """

    def __init__(self, cache: Cache, version: ObjectVersion, path: Path, descriptor: int) -> None:
        self.path = path
        self.version = version
        self._cache = cache
        self._descriptor: int | None = descriptor

    def keep(self, target: Path) -> None:
        """Hand the finished file out as ``target`` and keep it as an entry; ``target``'s folder exists."""
        self.path.chmod(_READ_ONLY)
        link_or_copy(self.path, target)
        self._cache.add(self.version, self.path)
        self._close()

    def discard(self) -> None:
        """Remove the file; the next process that wants it begins anew."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Cache:
    """The files below one folder, for any number of processes at once.

    Args:
        path: the folder; it is made when it is first needed.
        max_bytes: of all entries together; the least recently used are removed first. 0 keeps nothing.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._objects = path / "objects"
        self._partial = path / "partial"
        self._max_bytes = max_bytes

    def link(self, version: ObjectVersion, target: Path) -> bool:
        """Link the entry of ``version`` to ``target``; return False where there is none.

        A file whose size or time has changed since its download is removed: a job may have written to it.
        """
        file, note = self._paths(version.name)
        try:
            noted = json.loads(note.read_text(encoding="utf-8"))
            status = file.stat()
            if [status.st_size, status.st_mtime_ns] != [version.size, noted["mtime_ns"]]:
                self._remove(version.name)
                return False
            link_or_copy(file, target)
            os.utime(note)
        except FileNotFoundError:
            return target.exists()  # removed by another process: before it was linked, or since
        except (ValueError, KeyError, TypeError):  # the note was cut off by a crash
            self._remove(version.name)
            return False
        return True

    def begin(self, version: ObjectVersion) -> Partial | None:
        """Return an empty file for the content of ``version``, locked for the caller; None while another has it."""
        self._partial.mkdir(parents=True, exist_ok=True)
        path = self._partial / version.name
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            if is_open_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                return Partial(self, version, path, descriptor)
            os.close(descriptor)  # it was kept or discarded between the opening and the lock

    def add(self, version: ObjectVersion, path: Path) -> None:
        """Make a finished file an entry, by rename, and remove what is then too much."""
        if version.size > self._max_bytes:
            path.unlink()
            return
        file, note = self._paths(version.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        values = {**asdict(version), "mtime_ns": path.stat().st_mtime_ns}
        part = note.with_name(f"{note.name}.{os.getpid()}")
        part.write_text(json.dumps(values), encoding="utf-8")
        # The file first: a note without its file would be counted, a file without a note is never looked up.
        path.replace(file)
        part.replace(note)

    def entries(self) -> list[CacheEntry]:
        """Return all entries, the least recently used first."""
        entries = []
        for note in self._objects.glob("*/*.json"):
            try:
                noted = json.loads(note.read_text(encoding="utf-8"))
                noted.pop("mtime_ns")
                entries.append(CacheEntry(ObjectVersion(**noted), note.stat().st_mtime))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # removed meanwhile, or cut off by a crash: prune() clears it away
        return sorted(entries, key=lambda entry: (entry.used, entry.version.name))

    def prune(self, max_bytes: int | None = None) -> int:
        """Remove the least recently used entries until ``max_bytes`` suffice, and what crashes have left behind.

        Args:
            max_bytes: default: the cache's own bound.
        Returns:
            How many bytes of entries were removed.
        """
        limit = self._max_bytes if max_bytes is None else max_bytes
        entries = self.entries()
        total = sum(entry.version.size for entry in entries)
        removed = 0
        for entry in entries:
            if total - removed <= limit:
                break
            self._remove(entry.version.name)
            removed += entry.version.size
        self._remove_leftovers()
        return removed

    def _remove_leftovers(self) -> None:
        """Remove files that no living process writes, and files that no note describes."""
        for path in self._partial.glob("*"):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if is_open_at(file.fileno(), path):
                    path.unlink()
        an_hour_ago = time.time() - 3600
        for path in self._objects.glob("*/*"):
            note = path if path.suffix == ".json" else path.with_suffix(".json")
            with contextlib.suppress(FileNotFoundError):
                if not (note.exists() and note.with_suffix("").exists()) and path.stat().st_ctime < an_hour_ago:
                    path.unlink()

    def _paths(self, name: str) -> tuple[Path, Path]:
        file = self._objects / name[:2] / name
        return file, file.with_suffix(".json")

    def _remove(self, name: str) -> None:
        for path in self._paths(name):
            path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, or a copy where the file system has no links between the two.

    Raises:
        OSError: neither is possible; nothing is left at ``target``.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
            raise
        try:
            shutil.copyfile(source, target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
