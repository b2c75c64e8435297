"""What the runner asks of a place that keeps inputs and results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path


class Storage(ABC):
    """Inputs and results by URI. A result appears whole, under its final name, or not at all."""

    @abstractmethod
    def locate(self, uri: str, cache_path: Path) -> tuple[Path, bool]:
        """Return what ``fetch`` would return, and whether it is a file; copies nothing.

        Raises:
            ChannelError: there is nothing to read.
        """

    @abstractmethod
    def fetch(self, uri: str, cache_path: Path) -> Path:
        """Return a host path with what lies at ``uri``: a file or a folder, not to be written to.

        Args:
            uri: the source.
            cache_path: a folder for a copy, where the storage cannot hand out its own.
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
    def exists(self, uri: str) -> bool:
        """Return whether anything lies at ``uri``."""

    @abstractmethod
    def check_writable(self, uri: str) -> None:
        """Refuse a place that results could not be written to later; writes nothing.

        Raises:
            OutputPathError: it is a file, or below a file, or not writable.
        """

    @abstractmethod
    def sync_folder(self, source: Path, uri: str, state: dict[str, tuple[int, int]]) -> int:
        """Copy what is new or changed below ``source`` to the same relative place below ``uri``.

        Args:
            source: a folder that a job is writing to.
            uri: the prefix that follows it.
            state: (size in bytes, mtime in ns) of what was copied last, by relative path; updated.
        Returns:
            How many files were copied.
        """
