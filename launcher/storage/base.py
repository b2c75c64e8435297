"""What the runner and the session ask of a place that keeps inputs and results."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from launcher.errors import ChannelError


class Storage(ABC):
    """Inputs and results by URI. A result appears whole, under its final name, or not at all."""

    @abstractmethod
    def fetch(self, uri: str, cache_path: Path) -> Path:
        """Return a host path with what lies at ``uri``: a file or a folder, not to be written to.

        Args:
            uri: the source.
            cache_path: a folder for a copy, where the storage cannot hand out its own; nothing else may be in it.
        Raises:
            ChannelError: there is nothing to read.
        """

    @abstractmethod
    def locate(self, uri: str, cache_path: Path) -> tuple[Path, bool]:
        """Return the path that ``fetch`` would return, and whether it is a file; makes and copies nothing.

        Raises:
            ChannelError: there is nothing to read.
        """

    @abstractmethod
    def put_file(self, source: Path, uri: str) -> None:
        """Make ``source`` the content of ``uri``; ``source`` may be moved away by this.

        Raises:
            OutputPathError: the place cannot be written.
        """

    @abstractmethod
    def copy_file(self, source: Path, uri: str) -> None:
        """Make what ``source`` holds now the content of ``uri``; ``source`` stays, and may change later.

        Raises:
            FileNotFoundError: ``source`` is gone.
            OutputPathError: the place cannot be written.
        """

    @abstractmethod
    def download(self, uri: str, target: Path) -> None:
        """Write the content of the one object at ``uri`` to ``target``, a file of the caller's own.

        Raises:
            StorageError: there is no such object.
        """

    @abstractmethod
    def keys(self, bucket_uri: str, prefix: str) -> Iterator[str]:
        """Yield the keys below ``bucket_uri`` that begin with ``prefix``, in the order of their UTF-8 bytes.

        Raises:
            StorageError: there is no such bucket.
        """

    @abstractmethod
    def make_bucket(self, bucket_uri: str) -> None:
        """Make a bucket, unless it is there already."""

    @abstractmethod
    def exists(self, uri: str) -> bool:
        """Return whether anything lies at ``uri``."""

    @abstractmethod
    def check_writable(self, uri: str) -> None:
        """Refuse a place that results could not be written to later; writes nothing.

        Raises:
            OutputPathError: it is a file, or below a file, or not writable.
        """

    def sync_folder(self, source: Path, uri: str, state: dict[str, tuple[int, int]]) -> int:
        """Copy what is new or changed below ``source`` to the same relative place below ``uri``.

        Args:
            source: a folder that a job is writing to.
            uri: the prefix that follows it.
            state: (size in bytes, mtime in ns) of what was copied last, by relative path; updated.
        Returns:
            How many files were copied.
        """
        copied = 0
        for folder, folder_names, file_names in os.walk(source):
            folder_names.sort()
            for name in sorted(file_names):
                path = Path(folder, name)
                relative = str(path.relative_to(source))
                try:
                    status = path.lstat()
                    if not stat.S_ISREG(status.st_mode) or state.get(relative) == (status.st_size, status.st_mtime_ns):
                        continue
                    self.copy_file(path, f"{uri}/{relative}")
                except FileNotFoundError:
                    continue  # the job renamed or removed it meanwhile: the next round sees what it became
                state[relative] = (status.st_size, status.st_mtime_ns)
                copied += 1
        return copied


def files_of_prefix(uri: str, keys: Iterable[str]) -> dict[str, str]:
    """Return which file each key of an S3 prefix becomes, by its path relative to the channel's folder.

    A prefix is text, as in S3: ``logs/2026`` is the folder of that name and, where there is none, ``logs/2026-01.csv``.

    Args:
        uri: ``s3://bucket/prefix``.
        keys: all that begin with the prefix.
    Returns:
        Key by relative path.
    Raises:
        ChannelError: two keys cannot both be files of one folder, or a key is no path.
    """
    prefix = split_s3_uri(uri)[1]
    found = [key for key in keys if not key.endswith("/")]  # such a key is how a console shows an empty folder
    folder = prefix if not prefix or prefix.endswith("/") else prefix + "/"
    inside = [key for key in found if key.startswith(folder)]
    start = len(folder) if inside else prefix.rfind("/") + 1
    files = {key[start:]: key for key in inside or found}
    for name, key in files.items():
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in name:
            raise ChannelError(
                f"{uri}: the key '{key}' cannot be the path of a file.", "Copy the object to another key."
            )
        for parent in PurePosixPath(name).parents:
            if str(parent) in files:
                raise ChannelError(
                    f"{uri}: '{files[str(parent)]}' is an object, and '{key}' lies below it as in a folder.",
                    "A channel is a folder of files: copy one of them elsewhere, or name a longer prefix.",
                )
    return files


def no_objects(uri: str, reason: str, hint: str) -> ChannelError:
    """Return what SageMaker says of a channel without objects, with S3's own reason."""
    return ChannelError(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Error message from S3: {reason}',
        hint,
    )


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
