"""A folder that a job writes to, read by descriptor: no link that the job makes ever leads out of it.

A path is looked up anew each time it is used, and a job may have put a link anywhere into it by then. A descriptor
stays the folder that it was opened for. Everything here opens name after name from a descriptor and follows no link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

MAX_DEPTH = 256
"""Folders within folders; Python's own ``shutil.rmtree`` and ``os.walk`` fail not far above."""
MAX_PATH_BYTES = 2048
"""Of a path within a tree: together with the path of the tree it is one that the kernel takes."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_LINKS = 40
_MAX_LINES = 100

OnSkip = Callable[[str], None]
"""Takes a line for each thing that is left out: its path within the tree, and the reason."""


class NoFolderError(Exception):
    """A folder that a job was given is missing, is no real folder any more, or cannot be read.

    Attributes:
        cause: what the system said.
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Skipped:
    """Lines on what was left out, one for each thing; of very many only the first, and how many more there are.

    Names come from a job: what is not printable in them is escaped.

    Attributes:
        count: how many things were left out.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, line: str) -> None:
        """Note one thing and the reason."""
        self.count += 1
        if self.count <= _MAX_LINES:
            self._first.append("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))

    @property
    def lines(self) -> list[str]:
        """The lines, in the order in which they came."""
        rest = self.count - len(self._first)
        return [*self._first, f"and {rest:,} more"] if rest else list(self._first)


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a tree, as long as the walk stands at it.

    Attributes:
        path: within the tree, with ``/`` between names.
        name: the last part of the path.
        status: of the entry itself, which may be a link.
        folder: a descriptor of the folder that it lies in.
    """

    path: str
    name: str
    status: os.stat_result
    folder: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, and no link to one."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, and no link to one."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    def open(self, *, make_readable: bool = False) -> int:
        """Return a descriptor of the regular file; see ``Tree.open_file``."""
        return _open_file(self.name, self.folder, make_readable)

    def read_link(self) -> str:
        """Return where the link points to."""
        return os.readlink(self.name, dir_fd=self.folder)


class Tree:
    """An open folder. It stays the folder that it is, wherever a job moves it and whatever it puts in its place.

    Args:
        descriptor: of the folder; it is closed with the tree.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path, inside: str = "", *, make_readable: bool = False) -> Tree:
        """Open the folder ``inside`` below ``path``; neither ``path`` nor a part of ``inside`` may be a link.

        Args:
            path: a folder whose own parent no job writes to.
            inside: a path within it; empty for ``path`` itself.
            make_readable: give the caller the rights that a job took away.
        Raises:
            NoFolderError: something on the way is missing, is no real folder, or cannot be read.
        """
        try:
            descriptor = _open_folder(os.fspath(path), None, make_readable)
            for name in filter(None, inside.split("/")):
                try:
                    inner = _open_folder(name, descriptor, make_readable)
                finally:
                    os.close(descriptor)
                descriptor = inner
        except OSError as error:
            raise NoFolderError(error) from error
        return cls(descriptor)

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def walk(self, on_skip: OnSkip, *, make_readable: bool = False) -> Iterator[Entry]:
        """Yield everything in the tree, a folder before what is in it, names of a folder in their order.

        One descriptor is open at a time, however deep the tree is. What disappears meanwhile is passed over.

        Args:
            on_skip: is told what cannot be read, and what is too deep or has too long a path.
            make_readable: give the caller the rights that a job took away.
        """
        folder = os.dup(self._descriptor)
        try:
            names: list[str] = []
            levels = [(iter(_names(folder)), _identity(folder))]
            while levels:
                name = next(levels[-1][0], None)
                if name is None:
                    levels.pop()
                    if levels:
                        path = "/".join(names)
                        names.pop()
                        try:
                            folder = _replace(folder, os.open("..", _FOLDER, dir_fd=folder))
                        except OSError as error:
                            on_skip(f"what comes after {path}: {error.strerror}")
                            return
                        if _identity(folder) != levels[-1][1]:
                            on_skip(f"what comes after {path}: the folder was moved while it was read")
                            return
                    continue
                path = "/".join((*names, name))
                if len(os.fsencode(path)) > MAX_PATH_BYTES:
                    on_skip(f"{path[:100]}...: its path is longer than {MAX_PATH_BYTES} bytes")
                    continue
                try:
                    entry = Entry(path, name, _lstat(name, folder), folder)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    on_skip(f"{path}: {error.strerror}")
                    continue
                yield entry
                if not entry.is_folder:
                    continue
                if len(levels) > MAX_DEPTH:
                    on_skip(f"{path}: more than {MAX_DEPTH} folders deep")
                    continue
                try:
                    inner = _open_folder(name, folder, make_readable)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    on_skip(f"{path}: {error.strerror}")
                    continue
                folder = _replace(folder, inner)
                levels.append((iter(_names(folder)), _identity(folder)))
                names.append(name)
        finally:
            os.close(folder)

    def open_file(self, path: str, *, make_readable: bool = False) -> int:
        """Return a descriptor of the regular file at ``path`` within the tree, to read from.

        Raises:
            OSError: it is gone, no regular file, or may not be read.
        """
        with self._folder_of(path) as (folder, name):
            return _open_file(name, folder, make_readable)

    def status(self, path: str) -> os.stat_result:
        """Return what lies at ``path`` within the tree now; a link is not followed.

        Raises:
            OSError: nothing does.
        """
        with self._folder_of(path) as (folder, name):
            return _lstat(name, folder)

    def why_link_leaves(self, path: str) -> str:
        """Return why the link at ``path`` leads to no place in the tree; empty where it does, or where nothing is."""
        *folders, name = path.split("/")
        pending, links = deque([name]), 0
        while pending:
            part = pending.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                if not folders:
                    return "a link that leaves the folder"
                folders.pop()
                continue
            target = self._link_at([*folders, part])
            if not target:
                folders.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                return "a link that leads in a circle"
            if target.startswith("/"):
                return "a link that leaves the folder"
            pending.extendleft(reversed(target.split("/")))
        return ""

    def _link_at(self, parts: Sequence[str]) -> str:
        with contextlib.suppress(OSError), self._folder_of("/".join(parts)) as (folder, name):
            return os.readlink(name, dir_fd=folder)
        return ""

    @contextlib.contextmanager
    def _folder_of(self, path: str) -> Iterator[tuple[int, str]]:
        """Lend a descriptor of the folder that ``path`` lies in, and the name there."""
        *folders, name = path.split("/")
        folder = os.dup(self._descriptor)
        try:
            for part in folders:
                folder = _replace(folder, _open_folder(part, folder, make_readable=False))
            yield folder, name
        finally:
            os.close(folder)


@dataclass(frozen=True)
class TreeFile:
    """A regular file of an open tree, which a job may change, remove or replace at any time.

    Attributes:
        path: within the tree.
        version: size in bytes and mtime in ns of the content that is meant; None means whatever there is.
        make_readable: give the caller the rights that a job took away.
    """

    tree: Tree
    path: str
    version: tuple[int, int] | None = None
    make_readable: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def open(self) -> int:
        """Return a descriptor to read from.

        Raises:
            FileNotFoundError: it is gone, or changed since.
            OSError: it is no regular file, or may not be read.
        """
        descriptor = self.tree.open_file(self.path, make_readable=self.make_readable)
        status = os.fstat(descriptor)
        if self.version is not None and self.version != (status.st_size, status.st_mtime_ns):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "it changed meanwhile", self.path)
        return descriptor

    def stat(self) -> os.stat_result:
        """Return what lies there now; see ``Tree.status``."""
        return self.tree.status(self.path)


def why_no_folder(error: OSError) -> str:
    """Return in plain words why a folder that a job was given cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return "the job removed this folder"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "the job put something else in the place of this folder"
    return f"this folder cannot be read: {error.strerror}"


