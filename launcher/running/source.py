"""Which files make up a job's source, checked before anything is written.

Members are sorted and depend on content alone, so that the same files always make the same ``sourcedir.tar.gz``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from launcher.errors import SourceError
from launcher.paths import checked_path
from launcher.trees import MAX_DEPTH

_LEFT_OUT = {"__pycache__", ".git", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv"}


@dataclass(frozen=True)
class Source:
    """A checked source.

    Attributes:
        program: the entry point, relative to the root of the archive.
        path: the folder that is packed, or that a lone entry point lies in.
        members: names below ``path`` to pack; empty packs all.
        dependencies: files and folders packed beside it.
    """

    program: str
    path: Path
    members: tuple[str, ...]
    dependencies: tuple[Path, ...]


def check_source(entry_point: str, source_dir: str | None, dependencies: Sequence[str] = ()) -> Source:
    """Check entry point, source folder and dependencies; ``list_members`` then checks each file that is packed.

    Args:
        entry_point: relative to ``source_dir``; without one, the path of a lone script.
        source_dir: a folder of this machine.
        dependencies: files and folders for the root of the archive.
    Raises:
        SourceError: something is missing, empty or outside.
    """
    if not entry_point:
        raise SourceError("the entry point is empty.", 'Name a script, for example: entry_point="train.py".')
    if source_dir is None:
        script = _absolute(entry_point, "entry point")
        _check_entry_point(script, entry_point, script.parent)
        return Source(script.name, script.parent, (script.name,), _checked_paths(dependencies))
    if "://" in source_dir:
        raise SourceError(
            f"source_dir {source_dir} is a URI; this version packs folders of this machine.",
            "Download it and give the folder.",
        )
    root = _absolute(source_dir, "source_dir")
    checked_path(root / entry_point, "entry point", SourceError)
    if not root.is_dir():
        fault = "is a file, not a folder" if root.is_file() else "does not exist"
        raise SourceError(f"source_dir {root} {fault}.", "Give the folder that holds the entry point.")
    if not os.access(root, os.R_OK | os.X_OK):
        raise SourceError(f"source_dir {root} cannot be read.", f"Check its permissions: ls -ld {root}")
    relative = os.path.normpath(entry_point)
    if Path(entry_point).is_absolute() or relative.startswith(".."):
        raise SourceError(
            f"entry point {entry_point} lies outside source_dir {root}.",
            "Give it relative to source_dir, or move it inside.",
        )
    if next(root.iterdir(), None) is None:
        raise SourceError(f"source_dir {root} is empty.", f"Put {entry_point} in it.")
    _check_entry_point(root / relative, entry_point, root)
    return Source(relative, root, (), _checked_paths(dependencies))


def list_members(path: Path, members: Sequence[str], dependencies: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return (name in the archive, path) of every file, folder and link, sorted by name.

    Raises:
        SourceError: a member is unreadable, special, a link that leaves its root, or is there twice.
    """
    paths: dict[str, Path] = {}
    roots = [(path, name) for name in members] if members else [(path, "")]
    for root, name in [*roots, *((dependency, "") for dependency in dependencies)]:
        prefix = name or (root.name if root in dependencies else "")
        start = root / name
        for member, member_path in _walk(start, prefix, start if start.is_dir() else start.parent):
            if member in paths and not (member_path.is_dir() and paths[member].is_dir()):
                raise SourceError(
                    f"{member_path} and {paths[member]} would both be packed as '{member}'.", "Rename one of them."
                )
            paths[member] = member_path
    return sorted(paths.items())


def _check_entry_point(path: Path, entry_point: str, folder: Path) -> None:
    if not path.exists():
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file()) if folder.is_dir() else []
        near = get_close_matches(path.name, names, n=1) or [name for name in names if name.endswith(".py")][:5]
        raise SourceError(
            f"entry point {entry_point}: {path} does not exist.",
            f"Did you mean {', '.join(near)}?"
            if near
            else f"{folder} holds no script; check entry_point and source_dir.",
        )
    if not path.is_file():
        raise SourceError(f"entry point {entry_point}: {path} is not a file.", "Name a script.")
    if path.suffix not in (".py", ".sh") and not os.access(path, os.X_OK):
        raise SourceError(
            f"entry point {entry_point} is neither .py nor .sh nor executable.", f"Make it so: chmod +x {path}"
        )


def _checked_paths(dependencies: Sequence[str]) -> tuple[Path, ...]:
    paths = tuple(_absolute(dependency, "dependency") for dependency in dependencies)
    for path in paths:
        if not path.exists():
            raise SourceError(f"dependency {path} does not exist.", "Correct the path in dependencies, or drop it.")
    return paths


def _absolute(path: str, purpose: str) -> Path:
    return Path(os.path.abspath(checked_path(path, purpose, SourceError)))  # noqa: PTH100


def _target_of(link: Path) -> Path:
    try:
        link.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SourceError(
                f"{link} is a link that leads in a circle.", "Remove it from the source folder."
            ) from None
    return link.resolve()


def _walk(path: Path, name: str, root: Path) -> Iterator[tuple[str, Path]]:
    """Yield ``path`` itself, unless it is the nameless root, and what is below it."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = _target_of(path)
        if not target.is_relative_to(root.resolve()) or not target.exists():
            raise SourceError(
                f"{path} is a link to {target}, which is not there or lies outside {root}.",
                "Replace it by what it points to, or name that in dependencies.",
            )
        yield name, path
    elif stat.S_ISDIR(mode):
        if name.count("/") >= MAX_DEPTH:
            raise SourceError(f"{path} lies more than {MAX_DEPTH} folders deep.", "Remove it from the source folder.")
        if not os.access(path, os.R_OK | os.X_OK):
            raise SourceError(f"the folder {path} cannot be read.", f"Check its permissions: ls -ld {path}")
        if name:
            yield name, path
        for entry in sorted(path.iterdir()):
            if entry.name not in _LEFT_OUT and entry.suffix != ".pyc":
                yield from _walk(entry, f"{name}/{entry.name}" if name else entry.name, root)
    elif stat.S_ISREG(mode):
        if not os.access(path, os.R_OK):
            raise SourceError(f"{path} cannot be read.", f"Check its permissions: ls -l {path}")
        yield name, path
    else:
        raise SourceError(
            f"{path} is a socket, pipe or device and cannot be packed.", "Remove it from the source folder."
        )
