"""What the runner and the session ask of a place that keeps inputs and results."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from launcher.storage.s3_uris import channel_files, split_s3_uri

FileVersion = tuple[int, int]
"""Size in bytes and mtime in ns of a file that a job writes."""


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
    def upload_all(self, files: Mapping[Path, str]) -> None:
        """Make what each file holds now the content of its URI; the files stay, and may change later.

        Raises:
            FileNotFoundError: a file is gone.
            OutputPathError, StorageError: the place cannot be written.
        """

    @abstractmethod
    def download_all(self, files: Mapping[str, Path]) -> None:
        """Write the object at each URI to its path, a file of the caller's own; folders are made.

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

    def files_below(self, uri: str) -> dict[str, str]:
        """Return the URI of every file below the folder ``uri`` by its path there; nothing where there is none.

        Raises:
            ChannelError: a key can be no file of a folder.
            StorageError: the place cannot be listed.
        """
        bucket, key = split_s3_uri(uri)
        prefix = f"{key}/" if key else ""
        files = channel_files(f"s3://{bucket}/{prefix}", self.keys(f"s3://{bucket}", prefix))
        return {file: f"s3://{bucket}/{key}" for key, file in files.items()}

    def sync_folder(self, source: Path, uri: str, state: dict[str, FileVersion]) -> int:
        """Copy what is new or changed below ``source`` to the same relative place below ``uri``.

        Args:
            source: a folder that a job is writing to.
            uri: the prefix that follows it.
            state: what was copied last, by relative path; updated.
        Returns:
            How many files were copied.
        """
        copied = 0
        # What was written last is copied last, and not if it has changed since: a pointer never leads to a file that is
        # not there yet, should all end in the middle of this.
        for relative, version in sorted(changed_files(source, state), key=lambda found: found[1][1]):
            path = source / relative
            try:
                if _version(path.lstat()) != version:
                    continue
                self.upload_all({path: f"{uri}/{relative}"})
            except FileNotFoundError:
                continue  # the job renamed or removed it meanwhile: the next round sees what it became
            state[relative] = version
            copied += 1
        return copied


def changed_files(source: Path, state: Mapping[str, FileVersion]) -> Iterator[tuple[str, FileVersion]]:
    """Yield the relative path of each regular file below ``source`` that is not as ``state`` has it, and how it is."""
    for folder, folder_names, file_names in os.walk(source):
        folder_names.sort()
        for path in (Path(folder, name) for name in sorted(file_names)):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if status.st_uid != os.getuid() and not os.access(path, os.R_OK):
                continue  # a foreign image's own: it is given to the caller when the job has ended
            relative = str(path.relative_to(source))
            if stat.S_ISREG(status.st_mode) and state.get(relative) != _version(status):
                yield relative, _version(status)


def _version(status: os.stat_result) -> FileVersion:
    return status.st_size, status.st_mtime_ns
