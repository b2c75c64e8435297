"""One URI scheme per module; ``storage_for`` finds the one that a URI belongs to."""

from __future__ import annotations

from functools import lru_cache

from launcher.errors import UnsupportedOptionError
from launcher.settings import S3Settings, s3_settings
from launcher.storage.base import Storage
from launcher.storage.file import FileStorage
from launcher.storage.s3_uris import split_s3_uri

__all__ = ["FileStorage", "Storage", "storage_for", "to_uri"]


def to_uri(location: str) -> str:
    """Return ``location`` as a URI: a plain path becomes ``file://`` and an absolute path.

    Raises:
        ChannelError: the URI names another machine, or no bucket.
        UnsupportedOptionError: the scheme is none that this version reads or writes.
    """
    scheme, separator, _ = location.partition("://")
    if not separator or scheme == "file":
        return FileStorage.uri_of(location)
    if scheme == "s3":
        _check_s3(location)
        return location
    raise UnsupportedOptionError(
        f"'{location}': unknown scheme '{scheme}://'.",
        "Give a path, a file:// or an s3:// URI, for example file:///data/train.",
    )


def storage_for(uri: str) -> Storage:
    """Return the storage that reads and writes ``uri``; the URI comes from ``to_uri``."""
    if to_uri(uri).startswith("s3://"):
        return _s3_storage(s3_settings())
    return FileStorage()


def _check_s3(uri: str) -> None:
    if s3_settings().kind == "embedded":
        raise UnsupportedOptionError(
            f"'{uri}': without an endpoint this version reads and writes folders, not S3.",
            "Give a path, or name the S3: export LAUNCHER_S3_ENDPOINT=http://HOST:PORT",
        )
    split_s3_uri(uri)


@lru_cache(maxsize=8)
def _s3_storage(settings: S3Settings) -> Storage:
    """Return the one storage for these settings: its client and connections are dear to make."""
    from launcher.storage.s3 import S3Storage

    return S3Storage(settings)
