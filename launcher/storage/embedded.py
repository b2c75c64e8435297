"""Buckets of the embedded S3 by the file system: objects are linked into jobs, results renamed out of them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import OutputPathError, StorageError
from launcher.storage.base import Storage, files_of_prefix, no_objects, split_s3_uri
from launcher.storage.object_store import ObjectStore, StoredObject

_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP)


class EmbeddedStorage(Storage):
    """``s3://`` URIs of the launcher's own store.

    Args:
        store: the objects; each is a file that never changes, so that a link to it is as good as a copy.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def fetch(self, uri: str, cache_path: Path) -> Path:
        """Link the object, or every object of the prefix, into ``cache_path``."""
        path, objects = self._find(uri, cache_path)
        for target, found in objects.items():
            self._link(found, target)
        return path

    def locate(self, uri: str, cache_path: Path) -> tuple[Path, bool]:
        """Look the object or the prefix up."""
        path, objects = self._find(uri, cache_path)
        return path, path in objects

    def put_file(self, source: Path, uri: str) -> None:
        """Rename the file into the store."""
        self._put(source, uri, move=True)

    def copy_file(self, source: Path, uri: str) -> None:
        """Copy the file into the store."""
        self._put(source, uri, move=False)

    def download(self, uri: str, target: Path) -> None:
        """Copy the object's content."""
        part = target.with_name(target.name + ".part")
        with self._store.open(*split_s3_uri(uri)) as (_, content), part.open("wb") as copy:
            shutil.copyfileobj(content, copy, 1 << 20)
        part.replace(target)

    def keys(self, bucket_uri: str, prefix: str) -> Iterator[str]:
        """Yield the keys that the store lists."""
        return (one.key for one in self._store.list(split_s3_uri(bucket_uri)[0], prefix))

    def make_bucket(self, bucket_uri: str) -> None:
        """Make the bucket, unless it is there."""
        bucket = split_s3_uri(bucket_uri)[0]
        if not self._store.bucket_exists(bucket):
            self._store.create_bucket(bucket)

    def exists(self, uri: str) -> bool:
        """Return whether there is such an object, or any below it."""
        bucket, key = split_s3_uri(uri)
        if not self._store.bucket_exists(bucket):
            return False
        if key and self._store.head(bucket, key) is not None:
            return True
        below = key if not key or key.endswith("/") else key + "/"
        return next(self._store.list(bucket, below), None) is not None

    def check_writable(self, uri: str) -> None:
        """Refuse a bucket that is not there."""
        try:
            next(self._store.list(split_s3_uri(uri)[0]), None)
        except StorageError as error:
            raise OutputPathError(f"output path {uri}: {error.message}", error.hint) from error

    def _find(self, uri: str, cache_path: Path) -> tuple[Path, dict[Path, StoredObject]]:
        """Return the path that ``fetch`` makes, and which object each file at or below it is."""
        bucket, key = split_s3_uri(uri)
        try:
            found = self._store.head(bucket, key) if key and not key.endswith("/") else None
            if found is not None:
                target = cache_path / key.rsplit("/", 1)[-1]
                return target, {target: found}
            objects = {one.key: one for one in self._store.list(bucket, key)}
        except StorageError as error:
            raise no_objects(uri, error.words, error.hint) from error
        files = files_of_prefix(uri, objects)
        if not files:
            raise no_objects(
                uri, "no object has a key that begins so", f"List what is there: launcher storage ls s3://{bucket}"
            )
        return cache_path, {cache_path / name: objects[one] for name, one in files.items()}

    def _put(self, source: Path, uri: str, *, move: bool) -> None:
        try:
            self._store.put_file(*split_s3_uri(uri), source, move=move)
        except StorageError as error:
            raise OutputPathError(error.message, error.hint) from error

    def _link(self, found: StoredObject, target: Path) -> None:
        """Make ``target`` the object's file, by rename; a copy where a link cannot be, as on another file system."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.launcher-part")
        part.unlink(missing_ok=True)
        try:
            os.link(found.path, part)
        except FileNotFoundError:  # it was replaced since it was looked up, or is damaged, which open() says
            with self._store.open(found.bucket, found.key) as (newest, _):
                os.link(newest.path, part)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copyfile(found.path, part)
        part.replace(target)
