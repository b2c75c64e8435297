"""The launcher's own code as it is here, to be put beside a Python of another machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from launcher.errors import SettingsError
from launcher.settings import DISTRIBUTION, data_path

_PACKAGE = Path(__file__).resolve().parents[1]
_DATA = ("container", "entrypoints", "presets")
_LEFT_OUT = {"__pycache__", "_data"}
_OF_A_BUILD = ("container/wheels/",)  # lent to builds of images here


def code_files() -> Iterator[tuple[str, Path]]:
    """Yield name and path of each file of the package, as a wheel has them, in the order of the names."""
    files = dict(_files(_PACKAGE, "launcher"))
    for name in _DATA:
        files |= _files(data_path(name), f"launcher/_data/{name}")
    yield from sorted(files.items())


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        name = f"{prefix}/{inside.as_posix()}"
        data = name.removeprefix("launcher/_data/")
        if path.is_file() and not _LEFT_OUT & set(inside.parts) and not data.startswith(_OF_A_BUILD):
            yield name, path


@cache
def code_digest() -> str:
    """Return what names this code: the same files have the same name, however they were installed."""
    hashed = hashlib.sha256()
    for name, path in code_files():
        data = path.read_bytes()
        hashed.update(f"{name} {len(data)}\n".encode() + data)
    return hashed.hexdigest()[:32]


def code_archive() -> bytes:
    """Return the code as a tar.gz; the modes of files are kept."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
        for name, path in code_files():
            member = tarfile.TarInfo(name)
            member.size, member.mode = path.stat().st_size, path.stat().st_mode & 0o755 | 0o644
            with path.open("rb") as file:
                archive.addfile(member, file)
    return buffer.getvalue()


def requirements() -> list[str]:
    """Return what the launcher needs beside itself, as pip takes it.

    Raises:
        SettingsError: nobody has installed it here, so that nobody knows.
    """
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError as error:
        raise SettingsError(
            f"{DISTRIBUTION} is not installed here, so that nobody can say what it needs on another machine.",
            "Install it, or name a Python there that has it: LAUNCHER_HOST=ssh://user@box/path/to/venv",
        ) from error
    return sorted(line for line in lines if "extra ==" not in line)
