"""Buckets of the embedded S3 by the file system: objects are linked into jobs, results renamed out of them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import ChannelError, LauncherError, MissingObjectError, OutputPathError
from launcher.storage.base import Storage, files_of_prefix, no_objects, split_s3_uri
from launcher.storage.object_store import ObjectStore, StoredObject


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

    def _find(self, uri: str, cache_path: Path) -> tuple[Path, dict[Path, StoredObject]]:
        bucket, key = split_s3_uri(uri)
        if not self._store.bucket_exists(bucket):
            raise no_objects(uri, "The specified bucket does not exist", f"launcher storage ls s3://{bucket}")
        found = self._store.head(bucket, key) if key and not key.endswith("/") else None
        if found is not None:
            target = cache_path / key.rsplit("/", 1)[-1]
            return target, {target: found}
        objects = {one.key: one for one in self._store.list(bucket, key)}
        files = files_of_prefix(uri, objects)
        if not files:
            raise no_objects(uri, "The specified key does not exist", f"launcher storage ls s3://{bucket}")
        return cache_path, {cache_path / name: objects[one] for name, one in files.items()}

    def put_file(self, source: Path, uri: str) -> None:
        """Rename the file into the store."""
        self._put(source, uri, move=True)

    def copy_file(self, source: Path, uri: str) -> None:
        """Copy the file into the store."""
        self._put(source, uri, move=False)

    def download(self, uri: str, target: Path) -> None:
        """Copy the object's content."""
        bucket, key = split_s3_uri(uri)
        found = self._store.head(bucket, key) if self._store.bucket_exists(bucket) else None
        if found is None:
            raise MissingObjectError(
                f"NoSuchKey: The specified key does not exist: {uri}.",
                f"List those there are: launcher storage ls s3://{bucket}",
            )
        part = target.with_name(target.name + ".part")
        shutil.copyfile(found.path, part)
        part.replace(target)

    def keys(self, bucket_uri: str, prefix: str) -> Iterator[str]:
        """Yield the keys that the store lists."""
        bucket = split_s3_uri(bucket_uri)[0]
        if not self._store.bucket_exists(bucket):
            raise MissingObjectError(
                f"NoSuchBucket: The specified bucket does not exist: {bucket_uri}.",
                "session.default_bucket() makes the session's own.",
            )
        for one in self._store.list(bucket, prefix):
            yield one.key

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
        bucket = split_s3_uri(uri)[0]
        if not self._store.bucket_exists(bucket):
            raise OutputPathError(
                f"output path {uri}: NoSuchBucket: The specified bucket does not exist.",
                "Make it, for example with boto3 at the address that this prints: launcher storage up",
            )

    def _put(self, source: Path, uri: str, *, move: bool) -> None:
        bucket, key = split_s3_uri(uri)
        try:
            self._store.put_file(bucket, key, source, move=move)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutputPathError(
                f"{uri} cannot be written: {error.strerror}.", "Check the space of LAUNCHER_HOME."
            ) from error
        except LauncherError as error:
            raise OutputPathError(f"{uri} cannot be written: {error.aws_code}: {error.message}", error.hint) from error

    def _link(self, found: StoredObject, target: Path) -> None:
        """Make ``target`` the object's file, by rename; a copy where a link cannot be, as on another file system."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.samefile(found.path):
            return
        part = target.with_name(f".{target.name}.launcher-part")
        part.unlink(missing_ok=True)
        try:
            os.link(found.path, part)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                raise ChannelError(
                    f"s3://{found.bucket}/{found.key} cannot be read: {error.strerror}.",
                    "Try again: it was just replaced.",
                ) from error
            shutil.copyfile(found.path, part)
        part.replace(target)
