"""Buckets of the embedded S3 by the file system: objects are linked into jobs, results renamed out of them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from launcher.errors import OutputPathError
from launcher.paths import make_private
from launcher.s3_server.errors import S3Error
from launcher.s3_server.store import ObjectStore, StoredObject
from launcher.storage.base import Sources, UnfitNameError, as_key, open_source
from launcher.storage.buckets import UNFIT_KEYS, BucketStorage, S3Object, content_type_of
from launcher.storage.own_s3 import raises_storage_errors
from launcher.storage.s3_uris import channel_files, no_objects_error, split_s3_uri

_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP)


@raises_storage_errors
class EmbeddedStorage(BucketStorage):
    """``s3://`` URIs of the launcher's own store.

    Args:
        store: the objects; each is a file that never changes, so a link is as good as a copy.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def fetch(self, uri: str, cache_path: Path) -> Path:
        """Link the object, or every object of the prefix, into ``cache_path``."""
        path, objects = self._find(uri, cache_path)
        for target, stored in objects.items():
            self._link(stored, target)
        return path

    def locate(self, uri: str, cache_path: Path) -> tuple[Path, bool]:
        """Look the object or the prefix up."""
        path, objects = self._find(uri, cache_path)
        return path, path in objects

    def put_file(self, source: Path, uri: str) -> None:
        """Rename the file into the store."""
        bucket, key = split_s3_uri(uri)
        try:
            self._store.put_file(bucket, key, source, move=True, content_type=content_type_of(source))
        except S3Error as error:
            raise OutputPathError(error.message, error.hint) from error

    def upload_all(self, files: Sources) -> None:
        """Copy each file into the store."""
        for source, uri in files.items():
            bucket, key = split_s3_uri(as_key(uri))
            with open_source(source) as file:
                try:
                    self._store.put_open(bucket, key, file, content_type=content_type_of(Path(source.name)))
                except S3Error as error:
                    kind = UnfitNameError if error.code in UNFIT_KEYS else OutputPathError
                    raise kind(error.message, error.hint) from error

    def download_all(self, files: Mapping[str, Path]) -> None:
        """Copy each object's content."""
        for uri, target in files.items():
            with self._store.open(*split_s3_uri(uri)) as (_, content):
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.launcher-part")
                with part.open("wb") as copy:
                    shutil.copyfileobj(content, copy, 1 << 20)
                part.replace(target)

    def fetch_object(self, uri: str, target: Path) -> Path:
        """Return a link to the object's file; nothing is copied."""
        stored_object = self._store.head(*split_s3_uri(uri))
        if stored_object is None:
            self.download_all({uri: target})  # which says what is missing
        else:
            self._link(stored_object, target)
        return target

    def buckets(self) -> list[tuple[str, float]]:
        """Return the buckets of the store."""
        return self._store.list_buckets()

    def entries(self, uri: str, delimiter: str = "") -> Iterator[S3Object | str]:
        """Yield what the store lists."""
        bucket, prefix = split_s3_uri(uri)
        after: str | None = ""
        while after is not None:
            page = self._store.list_page(bucket, prefix, delimiter=delimiter, after=after)
            entries: dict[str, S3Object | str] = {name: name for name in page.prefixes}
            entries |= {entry.key: _described(entry) for entry in page.objects}
            for _, entry in sorted(entries.items(), key=lambda pair: pair[0].encode()):
                yield entry
            after = page.next_after

    def head(self, uri: str) -> S3Object | None:
        """Look the object up."""
        stored = self._store.head(*split_s3_uri(uri))
        return None if stored is None else _described(stored)

    def copy_all(self, copies: Mapping[str, str]) -> None:
        """Give each content another key; nothing is copied."""
        for source, target in copies.items():
            self._store.copy(split_s3_uri(source), *split_s3_uri(target), replace=lambda _: {})

    def delete(self, bucket: str, keys: Iterable[str]) -> None:
        """Delete one after the other."""
        for key in keys:
            self._store.delete(bucket, key)

    def make_bucket(self, bucket_uri: str) -> None:
        """Make the bucket, unless it is there."""
        bucket = split_s3_uri(bucket_uri)[0]
        if not self._store.bucket_exists(bucket):
            make_private(self._store.root)
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

    def size(self, uri: str) -> int | None:
        """Return the size of the object."""
        bucket, key = split_s3_uri(uri)
        stored = self._store.head(bucket, key) if self._store.bucket_exists(bucket) else None
        return None if stored is None else stored.size

    def check_writable(self, uri: str) -> None:
        """Refuse a bucket that is not there."""
        try:
            next(self._store.list(split_s3_uri(uri)[0]), None)
        except S3Error as error:
            raise OutputPathError(f"output path {uri}: {error.message}", error.hint) from error

    def _find(self, uri: str, cache_path: Path) -> tuple[Path, dict[Path, StoredObject]]:
        """Return the path that ``fetch`` makes, and which object each file at or below it is."""
        bucket, key = split_s3_uri(uri)
        try:
            objects = {stored.key: stored for stored in self._store.list(bucket, key)}
        except S3Error as error:
            raise no_objects_error(uri, f"{error.words}. {error.hint}") from error
        files = channel_files(uri, objects)
        if list(files) == [key]:
            target = cache_path / files[key]
            return target, {target: objects[key]}
        if not files:
            raise no_objects_error(uri, f"List what is there: launcher storage ls s3://{bucket}/")
        return cache_path, {cache_path / name: objects[key] for key, name in files.items()}

    def _link(self, stored: StoredObject, target: Path) -> None:
        """Make ``target`` the object's file, by rename; a copy where a link cannot be, as on another file system."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.launcher-part")
        part.unlink(missing_ok=True)
        try:
            os.link(stored.path, part)
        except FileNotFoundError:  # it was replaced since it was looked up, or is damaged, which open() says
            with self._store.open(stored.bucket, stored.key) as (newest, _):
                os.link(newest.path, part)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copyfile(stored.path, part)
        part.replace(target)
        part.unlink(missing_ok=True)  # a rename to another name of the same file does nothing


def _described(stored: StoredObject) -> S3Object:
    return S3Object(stored.bucket, stored.key, stored.size, stored.etag, stored.modified)
