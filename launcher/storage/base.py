"""What the runner and the session ask of a place that keeps inputs and results."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path


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
                    self.upload_all({path: f"{uri}/{relative}"})
                except FileNotFoundError:
                    continue  # the job renamed or removed it meanwhile: the next round sees what it became
                state[relative] = (status.st_size, status.st_mtime_ns)
                copied += 1
        return copied
