"""What every S3 can do besides a ``Storage``: show buckets and objects, copy and delete them."""

from __future__ import annotations

import mimetypes
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import StorageError
from launcher.storage.base import Storage
from launcher.storage.s3_uris import channel_files, split_s3_uri

UNFIT_KEYS = ("KeyTooLongError", "InvalidURI", "InvalidArgument")
"""What an S3 says of a key that it cannot take, whatever the content."""


@dataclass(frozen=True)
class S3Object:
    """One object as a listing or a HEAD describes it.

    Attributes:
        etag: without quotation marks.
        modified: in seconds since 1970.
    """

    bucket: str
    key: str
    size: int
    etag: str
    modified: float


class BucketStorage(Storage):
    """The buckets of one S3."""

    @abstractmethod
    def buckets(self) -> list[tuple[str, float]]:
        """Return name and time of creation, in seconds since 1970, of each bucket, by name."""

    @abstractmethod
    def entries(self, uri: str, delimiter: str = "") -> Iterator[S3Object | str]:
        """Yield the objects whose key begins with the URI's key, in the order of their UTF-8 bytes.

        Args:
            uri: a bucket and a prefix, which may be empty.
            delimiter: keys that share their text up to the next delimiter are listed once, as that text.
        Raises:
            StorageError: there is no such bucket.
        """

    @abstractmethod
    def head(self, uri: str) -> S3Object | None:
        """Return what is known of one object; None when there is none."""

    @abstractmethod
    def copy_all(self, copies: Mapping[str, str]) -> None:
        """Copy each object to another URI.

        Raises:
            StorageError: there is no such object or bucket.
        """

    @abstractmethod
    def delete(self, bucket: str, keys: Iterable[str]) -> None:
        """Remove objects; keys that do not exist are no error.

        Raises:
            StorageError: one may not be removed, or there is no such bucket.
        """

    def objects(self, uri: str) -> Iterator[S3Object]:
        """Yield all objects that begin with the URI's key, in the order of their keys."""
        return (entry for entry in self.entries(uri) if isinstance(entry, S3Object))

    def channel_items(self, uri: str) -> dict[str, str]:
        """Return the objects whose keys begin with the URI's, by the files that they are."""
        bucket, key = split_s3_uri(uri)
        try:
            files = channel_files(uri, self.keys(f"s3://{bucket}", key))
        except StorageError:
            files = {}
        if not files:
            self.locate(uri, Path())  # which says what is missing
        return {file: f"s3://{bucket}/{key}" for key, file in files.items()}

    def missing(self, uris: Iterable[str]) -> list[str]:
        """Ask for each object."""
        return [uri for uri in uris if self.head(uri) is None]

    def keys(self, bucket_uri: str, prefix: str) -> Iterator[str]:
        """Yield the keys of the bucket that begin with ``prefix``, in their order."""
        return (listed.key for listed in self.objects(f"{bucket_uri}/{prefix}"))


def content_type_of(path: Path) -> str:
    """Return what a file's name says about its content; nothing where it says nothing."""
    return mimetypes.guess_type(path.name)[0] or ""
