"""The embedded S3's store: buckets and objects as files and one index, shared by any number of processes.

An object's content is a file that never changes, under a name that says nothing about the key; the index says which
key it belongs to. An object appears, changes and goes with one transaction of the index, so a process that is killed
leaves the old object or the new one.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from launcher.s3_server.contents import Contents, NewContent
from launcher.s3_server.errors import S3Error
from launcher.s3_server.index import Index, disk_errors
from launcher.s3_server.names import check_bucket_name, check_key, no_such_key

DEFAULT_CONTENT_TYPE = "binary/octet-stream"
_PAGE = 1000
_CHUNK = 1 << 20
_DETAILS = ("metadata", "headers", "tags", "checksums", "parts", "part_checksums")
_ALL_DETAILS = (*_DETAILS, "upload")
_COLUMNS = "bucket, key, size, etag, modified, content_type, content, details"


class StoredObject(NamedTuple):
    """One object as the index knows it.

    Attributes:
        etag: without quotes.
        modified: seconds since 1970.
        path: the content: a file that never changes, mode 0444. It goes when the object is replaced or deleted; a hard
            link or a mount of it stays.
        headers: what else a client gave and gets back, such as ``Cache-Control``.
        checksums: base64 by algorithm (``CRC32``); ``type`` is ``FULL_OBJECT`` or ``COMPOSITE``.
        parts: the sizes of the parts that it was uploaded in; empty when it came in one piece.
        part_checksums: base64 for each of the parts, by the algorithm of ``checksums``; empty where there are none.
        upload: the id of the upload that it was completed from, so that a client may complete it again.
    """

    bucket: str
    key: str
    size: int
    etag: str
    modified: float
    content_type: str
    path: Path
    metadata: dict[str, str]
    headers: dict[str, str]
    tags: dict[str, str]
    checksums: dict[str, str]
    parts: tuple[int, ...]
    part_checksums: tuple[str, ...]
    upload: str

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


class Listing(NamedTuple):
    """One page: objects and common prefixes, together in the order of keys.

    Attributes:
        next_after: the key after which the next page begins; None on the last page.
    """

    objects: list[StoredObject]
    prefixes: list[str]
    next_after: str | None


Check = Callable[[StoredObject | None], None]


class ObjectStore:
    """Buckets and objects below ``root``; opening it writes nothing, the first write makes the folder.

    Every method may be called from any thread and any process at once.

    Raises:
        S3Error: of every method, with S3's code: NoSuchBucket, NoSuchKey, ..., and ``InsufficientStorage`` when
            the disk is full, in which case nothing has changed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._index = Index(root)
        self._contents = Contents(root, self._known_contents)

    # Buckets

    def create_bucket(self, name: str) -> None:
        """Make a bucket; one that is there already stays as it is."""
        check_bucket_name(name)
        with self.settling() as index:
            index.execute("INSERT OR IGNORE INTO buckets VALUES (?, ?)", (name, time.time()))

    def bucket_exists(self, name: str) -> bool:
        """Return whether there is such a bucket."""
        with self.reading() as index:
            return index.execute("SELECT 1 FROM buckets WHERE name = ?", (name,)).fetchone() is not None

    def list_buckets(self) -> list[tuple[str, float]]:
        """Return name and time of creation of each bucket, by name."""
        with self.reading() as index:
            return index.execute("SELECT name, created FROM buckets ORDER BY name").fetchall()

    def usage(self) -> list[tuple[str, int, int]]:
        """Return name, number of objects and their bytes of each bucket, by name."""
        with self.reading() as index:
            return index.execute(
                "SELECT name, count(key), coalesce(sum(size), 0) FROM buckets LEFT JOIN objects ON bucket = name"
                " GROUP BY name ORDER BY name"
            ).fetchall()

    def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket and the uploads that were begun in it."""
        with self.settling() as index:
            self.need_bucket(index, name)
            if index.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (name,)).fetchone():
                raise S3Error(
                    "BucketNotEmpty",
                    "The bucket you tried to delete is not empty",
                    f"s3://{name}",
                    f"Delete its objects first: launcher storage rm --recursive s3://{name}/",
                )
            uploads = "SELECT id FROM uploads WHERE bucket = ?"
            left = index.execute(f"SELECT content FROM parts WHERE upload IN ({uploads})", (name,)).fetchall()
            index.execute(f"DELETE FROM parts WHERE upload IN ({uploads})", (name,))
            index.execute("DELETE FROM uploads WHERE bucket = ?", (name,))
            index.execute("DELETE FROM buckets WHERE name = ?", (name,))
        self.discard(content for (content,) in left)

    def need_bucket(self, index: sqlite3.Connection, name: str) -> None:
        """Raise NoSuchBucket, with the nearest name there is, unless the bucket exists."""
        if index.execute("SELECT 1 FROM buckets WHERE name = ?", (name,)).fetchone():
            return
        names = [row[0] for row in index.execute("SELECT name FROM buckets ORDER BY name")]
        from difflib import get_close_matches  # only for this

        near = get_close_matches(name, names, 1)
        here = f"Buckets here: {', '.join(names[:5]) or 'none'}. To make this one: launcher storage mb s3://{name}"
        hint = f"Did you mean s3://{near[0]}?" if near else here
        raise S3Error("NoSuchBucket", "The specified bucket does not exist", f"s3://{name}", hint)

    # Objects

    def head(self, bucket: str, key: str) -> StoredObject | None:
        """Return the object, None where there is no such key."""
        encoded = check_key(bucket, key)
        with self.reading() as index:
            stored = self._find(index, bucket, encoded)
            if stored is None:
                self.need_bucket(index, bucket)
            return stored

    def get(self, bucket: str, key: str) -> StoredObject:
        """Return the object; a key that is not there is NoSuchKey."""
        stored = self.head(bucket, key)
        if stored is None:
            raise no_such_key(bucket, key)
        return stored

    @contextmanager
    def open(self, bucket: str, key: str) -> Iterator[tuple[StoredObject, BinaryIO]]:
        """Open an object for reading; what was opened stays readable when the object is replaced or deleted."""
        while True:
            stored = self.get(bucket, key)
            try:
                file = stored.path.open("rb", buffering=0)
            except FileNotFoundError:
                # Replaced between the index and the file, unless the index still says the same.
                if self.head(bucket, key) == stored:
                    raise self._damaged(stored) from None
                continue
            with file:
                if os.fstat(file.fileno()).st_size != stored.size:
                    raise self._damaged(stored)
                yield stored, file
            return

    def list(self, bucket: str, prefix: str = "", start_after: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose key begins with ``prefix`` and comes after ``start_after``, in UTF-8 order."""
        after: str | None = start_after
        while after is not None:
            page = self.list_page(bucket, prefix, after=after)
            yield from page.objects
            after = page.next_after

    def list_page(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = _PAGE
    ) -> Listing:
        """Return up to ``limit`` objects and common prefixes behind ``after``, which may be a common prefix."""
        start, lower, cut = prefix.encode(), after.encode(), delimiter.encode()
        upper = _end_of(start)
        objects: list[StoredObject] = []
        prefixes: list[str] = []
        if cut and after.startswith(prefix) and after.endswith(delimiter) and len(after) > len(prefix):
            lower = _end_of(lower)
            inclusive = True
        else:
            inclusive = start > lower
            lower = max(start, lower)
        with self.reading() as index:
            self.need_bucket(index, bucket)
            last = after
            while True:
                question = (
                    f"SELECT {_COLUMNS} FROM objects WHERE bucket = ? AND key {'>=' if inclusive else '>'} ?"
                    " AND key < ? ORDER BY key LIMIT ?"
                )
                room = limit - len(objects) - len(prefixes)
                with closing(index.execute(question, (bucket, lower, upper, room + 1))) as rows:
                    inclusive = False
                    for row in rows:
                        if len(objects) + len(prefixes) == limit:
                            return Listing(objects, prefixes, last)
                        key: bytes = row[1]
                        place = key.find(cut, len(start)) if cut else -1
                        if place >= 0:
                            common = key[: place + len(cut)]
                            last = common.decode()
                            prefixes.append(last)
                            lower, inclusive = _end_of(common), True
                            break
                        objects.append(self._object(row))
                        last, lower = objects[-1].key, key
                    else:
                        return Listing(objects, prefixes, None)

    def put(
        self,
        bucket: str,
        key: str,
        content: NewContent,
        *,
        etag: str = "",
        content_type: str = DEFAULT_CONTENT_TYPE,
        details: Mapping[str, Any] | None = None,
        check: Check | None = None,
        also: Callable[[sqlite3.Connection], None] | None = None,
    ) -> StoredObject:
        """Make ``content`` the object at ``key``, instead of what was there.

        Args:
            etag: the MD5 of the content where empty.
            details: ``metadata``, ``headers``, ``tags``, ``checksums``, ``parts`` of the object.
            check: gets the present object, and raises where it may not be replaced.
            also: makes further changes in the same transaction.
        """
        encoded = check_key(bucket, key)
        row = (
            bucket,
            encoded,
            content.size,
            etag or content.md5,
            time.time(),
            content_type or DEFAULT_CONTENT_TYPE,
            content.name,
            json.dumps({name: value for name, value in (details or {}).items() if value}),
        )
        with self.settling(content) as index:
            self.need_bucket(index, bucket)
            old = self._find(index, bucket, encoded)
            if check is not None:
                check(old)
            index.execute(f"INSERT OR REPLACE INTO objects ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            if also is not None:
                also(index)
        if old is not None:
            self.discard([old.path.name])
        return self._object(row)

    def put_file(
        self,
        bucket: str,
        key: str,
        source: Path,
        *,
        move: bool,
        content_type: str = DEFAULT_CONTENT_TYPE,
        metadata: Mapping[str, str] | None = None,
    ) -> StoredObject:
        """Make the file ``source`` the object at ``key``.

        Args:
            move: take the file itself, without a copy where it lies on the store's file system; it is gone afterwards.
        """
        self._need_bucket_now(bucket, key)
        with self.content(source, link=move) as content:
            stored = self.put(
                bucket, key, content, content_type=content_type, details={"metadata": dict(metadata or {})}
            )
        if move:
            source.unlink()
        return stored

    def put_open(
        self, bucket: str, key: str, source: BinaryIO, *, content_type: str = DEFAULT_CONTENT_TYPE
    ) -> StoredObject:
        """Make the rest of an open file the object at ``key``."""
        self._need_bucket_now(bucket, key)
        with self.content() as content:
            while chunk := source.read(_CHUNK):
                content.write(chunk)
            return self.put(bucket, key, content, content_type=content_type)

    def copy(
        self,
        source: tuple[str, str],
        bucket: str,
        key: str,
        *,
        replace: Callable[[StoredObject], Mapping[str, Any]],
        check: Check | None = None,
    ) -> StoredObject:
        """Put an object at another key without copying its content; it keeps its ETag.

        Args:
            source: bucket and key.
            replace: gets the source, raises where it may not be copied, and returns the values that the copy changes:
                ``content_type``, and details as ``put`` takes them.
        """
        with disk_errors(self.root):
            while True:
                stored = self.get(*source)
                details = {name: getattr(stored, name) for name in _DETAILS} | {"content_type": stored.content_type}
                details |= replace(stored)
                content_type = details.pop("content_type")
                try:
                    with self._contents.new(stored.path, link=True) as content:
                        return self.put(
                            bucket,
                            key,
                            content,
                            etag=stored.etag,
                            content_type=content_type,
                            details=details,
                            check=check,
                        )
                except FileNotFoundError:
                    # Replaced between the index and the file, unless the index still says the same.
                    if self.head(*source) == stored:
                        raise self._damaged(stored) from None

    def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags; content, ETag and time stay."""
        encoded = check_key(bucket, key)
        with self.settling() as index:
            self.need_bucket(index, bucket)
            answer = index.execute("SELECT details FROM objects WHERE bucket = ? AND key = ?", (bucket, encoded))
            row = answer.fetchone()
            if row is None:
                raise no_such_key(bucket, key)
            details = json.dumps(json.loads(row[0]) | {"tags": dict(tags)})
            index.execute("UPDATE objects SET details = ? WHERE bucket = ? AND key = ?", (details, bucket, encoded))

    def delete(self, bucket: str, key: str, check: Check | None = None) -> bool:
        """Remove an object; return whether there was one."""
        encoded = check_key(bucket, key)
        with self.settling() as index:
            self.need_bucket(index, bucket)
            old = self._find(index, bucket, encoded)
            if check is not None:
                check(old)
            index.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, encoded))
        if old is not None:
            self.discard([old.path.name])
        return old is not None

    # What multipart uploads need as well

    @contextmanager
    def content(self, source: Path | None = None, *, link: bool = False) -> Iterator[NewContent]:
        """Begin new content, empty or with that of ``source``; it is gone at the end unless it was put.

        Args:
            link: share the file ``source`` itself, where that is possible and nobody else has a name for it.
        """
        with disk_errors(self.root), self._contents.new(source, link=link) as new:
            yield new

    def contents(self) -> Iterator[tuple[str, str, int, str, str, tuple[int, ...]]]:
        """Yield bucket, key, size, ETag, name of the content and sizes of the parts of all that is stored."""
        for bucket, _ in self.list_buckets():
            try:
                for stored in self.list(bucket):
                    yield bucket, stored.key, stored.size, stored.etag, stored.path.name, stored.parts
            except S3Error as error:
                if error.code != "NoSuchBucket":  # it was deleted meanwhile
                    raise
        with self.reading() as index:
            rows = index.execute(
                "SELECT bucket, key, number, size, etag, content FROM parts JOIN uploads ON uploads.id = upload"
            ).fetchall()
        for bucket, key, number, size, etag, content in rows:
            yield bucket, f"{key.decode()} (part {number} of an upload)", size, etag, content, ()

    def refers_to(self, content: str) -> bool:
        """Return whether an object or a part has that content now."""
        return content in self._known_contents()

    def content_path(self, name: str) -> Path:
        """Return where the content of that name lies."""
        return self._contents.path(name)

    @contextmanager
    def settling(self, *contents: NewContent) -> Iterator[sqlite3.Connection]:
        """Lend the index for changes that all happen, or none; new content that they refer to is settled with them."""
        try:
            with self._index.transaction() as index:
                yield index
                for content in contents:
                    self._contents.settle(content)
        except Exception:
            # Rolled back for certain. An interrupt may come after the commit, and then clean() knows better.
            self.discard(content.name for content in contents if content.settled)
            raise

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend the index for reading; before the first write, an empty one."""
        return self._index.reading()

    def discard(self, names: Iterable[str]) -> None:
        """Remove content that the index no longer refers to."""
        self._contents.discard(names)

    def clean(self) -> int:
        """Remove all content that nothing refers to and no process is writing; return the number of files."""
        with disk_errors(self.root):
            return self._contents.clean()

    def close(self) -> None:
        """Close what is open; the store can be used again."""
        self._index.close()

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _known_contents(self) -> set[str]:
        with self.reading() as index:
            return {name for (name,) in index.execute("SELECT content FROM objects UNION SELECT content FROM parts")}

    def _need_bucket_now(self, bucket: str, key: str) -> None:
        check_key(bucket, key)
        with self.reading() as index:
            self.need_bucket(index, bucket)

    def _find(self, index: sqlite3.Connection, bucket: str, key: bytes) -> StoredObject | None:
        row = index.execute(f"SELECT {_COLUMNS} FROM objects WHERE bucket = ? AND key = ?", (bucket, key)).fetchone()
        return None if row is None else self._object(row)

    def _object(self, row: tuple[Any, ...]) -> StoredObject:
        bucket, key, size, etag, modified, content_type, content, details = row
        shown: dict[str, Any] = {"metadata": {}, "headers": {}, "tags": {}, "checksums": {}}
        shown |= {"parts": (), "part_checksums": (), "upload": ""}
        if details != "{}":
            # A newer version may have kept details that this one does not know.
            shown |= {name: value for name, value in json.loads(details).items() if name in _ALL_DETAILS}
            for name in ("parts", "part_checksums"):
                shown[name] = tuple(shown[name])
        return StoredObject(
            bucket, key.decode(), size, etag, modified, content_type, self.content_path(content), **shown
        )

    def _damaged(self, stored: StoredObject) -> S3Error:
        return S3Error(
            "InternalError",
            f"its content, {stored.path}, is missing, or is not {stored.size} bytes long",
            stored.uri,
            "Upload the object again.",
        )


def _end_of(prefix: bytes) -> bytes:
    """Return what is above every key that begins with ``prefix``; UTF-8 has no byte 0xFF."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"\xff"