def remove_tree(path: Path) -> None:
    """Remove a folder that a job has written to: however deep, whatever rights the job took away, through no link.

    Raises:
        OSError: something in it cannot be removed.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        path.unlink()
        return
    folder = _open_folder(os.fspath(path), None, make_readable=True)
    try:
        levels = [(iter(_names(folder)), _identity(folder))]
        names: list[str] = []
        while levels:
            name = next(levels[-1][0], None)
            if name is not None:
                if not _remove_file(name, folder):
                    folder = _replace(folder, _open_folder(name, folder, make_readable=True))
                    levels.append((iter(_names(folder)), _identity(folder)))
                    names.append(name)
                continue
            levels.pop()
            if levels:
                folder = _replace(folder, os.open("..", _FOLDER, dir_fd=folder))
                if _identity(folder) != levels[-1][1]:
                    raise OSError(errno.EBUSY, f"{names[-1]} was moved while it was removed", str(path))
                os.rmdir(names.pop(), dir_fd=folder)
    finally:
        os.close(folder)
    path.rmdir()


def _remove_file(name: str, folder: int) -> bool:
    """Remove what is no folder; return whether it is gone, or False for a folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError:  # which error a folder is, depends on the system
        if stat.S_ISDIR(_lstat(name, folder).st_mode):
            return False
        raise
    return True


def _open_folder(name: str, folder: int | None, make_readable: bool) -> int:
    if make_readable and os.geteuid() != 0:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o700 != 0o700:
            _give_rights(name, folder, 0o700, stat.S_ISDIR)
    return os.open(name, _FOLDER, dir_fd=folder)


def _open_file(name: str, folder: int, make_readable: bool) -> int:
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except PermissionError:
        if not make_readable:
            raise
        _give_rights(name, folder, 0o600, stat.S_ISREG)
        descriptor = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file")
    return descriptor


def _give_rights(name: str, folder: int | None, mode: int, is_kind: Callable[[int], bool]) -> None:
    """Change the mode of a file or folder of the caller's own; of a link nothing is changed, nor of its target."""
    if not hasattr(os, "O_PATH"):
        os.chmod(name, mode, dir_fd=folder, follow_symlinks=False)
        return
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if is_kind(os.fstat(descriptor).st_mode):
            Path(f"/proc/self/fd/{descriptor}").chmod(mode)
    finally:
        os.close(descriptor)


def _names(folder: int) -> list[str]:
    return sorted(os.listdir(folder))


def _lstat(name: str, folder: int) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new
