"""Storages, a URI scheme a module; ``storage_for`` finds the storage of a URI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from launcher.errors import ChannelError, StorageError, UnsupportedOptionError
from launcher.paths import make_private
from launcher.settings import S3Settings, aws_names, home_path, s3_settings
from launcher.storage.base import Storage
from launcher.storage.buckets import BucketStorage
from launcher.storage.file import FileStorage
from launcher.storage.own_s3 import check_bucket_name

__all__ = [
    "BucketStorage",
    "FileStorage",
    "Storage",
    "bucket_storage",
    "embedded_path",
    "recorded_storage",
    "s3_needed_for",
    "storage_for",
    "to_uri",
    "which_s3",
]


def to_uri(location: str) -> str:
    """Return ``location`` as a URI: a plain path becomes ``file://`` and an absolute path.

    Raises:
        ChannelError: the URI names another machine, or no bucket.
        UnsupportedOptionError: this version neither reads nor writes the scheme.
    """
    scheme, separator, rest = location.partition("://")
    if not separator or scheme == "file":
        return FileStorage.uri_of(location)
    if scheme == "s3":
        try:
            check_bucket_name(rest.partition("/")[0])
        except StorageError as error:
            raise ChannelError(f"'{location}': {error.words}", f"Write s3://BUCKET/KEY. {error.hint}") from error
        return location
    raise UnsupportedOptionError(
        f"'{location}': unknown scheme '{scheme}://'.", "Give a path, a file:// URI or an s3:// URI."
    )


def storage_for(uri: str, s3: S3Settings | None = None) -> Storage:
    """Return the storage that reads and writes ``uri``; the URI comes from ``to_uri``.

    Args:
        uri: ``file://`` or ``s3://``.
        s3: which S3 is meant; default: what the environment says.
    """
    if not uri.startswith("s3://"):
        to_uri(uri)
        return FileStorage()
    return bucket_storage(s3 or which_s3())


def recorded_storage(uri: str, s3: Mapping[str, Any] | None) -> Storage:
    """Return the storage of a URI whose ``s3://`` means what it meant when something was recorded.

    Args:
        s3: as ``S3Settings.to_dict`` wrote it; None for something that had no S3.
    """
    return storage_for(uri, None if s3 is None else S3Settings.from_dict(dict(s3)))


def bucket_storage(s3: S3Settings) -> BucketStorage:
    """Return the buckets of an S3, the embedded one or another."""
    return _embedded(embedded_path(home_path())) if s3.kind == "embedded" else _s3_storage(s3)


def which_s3(endpoint_url: str | None = None) -> S3Settings:
    """Return which S3 is meant, as ``s3_settings``; the URL of our own server, up or ended, means the embedded S3.

    Raises:
        SettingsError: as ``s3_settings``.
    """
    settings = s3_settings(endpoint_url)
    if settings.kind == "endpoint":
        from launcher.s3_server import service

        if service.is_ours(home_path(), settings.endpoint_url or ""):
            return s3_settings("embedded")
    return settings


def s3_needed_for(uris: Iterable[str]) -> dict[str, str | None] | None:
    """Return which S3 the code of a job means, for its record; None where it needs none.

    Args:
        uris: all that the job reads and writes.
    Raises:
        SettingsError: as ``s3_settings``.
    """
    needed = any(uri.startswith("s3://") for uri in uris) or aws_names() is not None
    return which_s3().to_dict() if needed else None


def embedded_path(home: Path) -> Path:
    """Return the folder of the embedded S3."""
    return home / "s3"


@lru_cache
def _embedded(root: Path) -> BucketStorage:
    from launcher.s3_server.store import ObjectStore
    from launcher.storage.embedded import EmbeddedStorage

    if root.is_dir():
        make_private(root)
    return EmbeddedStorage(ObjectStore(root))


@lru_cache
def _s3_storage(s3: S3Settings) -> BucketStorage:
    from launcher.storage.s3 import S3Storage

    return S3Storage(s3)
