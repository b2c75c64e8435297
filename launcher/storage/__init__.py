"""One URI scheme per module; ``storage_for`` finds the one that a URI belongs to."""

from __future__ import annotations

from launcher.errors import UnsupportedOptionError
from launcher.storage.base import Storage
from launcher.storage.file import FileStorage

__all__ = ["FileStorage", "Storage", "storage_for", "to_uri"]


def to_uri(location: str) -> str:
    """Return ``location`` as a URI: a plain path becomes ``file://`` and an absolute path.

    Raises:
        ChannelError: the URI names another machine.
        UnsupportedOptionError: the scheme is none that this version reads or writes.
    """
    scheme, separator, _ = location.partition("://")
    if not separator or scheme == "file":
        return FileStorage.uri_of(location)
    if scheme == "s3":
        raise UnsupportedOptionError(
            f"'{location}': this version reads and writes folders, not S3.",
            "Give a path or a file:// URI; the layout below it is the one that S3 would have.",
        )
    raise UnsupportedOptionError(
        f"'{location}': unknown scheme '{scheme}://'.", "Give a path or a file:// URI, for example file:///data/train."
    )


def storage_for(uri: str) -> Storage:
    """Return the storage that reads and writes ``uri``; the URI comes from ``to_uri``."""
    to_uri(uri)
    return FileStorage()
