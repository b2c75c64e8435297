"""Paths that users give, checked before they reach the file system, and private folders."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from launcher.errors import BadInputError

MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 4095  # of a part and of the whole, on every common file system
PRIVATE = 0o700


def checked_path(path: str | os.PathLike[str], purpose: str, kind: type[BadInputError] = BadInputError) -> Path:
    """Return ``path`` with ``~`` replaced, if a file system can have it; it need not exist.

    Args:
        path: as the user wrote it.
        purpose: what it was given for, the beginning of the message.
        kind: the error to raise.
    Raises:
        BadInputError: it is too long, has a NUL, or names a user that does not exist; of the class ``kind``.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise kind(f"{purpose} {text!r:.60} has a NUL in it.", "Correct the path.")
    try:
        expanded = Path(text).expanduser()
    except RuntimeError:
        raise kind(f"{purpose} {text:.60}: there is no such user.", "Write the path from its root.") from None
    longest = max((len(os.fsencode(part)) for part in expanded.parts), default=0)
    size = len(os.fsencode(os.path.abspath(expanded)))  # noqa: PTH100
    if longest > MAX_NAME_BYTES or size > _MAX_PATH_BYTES:
        limit = f"a part of {longest} bytes" if longest > MAX_NAME_BYTES else f"{size} bytes"
        raise kind(
            f"{purpose} {text:.60}... has {limit}.",
            f"A file system takes {MAX_NAME_BYTES} in a part of a path, and {_MAX_PATH_BYTES} in all.",
        )
    return expanded


def make_private(folder: Path) -> None:
    """Make a folder and its missing parents for the caller alone.

    A folder that is there loses other users' rights, unless it belongs to somebody else.
    """
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=PRIVATE, exist_ok=True)
    status = folder.stat()
    if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(PRIVATE)


def exists(text: str) -> bool:
    """Return whether a text is the path of something."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a path: it is something else
        return False


def is_open_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
