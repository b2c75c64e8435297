"""The files that hold what is in the embedded S3's objects: written once, never changed, and removed when left over.

Whoever writes a file holds a ``flock`` on it until the index refers to it. A file that nobody holds and the index does
not know is what a killed process left.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EBADF)


class NewContent:
    """A file that is being written and belongs to no object yet; its ``flock`` says that a process is writing it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = 0
        self.settled = False
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def name(self) -> str:
        """Its name in the index."""
        return self.path.name

    @property
    def md5(self) -> str:
        """In hexadecimal digits, of all that was written."""
        return self._md5.hexdigest()

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append ``chunk``; errors of the disk are OSErrors."""
        view = memoryview(chunk)
        self._md5.update(view)
        self.size += len(view)
        while len(view):
            view = view[self.file.write(view) :]

    def append(self, path: Path) -> None:
        """Append the content of a file, which does not count for ``md5``."""
        buffer = memoryview(bytearray(_CHUNK))
        with path.open("rb", buffering=0) as source:
            while count := source.readinto(buffer):
                chunk = buffer[:count]
                self.size += count
                while len(chunk):
                    chunk = chunk[self.file.write(chunk) :]

    def measure(self) -> None:
        """Take size and digest of the content that the file has already."""
        with open(self.file.fileno(), "rb", closefd=False) as reader:
            reader.seek(0)
            self._md5 = hashlib.file_digest(reader, lambda: hashlib.md5(usedforsecurity=False))
            self.size = reader.tell()


class Contents:
    """The files below ``root``: ``incoming`` while they are written, ``objects`` once the index refers to them.

    Args:
        known: returns the names of all files that the index refers to.
    """

    def __init__(self, root: Path, indexed: Callable[[], set[str]]) -> None:
        self._incoming = root / "incoming"
        self._settled = root / "objects"
        self._known = indexed
        self._swept = False

    def path(self, name: str) -> Path:
        """Return where a settled file lies."""
        return self._settled / name[:2] / name

    @contextmanager
    def new(self, source: Path | None = None, *, link: bool = False) -> Iterator[NewContent]:
        """Begin a file, empty or with the content of ``source``; it is gone at the end unless it was settled.

        Args:
            link: share the file ``source`` itself, where that is possible and nobody else has a name for it.
        """
        if not self._swept:
            self._incoming.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._incoming.mkdir(exist_ok=True)
            self._sweep_incoming()
            self._swept = True
        new = self._linked(source) if source is not None and link else None
        if new is None:
            new = self._created()
        try:
            if source is not None and not new.size:
                with source.open("rb") as reader:
                    while chunk := reader.read(_CHUNK):
                        new.write(chunk)
            yield new
        finally:
            if not new.settled:
                new.path.unlink(missing_ok=True)
            new.file.close()

    def settle(self, new: NewContent) -> None:
        """Move a file to where the index will find it; called within the transaction that refers to it."""
        os.fchmod(new.file.fileno(), 0o444)
        target = self.path(new.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        new.path.rename(target)
        new.path = target
        new.settled = True

    def discard(self, names: Iterable[str]) -> None:
        """Remove settled files that the index no longer refers to."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def clean(self) -> int:
        """Remove every file that the index does not refer to and no process is writing; return their number."""
        if not self._settled.exists():
            return 0
        removed = self._sweep_incoming()
        candidates = {path.name: path for path in self._settled.glob("??/*")}
        held: list[tuple[Path, int]] = []
        try:
            for name in candidates.keys() - self._known():
                descriptor = _try_lock(candidates[name])
                if descriptor is not None:
                    held.append((candidates[name], descriptor))
            # Whoever settled one of them meanwhile let go of its lock after the index had it: ask once more.
            indexed = self._known() if held else set()
            for path, _ in held:
                if path.name not in indexed:
                    path.unlink(missing_ok=True)
                    removed += 1
        finally:
            for _, descriptor in held:
                os.close(descriptor)
        return removed

    def _sweep_incoming(self) -> int:
        removed = 0
        for path in self._incoming.iterdir():
            descriptor = _try_lock(path)
            if descriptor is not None:
                path.unlink(missing_ok=True)
                os.close(descriptor)
                removed += 1
        return removed

    def _created(self) -> NewContent:
        while True:
            path = self._incoming / os.urandom(16).hex()
            file = path.open("xb", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return NewContent(path, file)
            file.close()  # swept before it was locked

    def _linked(self, source: Path) -> NewContent | None:
        """Return content that is the file ``source`` under a second name; None where the file system cannot."""
        source = source.resolve(strict=True)
        file = source.open("rb", buffering=0)
        shared = source.is_relative_to(self._settled)
        try:
            if not shared and os.fstat(file.fileno()).st_nlink > 1:
                file.close()
                return None
            fcntl.flock(file, fcntl.LOCK_EX)
            path = self._incoming / os.urandom(16).hex()
            os.link(source, path)
        except OSError as error:
            file.close()
            if error.errno in _NO_LINK:
                return None
            raise
        content = NewContent(path, file)
        if shared:
            content.size = os.fstat(file.fileno()).st_size
        else:
            content.measure()
        return content


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the file's lock; None where another process holds it, or the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
