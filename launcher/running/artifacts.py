"""``model.tar.gz``, ``output.tar.gz`` and ``sourcedir.tar.gz``: packed by rename, unpacked without trusting a name.

Members are sorted and owned by nobody, so that packing the same files again gives the same bytes.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from isal import igzip_threaded

from launcher.errors import ArtifactError

# Level 1 of ISA-L is within 2 points of gzip -6 in size and many times as fast; blocks are compressed side by side.
_COMPRESSION_LEVEL = 1
_BLOCK_BYTES = 1 << 20
_MAX_MEMBERS = 1_000_000


@dataclass
class PackReport:
    """What went into an archive, and what could not.

    Attributes:
        files: how many regular files and links.
        skipped: a line for each thing left out, with the reason.
    """

    files: int = 0
    skipped: list[str] = field(default_factory=list)


def pack_folder(folder: Path, target: Path) -> PackReport:
    """Write everything below ``folder`` to the root of the archive ``target``; no archive when there is nothing.

    Links that leave the folder, sockets, pipes and devices are left out and reported: nothing outside is ever read.

    Raises:
        ArtifactError: the archive could not be written; nothing of it is left.
    """
    report = PackReport()
    members = list(_members_below(folder, report))
    if members:
        write_archive(members, target)
    report.files = sum(1 for _, path in members if path.is_symlink() or not path.is_dir())
    return report


def write_archive(
    members: Iterable[tuple[str, Path]], target: Path, *, mtime: int | None = None, durable: bool = True
) -> None:
    """Write (name, path) pairs, in their order, as a gzipped tar.

    Args:
        members: regular files, folders and links.
        target: written under another name and renamed.
        mtime: seconds since 1970 for every member; None keeps each file's own.
        durable: wait until the disk has it; not needed where the members stay.
    Raises:
        ArtifactError: a file could not be read, or the disk is full; nothing of the archive is left.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            _open_gzip(part, "wb") as compressed,
            tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK_BYTES) as archive,
        ):
            for name, path in members:
                _add(archive, name, path, mtime)
        if durable:
            with part.open("rb") as written:
                os.fsync(written.fileno())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        free = shutil.disk_usage(_existing_parent(target)).free
        at = f" ({error.filename})" if error.filename else ""
        raise ArtifactError(
            f"{target} could not be written: {error.strerror or error}{at}.",
            f"{free / 2**20:,.0f} MiB are free in {target.parent}. What was to be packed is left where it was.",
        ) from error


def unpack(archive_path: Path, target: Path) -> None:
    """Unpack into ``target``, a folder that appears whole or not at all and must not exist yet.

    Only files, folders and relative links that stay inside are accepted; modes are reduced to rwx for the owner.

    Raises:
        ArtifactError: no archive, damaged, or holding a member that would leave the folder; nothing is left of it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _unpack_into(archive_path, scratch)
            scratch.chmod(0o755)
            scratch.rename(target)
        finally:
            if scratch.exists():
                shutil.rmtree(scratch)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ArtifactError(
            f"{archive_path} could not be unpacked to {target}: {error}.", "Check that the archive is whole: tar -tzf"
        ) from error


def _open_gzip(path: Path, mode: str) -> IO[bytes]:
    threads = min(os.cpu_count() or 1, 8)
    opened: Any = igzip_threaded.open
    return cast("IO[bytes]", opened(path, mode, compresslevel=_COMPRESSION_LEVEL, threads=threads))


def _members_below(folder: Path, report: PackReport) -> Iterator[tuple[str, Path]]:
    root = folder.resolve()
    for path in _sorted_tree(folder, report):
        name = path.relative_to(folder).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = Path(os.path.normpath(path.parent / path.readlink()))
            if path.readlink().is_absolute() or not path.resolve().is_relative_to(root):
                report.skipped.append(f"{name}: a link that leaves the folder, to {target}")
                continue
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            report.skipped.append(f"{name}: a socket, pipe or device")
            continue
        yield name, path


def _sorted_tree(folder: Path, report: PackReport) -> Iterator[Path]:
    if not os.access(folder, os.R_OK | os.X_OK):
        folder.chmod(0o700)  # the job took its own rights away; what it wrote is wanted all the same
    for entry in sorted(folder.iterdir()):
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _sorted_tree(entry, report)


def _add(archive: tarfile.TarFile, name: str, path: Path, mtime: int | None) -> None:
    status = path.lstat()
    info = tarfile.TarInfo(name)
    info.mtime = int(status.st_mtime) if mtime is None else mtime
    if stat.S_ISLNK(status.st_mode):
        info.type = tarfile.SYMTYPE
        link = path.readlink()
        info.linkname = os.path.relpath(link, path.parent) if link.is_absolute() else str(link)
        info.mode = 0o777
        archive.addfile(info)
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        info.mode = 0o755
        archive.addfile(info)
    else:
        info.mode = 0o755 if status.st_mode & 0o100 else 0o644
        if not status.st_mode & 0o400:
            path.chmod(0o600)
        with path.open("rb") as content:
            info.size = os.fstat(content.fileno()).st_size
            archive.addfile(info, content)


def _unpack_into(archive_path: Path, root: Path) -> None:
    links: list[tuple[Path, str]] = []
    seen: set[str] = set()
    free = shutil.disk_usage(root).free
    with _open_gzip(archive_path, "rb") as compressed, tarfile.open(fileobj=compressed, mode="r|") as archive:
        for count, member in enumerate(archive):
            relative = _safe_name(member.name)
            if relative is None:
                continue
            if str(relative) in seen and not member.isdir():
                raise tarfile.TarError(f"the member '{member.name}' is there twice")
            seen.add(str(relative))
            free -= member.size
            if count >= _MAX_MEMBERS or free < 0:
                raise tarfile.TarError("it holds more than this disk can take")
            path = root / relative
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                links.append((path, member.linkname))
            elif member.isreg():
                content = archive.extractfile(member)
                if content is None:
                    raise tarfile.TarError(f"the member '{member.name}' has no content")
                with path.open("xb") as written:
                    shutil.copyfileobj(content, written, _BLOCK_BYTES)
                path.chmod(0o755 if member.mode & 0o100 else 0o644)
                os.utime(path, (member.mtime, member.mtime))
            else:
                raise tarfile.TarError(f"the member '{member.name}' is neither file, folder nor symbolic link")
    # Links come last, so that no member was ever written through one.
    for path, target in links:
        inside = Path(os.path.normpath(path.parent / target))
        if Path(target).is_absolute() or not inside.is_relative_to(root):
            raise tarfile.TarError(f"the link '{path.name}' leaves the folder, to '{target}'")
        path.symlink_to(target)
    for path, target in links:
        if not path.resolve().is_relative_to(root.resolve()):
            raise tarfile.TarError(f"the link '{path.name}' leaves the folder, to '{target}'")


def _safe_name(name: str) -> PurePosixPath | None:
    """Return the member's path, or None for the root itself.

    Raises:
        tarfile.TarError: it is absolute or climbs out.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or len(name) > 4096:
        raise tarfile.TarError(f"the member '{name}' leaves the folder")
    return path if path.parts else None


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
