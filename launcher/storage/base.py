"""What the runner and the session ask of a place that keeps inputs and results."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from launcher.errors import OutputPathError
from launcher.storage.cache import link_or_copy
from launcher.storage.s3_uris import channel_files, split_s3_uri
from launcher.trees import OnSkip, Tree, TreeFile

FileVersion = tuple[int, int]
"""Size in bytes and mtime in ns of a file that a job writes."""

Sources = Mapping[Path, str] | Mapping[TreeFile, str]
"""The URI that each file is to be copied to."""


class Storage(ABC):
    """Inputs and results by URI. A result appears whole, under its final name, or not at all."""

    @abstractmethod
    def fetch(self, uri: str, cache_path: Path) -> Path:
        """Return a path of this machine with the data at ``uri``: a file or a folder, read-only.

        Args:
            uri: the source.
            cache_path: an empty folder for a copy, where the storage cannot lend its own files.
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
    def upload_all(self, files: Sources) -> None:
        """Copy each file, as it is now, to its URI; the files stay, and may change later.

        Raises:
            FileNotFoundError: a file is gone.
            UnreadableError: a file of a tree is gone, no regular file, or may not be read.
            UnfitNameError: the place cannot hold a file of that name.
            OutputPathError, StorageError: the place cannot be written.
        """

    @abstractmethod
    def download_all(self, files: Mapping[str, Path]) -> None:
        """Write the object at each URI to its path, a file of the caller's own; folders are made.

        Raises:
            StorageError: there is no such object.
        """

    def fetch_object(self, uri: str, target: Path) -> Path:
        """Return a host path with the content of the one object at ``uri``, not to be written to.

        Args:
            uri: the object itself; one whose key only begins so is another.
            target: for a copy, where the storage cannot hand out its own file.
        Raises:
            StorageError: there is no such object.
        """
        self.download_all({uri: target})
        return target

    @abstractmethod
    def channel_items(self, uri: str) -> dict[str, str]:
        """Return the URI of each file that a channel at ``uri`` holds, by its path there, in the order of the keys.

        Raises:
            ChannelError: there is nothing to read, or a key can be no file.
        """

    def missing(self, uris: Iterable[str]) -> list[str]:
        """Return those of the URIs at which there is no object, in their order."""
        return [uri for uri in uris if not self.exists(uri)]

    def lend_all(self, files: Mapping[Path, str]) -> None:
        """Make each path a file with the content of the object at its URI, not to be written to; folders are made.

        A link where the storage has the file itself; another S3's objects come through the cache.

        Raises:
            StorageError: there is no such object.
        """
        for target, uri in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            path = self.fetch_object(uri, target)
            if path != target:
                link_or_copy(path, target)

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
    def size(self, uri: str) -> int | None:
        """Return how many bytes the one object at ``uri`` has; None where there is none."""

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

    def sync_folder(
        self,
        source: Path,
        uri: str,
        state: dict[str, FileVersion],
        *,
        inside: str = "",
        settled: bool = False,
        on_skip: OnSkip = lambda _: None,
        place: Callable[[str], str] = lambda path: path,
    ) -> int:
        """Copy what is new or changed in a folder that a job writes to the same relative place below ``uri``.

        Nothing is read through a link, whatever the job puts where and when: files are opened from descriptors.

        Args:
            source: the folder, or one around it; no job may write to its parent.
            uri: the prefix that follows it.
            state: what was copied last, by relative path; updated.
            inside: the folder within ``source``; empty for ``source`` itself.
            settled: the job has ended: unreadable files are made readable, and files left out are reported.
            on_skip: gets a line for each file left out, with the reason.
            place: returns the path below ``uri`` for a path within the folder.
        Returns:
            How many files were copied.
        Raises:
            NoFolderError: the folder is missing, is no real folder, or cannot be read.
            OutputPathError, StorageError: the place cannot be written.
        """
        copied = 0
        with Tree.open(source, inside, make_readable=settled) as tree:
            # The file written last is copied last, and not if it has changed since: a pointer then never leads to
            # a file that is not there yet, even if this copy is cut off.
            changed = sorted(changed_files(tree, state, settled=settled, on_skip=on_skip), key=lambda file: file[1][1])
            for path, version in changed:
                file = TreeFile(tree, path, version, settled)
                try:
                    self.upload_all({file: f"{uri}/{place(path)}"})
                except UnfitNameError as error:
                    if error.clash and not _job_made_clash(path, state):
                        raise
                    on_skip(f"{path}: {error.message}")
                    continue
                except UnreadableError as error:
                    # The job renamed or removed it meanwhile: the next round sees the result. Or a foreign image made
                    # it unreadable: reclaim() gives it to the caller when the job has ended.
                    if settled:
                        on_skip(f"{path}: {error.strerror}")
                    continue
                state[path] = version
                copied += 1
        return copied


class UnreadableError(OSError):
    """A file that a job writes to cannot be read now."""


class UnfitNameError(OutputPathError):
    """A place cannot hold a file of this name.

    Attributes:
        clash: something of another kind is there, such as a file where a folder is needed.
    """

    clash = False


def _job_made_clash(path: str, state: Mapping[str, FileVersion]) -> bool:
    """Return whether a job replaced a file that was copied by a folder, or a folder by a file."""
    return any(path.startswith(f"{copied}/") or copied.startswith(f"{path}/") for copied in state)


def changed_files(
    tree: Tree, state: Mapping[str, FileVersion], *, settled: bool = True, on_skip: OnSkip = lambda _: None
) -> Iterator[tuple[str, FileVersion]]:
    """Yield path and version of each regular file in ``tree`` whose version is not the one in ``state``."""
    for entry in tree.walk(on_skip if settled else lambda _: None, make_readable=settled):
        if entry.is_file and state.get(entry.path) != version_of(entry.status):
            yield entry.path, version_of(entry.status)


def version_of(status: os.stat_result) -> FileVersion:
    """Return a value that changes when somebody writes to the file."""
    return status.st_size, status.st_mtime_ns


def open_source(source: Path | TreeFile) -> BinaryIO:
    """Return a file to read from.

    Raises:
        UnreadableError: it is of a tree, and gone, no regular file, or may not be read.
        OSError: a path cannot be opened.
    """
    if isinstance(source, Path):
        return source.open("rb")
    try:
        return os.fdopen(source.open(), "rb")
    except OSError as error:
        raise UnreadableError(error.errno, error.strerror, source.path) from error


def as_key(path: str) -> str:
    """Return a path as text for a key: a name that is no UTF-8 is not lost for that."""
    return os.fsencode(path).decode("utf-8", "replace")
