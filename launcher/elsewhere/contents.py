"""Files by their content: what goes to another machine, and where it lies there.

A folder is a list of entries with digests; its own digest names it. So both sides know by a few names what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.errors import ChannelError
from launcher.paths import make_private

CHUNK_BYTES = 1 << 20
_MTIME = 315532800  # 1980: a file in the store with another time was written to
_SETTLED_SECONDS = 2.0  # a file that changed just now may change again without another time
# As a person's own files: a job that must not write to them is kept from it by its mounts.
_FILE_MODE, _PROGRAM_MODE = 0o644, 0o755


@dataclass(frozen=True)
class Entry:
    """A file of a folder; one without a digest is an empty folder.

    Attributes:
        path: relative to the folder, with ``/``.
        digest: SHA-256 of the content, in hex.
        size: in bytes.
        is_program: whether it may be executed.
    """

    path: str
    digest: str = ""
    size: int = 0
    is_program: bool = False


@dataclass(frozen=True)
class Listing:
    """All files of a folder, or a lone file, with their places on this machine.

    Attributes:
        entries: in the order of their paths.
        places: of each file's content, by digest.
        lone: the name of the file, where it is a lone one; else empty.
    """

    entries: tuple[Entry, ...]
    places: dict[str, Path]
    lone: str = ""

    @property
    def digest(self) -> str:
        """What names the folder on the other machine."""
        return entries_digest(self.entries)


def entries_digest(entries: Sequence[Entry]) -> str:
    """Return what names a folder with these files."""
    rows = [[entry.path, entry.digest, entry.size, entry.is_program] for entry in entries]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


class Digests:
    """The digests of files that were read before, so that an unchanged input is not read again.

    Args:
        path: of the file that keeps them; one that cannot be read or written is done without.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> Digests:
        with contextlib.suppress(OSError, sqlite3.Error):
            make_private(self._path.parent)
            self._database = sqlite3.connect(self._path, timeout=5)
            self._database.execute("CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, version TEXT, digest)")
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.commit()
            self._database.close()

    def of(self, path: Path) -> tuple[str, os.stat_result]:
        """Return the digest of a file, and its status.

        Raises:
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            version = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
            if digest := self._recorded(path, version):
                return digest, status
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if self._database is not None and time.time() - status.st_ctime > _SETTLED_SECONDS:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("REPLACE INTO digests VALUES (?, ?, ?)", (str(path), version, digest))
        return digest, status

    def _recorded(self, path: Path, version: str) -> str:
        if self._database is None:
            return ""
        try:
            row = self._database.execute("SELECT version, digest FROM digests WHERE path = ?", (str(path),)).fetchone()
        except sqlite3.Error:
            return ""
        return str(row[1]) if row and row[0] == version else ""


def list_contents(place: Path, digests: Digests) -> Listing:
    """Read what is at a path: a folder with everything below it, or a file. Links are followed.

    Raises:
        ChannelError: something in it cannot be read, or a link leads around in a circle.
    """
    entries, places = [], {}
    paths = [(place.name, place)] if place.is_file() else sorted(_walk(place, "", ()))
    try:
        for name, path in paths:
            if path.is_dir():
                entries.append(Entry(name))
                continue
            if not path.is_file():
                raise ChannelError(f"{path} is neither a file nor a folder.", "Only these go to another machine.")
            digest, status = digests.of(path)
            entries.append(Entry(name, digest, status.st_size, bool(status.st_mode & 0o100)))
            places[digest] = path
    except OSError as error:
        raise ChannelError(f"{error.filename or place} cannot be read: {error.strerror}.", "Check: ls -l") from error
    return Listing(tuple(entries), places, place.name if place.is_file() else "")


def _walk(folder: Path, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    real = os.path.realpath(folder)
    if real in above:
        raise ChannelError(f"{folder} leads back to a folder around it.", "Remove the link.")
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise ChannelError(f"{folder} cannot be read: {error.strerror}.", "Check: ls -l") from error
    if not children and prefix:
        yield prefix.rstrip("/"), folder
    for child in children:
        if child.is_dir():
            yield from _walk(child, f"{prefix}{child.name}/", (*above, real))
        else:
            yield f"{prefix}{child.name}", child


class Readable(Protocol):
    """What bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; empty at their end."""


class ContentStore:
    """What was sent to this machine: files by digest, and folders of links to them.

    Args:
        root: its folder; made when the first file comes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Return the digests of which no file is here."""
        return [digest for digest in dict.fromkeys(digests) if not _is_as_written(self._blob(digest))]

    def put(self, digest: str, size: int, source: Readable) -> None:
        """Take a file's content of ``size`` bytes from a stream.

        Raises:
            ChannelError: its digest is another one: it was changed while it was sent.
            EOFError: the stream ended before it.
            OSError: it cannot be written.
        """
        path = self._blob(digest)
        make_private(self._root)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{digest}.{os.getpid()}.part")
        hashed = hashlib.sha256()
        try:
            with part.open("wb") as file:
                left = size
                while left:
                    chunk = source.read(min(left, CHUNK_BYTES))
                    if not chunk:
                        raise EOFError
                    hashed.update(chunk)
                    file.write(chunk)
                    left -= len(chunk)
            if hashed.hexdigest() != digest:
                raise ChannelError("a file changed while it was sent.", "Submit the job again.")
            part.chmod(_FILE_MODE)
            os.utime(part, (_MTIME, _MTIME))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def folder(self, digest: str) -> Path | None:
        """Return the folder that ``make_folder`` made, if it is here and nobody has written to it."""
        folder = self._root / "folders" / digest
        try:
            rows = json.loads((self._root / "folders" / f"{digest}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        entries = [Entry(*row) for row in rows]
        if not folder.is_dir() or not all(_holds(folder / entry.path, entry) for entry in entries):
            return None
        count = sum(1 for _ in folder.rglob("*"))
        return folder if count == len(_names_below(entries)) else None

    def make_folder(self, entries: Sequence[Entry]) -> Path:
        """Return a folder with these files, each a link to the content that is here.

        Raises:
            ChannelError: a path leads out of the folder.
            OSError: it cannot be written, or a content is missing.
        """
        digest = entries_digest(entries)
        if (there := self.folder(digest)) is not None:
            return there
        folder = self._root / "folders" / digest
        part = folder.with_name(f"{digest}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        self.copy_to(part, entries, linked=True)
        shutil.rmtree(folder, ignore_errors=True)
        rows = [[entry.path, entry.digest, entry.size, entry.is_program] for entry in entries]
        (folder.with_name(f"{digest}.json")).write_text(json.dumps(rows), encoding="utf-8")
        try:
            part.rename(folder)
        except OSError:
            if self.folder(digest) is None:  # else another process was the first to make it
                raise
            shutil.rmtree(part, ignore_errors=True)
        return folder

    def copy_to(self, folder: Path, entries: Sequence[Entry], *, linked: bool = False) -> None:
        """Put files into a folder that is there, as copies of their own or as links.

        Raises:
            ChannelError: a path leads out of the folder.
            OSError: it cannot be written, or a content is missing.
        """
        for entry in entries:
            if entry.path.startswith("/") or ".." in entry.path.split("/"):
                raise ChannelError(f"{entry.path!r} leads out of its folder.", "Rename it.")
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not entry.digest:
                target.mkdir(exist_ok=True)
            elif linked and not entry.is_program:
                os.link(self._blob(entry.digest), target)
            else:
                shutil.copyfile(self._blob(entry.digest), target)
                if linked:
                    os.utime(target, (_MTIME, _MTIME))
                    target.chmod(_PROGRAM_MODE)

    def _blob(self, digest: str) -> Path:
        return self._root / "files" / digest[:2] / digest


def _names_below(entries: Sequence[Entry]) -> set[str]:
    names = set()
    for entry in entries:
        parts = entry.path.split("/")
        names |= {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return names


def _is_as_written(path: Path) -> bool:
    try:
        return int(path.stat().st_mtime) == _MTIME
    except OSError:
        return False


def _holds(path: Path, entry: Entry) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return not entry.digest or (int(status.st_mtime) == _MTIME and status.st_size == entry.size)
