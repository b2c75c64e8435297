"""The embedded S3's index: one SQLite file in WAL mode, which any number of threads and processes share."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.s3_server.errors import S3Error

_LOCK_SECONDS = 60
_MAX_IDLE = 16  # connections that wait to be used again; each takes two descriptors
_SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE buckets (name TEXT PRIMARY KEY, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (
    bucket TEXT NOT NULL, key BLOB NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, modified REAL NOT NULL,
    content_type TEXT NOT NULL, content TEXT NOT NULL, details TEXT NOT NULL, PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
CREATE TABLE uploads (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key BLOB NOT NULL, created REAL NOT NULL, details TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX uploads_by_key ON uploads (bucket, key, id);
CREATE TABLE parts (
    upload TEXT NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, modified REAL NOT NULL,
    content TEXT NOT NULL, checksums TEXT NOT NULL, PRIMARY KEY (upload, number)
) WITHOUT ROWID;
PRAGMA user_version = {_SCHEMA_VERSION};
"""


class Index:
    """The index of the store below ``root``. Where there is none, a reader sees an empty index, and nothing is
    written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._path = root / "index.sqlite"
        self._idle: list[sqlite3.Connection] = []
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def exists(self) -> bool:
        """Return whether anything was ever written."""
        return self._path.exists()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the index; before the first write, an empty one."""
        if self.exists():
            with disk_errors(self.root), self._connection() as connection:
                yield connection
        else:
            empty = sqlite3.connect(":memory:")
            empty.executescript(_SCHEMA)
            yield empty
            empty.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the index for changes that all happen, or none; one process at a time."""
        with disk_errors(self.root), self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._owner != os.getpid():  # a fork may not use its parent's connections
                self._idle, self._owner = [], os.getpid()
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            if not self.exists():
                self._create()
            connection = sqlite3.connect(
                self._path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA synchronous = NORMAL")
            if connection.execute("PRAGMA user_version").fetchone()[0] > _SCHEMA_VERSION:
                raise S3Error(
                    "InternalError", "this store was made by a newer version", str(self.root), "Upgrade the launcher."
                )
        try:
            yield connection
        finally:
            with self._lock:
                spare = len(self._idle) >= _MAX_IDLE
                if not spare:
                    self._idle.append(connection)
            if spare:
                connection.close()

    def close(self) -> None:
        """Close what is open; the store can be used again."""
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle = []

    def _create(self) -> None:
        """Make the store; its index appears by rename, ready for use."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.root / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.exists():
                return
            new = self.root / "index.new"
            new.unlink(missing_ok=True)
            connection = sqlite3.connect(new)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_SCHEMA)
            finally:
                connection.close()
            new.replace(self._path)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn errors of the disk, or of the index below ``root``, into an S3Error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(root) from error
        if error.filename is None or not Path(os.fsdecode(error.filename)).is_relative_to(root):
            raise
        raise S3Error("InternalError", str(error), str(root), "Check its permissions.") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise _full(root) from error
        busy = code == sqlite3.SQLITE_BUSY
        raise S3Error(
            "SlowDown" if busy else "InternalError",
            f"the index does not work: {error}",
            str(root / "index.sqlite"),
            "Another process holds it; try again." if busy else "Check the file's permissions and its disk.",
        ) from error


def _full(root: Path) -> S3Error:
    return S3Error(
        "InsufficientStorage",
        "there is no space left on the disk; nothing was changed",
        str(root),
        f"Make room: df -h {root}",
    )
