"""Folders of this machine as a storage: ``file://`` URIs and plain paths."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from launcher.errors import ChannelError, OutputPathError, StorageError
from launcher.paths import checked_path
from launcher.storage.base import Sources, Storage, UnfitNameError, open_source

_COPY_SUFFIX = ".launcher-part"
_MAX_NAME_BYTES = 255
_READ_BYTES = 1 << 20
# Errors of one file's name; any other error concerns every file.
_UNFIT = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
_CLASH = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


class FileStorage(Storage):
    """Hands out its own paths, so that inputs are never copied; writes beside the target and renames."""

    @staticmethod
    def uri_of(location: str) -> str:
        """Return ``file://`` and the absolute path that ``location``, a path or a ``file://`` URI, means.

        ``file://localhost/...`` is absolute too.

        Raises:
            ChannelError: it is empty.
        """
        if location.startswith("file://"):
            # With two slashes the path is relative, as for the SageMaker SDK: file://data/train is data/train.
            rest = location.removeprefix("file://")
            location = rest.removeprefix("localhost") if rest.startswith("localhost/") else rest
        if not location or "\0" in location:
            raise ChannelError(f"{location!r} is not a path.", "Give the path of a file or a folder.")
        path = checked_path(location, "the path", ChannelError)
        return "file://" + os.path.abspath(path)  # noqa: PTH100 - links stay as the user named them

    @staticmethod
    def path_of(uri: str) -> Path:
        """Return the path that a URI from ``uri_of`` names."""
        return Path(uri.removeprefix("file://"))

    def fetch(self, uri: str, cache_path: Path) -> Path:
        """Return the path itself: nothing is copied, ``cache_path`` stays unused."""
        return self.locate(uri, cache_path)[0]

    def locate(self, uri: str, cache_path: Path) -> tuple[Path, bool]:
        """Return the path itself, if it can be read."""
        path = self.path_of(uri)
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise ChannelError(f"{path} does not exist.", _nearest_existing(path)) from None
        except OSError as error:
            raise ChannelError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
        if stat.S_ISDIR(mode):
            if not os.access(path, os.R_OK | os.X_OK):
                raise ChannelError(f"{path} cannot be listed.", f"Check its permissions: ls -ld {path}")
            if next(path.iterdir(), None) is None:
                raise ChannelError(f"{path} is an empty folder.", "A channel needs at least one file.")
        elif not stat.S_ISREG(mode):
            raise ChannelError(f"{path} is neither a file nor a folder.", "Give a file or a folder.")
        elif not os.access(path, os.R_OK):
            raise ChannelError(f"{path} cannot be read.", f"Check its permissions: ls -l {path}")
        return path.resolve(), stat.S_ISREG(mode)

    def put_file(self, source: Path, uri: str) -> None:
        """Move ``source`` to its place, by rename where the two lie on one file system."""
        target = self.path_of(uri)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                source.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _copy_by_rename(source, target)
                source.unlink()
        except OSError as error:
            raise _cannot_be_written(target, error) from error

    def upload_all(self, files: Sources) -> None:
        """Copy each beside its target and rename it there; a reader never sees half of a file."""
        for source, uri in files.items():
            target = self.path_of(uri)
            with open_source(source) as content:
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _write_by_rename(content, target)
                except OSError as error:
                    raise _cannot_be_written(target, error) from error

    def download_all(self, files: Mapping[str, Path]) -> None:
        """Copy the files."""
        for uri, target in files.items():
            source = self.path_of(uri)
            if not source.is_file():
                hint = _nearest_existing(source)
                raise StorageError("NoSuchKey", "The specified key does not exist.", str(source), hint)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_by_rename(source, target)

    def fetch_object(self, uri: str, target: Path) -> Path:
        """Return the file itself: nothing is copied, ``target`` stays unused."""
        path = self.path_of(uri)
        if not path.is_file():
            raise StorageError("NoSuchKey", "The specified key does not exist.", str(path), _nearest_existing(path))
        return path

    def keys(self, bucket_uri: str, prefix: str) -> Iterator[str]:
        """Yield the relative paths of all files, as S3 would list them."""
        bucket = self.path_of(bucket_uri)
        if not bucket.is_dir():
            hint = "In local mode a bucket is a folder; session.default_bucket() makes the session's own."
            raise StorageError("NoSuchBucket", "The specified bucket does not exist", str(bucket), hint)
        paths = (Path(folder, name) for folder, _, names in os.walk(bucket) for name in names)
        keys = [path.relative_to(bucket).as_posix() for path in paths if not path.name.endswith(_COPY_SUFFIX)]
        yield from sorted((key for key in keys if key.startswith(prefix)), key=os.fsencode)

    def files_below(self, uri: str) -> dict[str, str]:
        """Return the files of the folder, if it is there."""
        folder = self.path_of(uri)
        if not folder.exists():
            return {}
        files = list(self.keys(uri, ""))
        for path, rights in ((folder, os.R_OK | os.X_OK), *((folder / file, os.R_OK) for file in files)):
            if not os.access(path, rights):
                raise ChannelError(f"{path} cannot be read.", f"Check its permissions: ls -ld {path}")
        return {file: f"{uri}/{file}" for file in files}

    def channel_items(self, uri: str) -> dict[str, str]:
        """Return the files of a folder, or the one file."""
        path, is_file = self.locate(uri, Path())
        if is_file:
            return {path.name: uri}
        return {name: f"{uri.rstrip('/')}/{name}" for name in self.keys(uri, "")}

    def missing(self, uris: Iterable[str]) -> list[str]:
        """Look for each file."""
        return [uri for uri in uris if not self.path_of(uri).is_file()]

    def make_bucket(self, bucket_uri: str) -> None:
        """Make the folder."""
        self.path_of(bucket_uri).mkdir(parents=True, exist_ok=True)

    def exists(self, uri: str) -> bool:
        """Return whether the path is there."""
        return self.path_of(uri).exists()

    def size(self, uri: str) -> int | None:
        """Return the size of the file."""
        path = self.path_of(uri)
        return path.stat().st_size if path.is_file() else None

    def check_writable(self, uri: str) -> None:
        """Look at the nearest parent that exists: it must be a folder that can be written."""
        path = self.path_of(uri)
        parent = path
        while not parent.exists() and parent != parent.parent:
            parent = parent.parent
        if not parent.is_dir():
            raise OutputPathError(f"output path {path}: {parent} is a file.", "Name a folder.")
        if _is_kernels_own(parent):
            raise OutputPathError(
                f"output path {path}: {parent} is the kernel's own, where no files can be kept.", "Name a folder."
            )
        if not os.access(parent, os.W_OK | os.X_OK):
            raise OutputPathError(
                f"output path {path}: {parent} is not writable.", f"Choose another, or: chmod u+w {parent}"
            )


def _is_kernels_own(folder: Path) -> bool:
    return folder.resolve().is_relative_to("/proc") or folder.resolve().is_relative_to("/sys")


def _cannot_be_written(target: Path, error: OSError) -> OutputPathError:
    words = f"{target} cannot be written: {error.strerror}."
    hint = f"Check the folder and its space: df -h {target.parent}"
    if error.errno not in (*_UNFIT, *_CLASH):
        return OutputPathError(words, hint)
    unfit = UnfitNameError(words, hint)
    unfit.clash = error.errno in _CLASH
    return unfit


def _copy_by_rename(source: Path, target: Path) -> None:
    with source.open("rb") as content:
        _write_by_rename(content, target)


def _write_by_rename(content: BinaryIO, target: Path) -> None:
    part = target.with_name(_part_name(target.name))
    try:
        with part.open("wb") as copy:
            shutil.copyfileobj(content, copy, _READ_BYTES)
        part.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _part_name(name: str) -> str:
    """Return the name of a file while it is copied; always the same, so the next copy overwrites what a kill left."""
    if len(os.fsencode(name)) + len(_COPY_SUFFIX) <= _MAX_NAME_BYTES:
        return name + _COPY_SUFFIX
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32] + _COPY_SUFFIX


def _nearest_existing(path: Path) -> str:
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    names = (
        sorted(entry.name for entry in parent.iterdir())[:8] if os.access(parent, os.R_OK) and parent.is_dir() else []
    )
    return f"{parent} holds: {', '.join(names)}" if names else f"The nearest folder that exists is {parent}."
