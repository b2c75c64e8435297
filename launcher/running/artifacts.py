"""``model.tar.gz``, ``output.tar.gz`` and ``sourcedir.tar.gz``: packed by rename, unpacked without trusting a name.

Members are sorted and owned by nobody, so that packing the same files again gives the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, cast

from isal import igzip_threaded, isal_zlib

from launcher.errors import ArtifactError
from launcher.settings import source_date_epoch
from launcher.trees import MAX_DEPTH, Entry, NoFolderError, Skipped, Tree, remove_tree, why_no_folder

# Level 1 of ISA-L is within 2 points of gzip -6 in size and many times as fast; blocks are compressed side by side.
_COMPRESSION_LEVEL = 1
_BLOCK_BYTES = 1 << 20
_MAX_MEMBERS = 1_000_000
_MAX_HEADER_BYTES = 1 << 20
_MAX_GLOBAL_HEADERS = 100
_MAX_TIME = 1 << 53  # seconds that a float still counts, many times what a file system keeps

_DAMAGED = (OSError, EOFError, RecursionError, cast("type[Exception]", isal_zlib.error), tarfile.TarError)


_Seen = TypeVar("_Seen")


@dataclass
class PackReport:
    """What went into an archive, and what could not.

    Attributes:
        files: how many regular files and links.
        notes: a line for each thing left out, with the reason.
    """

    files: int = 0
    notes: Skipped = field(default_factory=Skipped)

    @property
    def skipped(self) -> list[str]:
        """The notes as text."""
        return self.notes.lines


@dataclass(frozen=True)
class _Member:
    """One thing to pack.

    Attributes:
        name: in the archive.
        link: where a symbolic link points to.
        open: returns a descriptor of a regular file.
        on_short: is told that the file ended early or could not be read on; the rest is zeros then.
    """

    name: str
    status: os.stat_result
    link: str
    open: Callable[[], int]
    on_short: Callable[[str], None]


def pack_hosts(trees: Sequence[tuple[str, Path]], inside: str, target: Path) -> PackReport:
    """Write what several hosts of a job left in one of their folders to the root of the archive ``target``.

    Links that leave the folder, sockets, pipes and devices are left out and reported, and so is a folder that is no
    real folder: nothing outside is ever read. There is no archive when there is nothing to pack.

    Args:
        trees: name and tree of each host, in their order; a tree's own parent is a folder that no job writes to.
        inside: the folder within each tree; empty for the tree itself.
        target: the archive.
    Raises:
        ArtifactError: the archive could not be written; nothing of it is left.
    """
    report = PackReport()
    with contextlib.ExitStack() as opened:
        hosts: list[tuple[str, Tree]] = []
        for host, path in trees:
            try:
                tree = Tree.open(path, inside, make_readable=True)
            except NoFolderError as error:
                owner = f"{host}: " if len(trees) > 1 else ""
                report.notes.add(f"{owner}{inside or path}: {why_no_folder(error.cause)}")
                continue
            hosts.append((host, opened.enter_context(tree)))
        moved = _names_of_hosts(hosts, report) if len(hosts) > 1 else {}
        members = _members_of(hosts, moved, report)
        first = next(members, None)
        if first is not None:
            _write(itertools.chain([first], members), target)
    return report


def merge_hosts(listings: Sequence[tuple[str, Sequence[tuple[str, bool]]]]) -> dict[tuple[str, str], str]:
    """Return the names that change when the files of several hosts come into one folder, by host and path.

    Folders of one name become one folder. Of anything else the first host keeps the name, and what a later host has
    under it goes to the same path below a folder with that host's name.

    Args:
        listings: for each host, in their order, each path and whether it is a folder; a folder before what is in it.
    """
    taken: dict[str, bool] = {}
    moved: dict[tuple[str, str], str] = {}
    for host, entries in listings:
        for path, is_folder in entries:
            parent, _, name = path.rpartition("/")
            placed = f"{moved[host, parent]}/{name}" if (host, parent) in moved else path
            candidates = (f"{host}{'_' * count}/{path}" for count in itertools.count())
            while not _is_free(placed, is_folder, taken):
                placed = next(candidates)
            for end in (index for index, letter in enumerate(placed) if letter == "/"):
                taken.setdefault(placed[:end], True)
            taken[placed] = is_folder
            if placed != path:
                moved[host, path] = placed
    return moved


def _is_free(path: str, is_folder: bool, taken: Mapping[str, bool]) -> bool:
    parts = path.split("/")
    above = ("/".join(parts[:count]) for count in range(1, len(parts)))
    return all(taken.get(folder, True) for folder in above) and (path not in taken or (is_folder and taken[path]))


def _names_of_hosts(hosts: Sequence[tuple[str, Tree]], report: PackReport) -> dict[tuple[str, str], str]:
    """Return the changed names of a merge, and note each in the report."""
    listings = [(host, [(entry.path, entry.is_folder) for entry in tree.walk(lambda _: None)]) for host, tree in hosts]
    moved = merge_hosts(listings)
    for (host, path), placed in moved.items():
        if (host, path.rpartition("/")[0]) not in moved:
            report.notes.add(f"{path} of {host} is kept as {placed}: another host wrote something of that name")
    return moved


def write_archive(
    members: Iterable[tuple[str, Path]], target: Path, *, mtime: int | None = None, durable: bool = True
) -> None:
    """Write (name, path) pairs, in their order, as a gzipped tar.

    Args:
        members: regular files, folders and links of the caller's own.
        target: written under another name and renamed.
        mtime: seconds since 1970 for every member; None keeps each file's own.
        durable: wait until the disk has it; not needed where the members stay.
    Raises:
        ArtifactError: a file could not be read, or the disk is full; nothing of the archive is left.
    """
    _write((_member_at(name, path) for name, path in members), target, mtime=mtime, durable=durable)


def _write(members: Iterable[_Member], target: Path, *, mtime: int | None = None, durable: bool = True) -> None:
    part = target.with_name(target.name + ".part")
    latest = source_date_epoch()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            _open_gzip(part, "wb") as compressed,
            tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK_BYTES) as archive,
        ):
            for member in members:
                _add(archive, member, mtime, latest)
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
            remove_tree(scratch)
    except _DAMAGED as error:
        raise ArtifactError(
            f"{archive_path} could not be unpacked to {target}: {error}.", "Check that the archive is whole: tar -tzf"
        ) from error


def list_files(archive_path: Path) -> list[tuple[str, int]]:
    """Return name and size in bytes of each file and link in an archive, in its order; unpacks nothing.

    Raises:
        ArtifactError: no archive, or damaged.
    """
    return list(_files_of(archive_path, lambda name, member, _: (name, member.size)))


@dataclass(frozen=True)
class ArchiveMember:
    """A file or link in an archive, without its times and its owner.

    Attributes:
        size: in bytes.
        digest: the SHA-256 of its content, in hexadecimal digits; empty for a link.
        link: where a symbolic link points to.
        runs: whether it is executable.
    """

    name: str
    size: int
    digest: str = ""
    link: str = ""
    runs: bool = False


def digest_members(archive_path: Path) -> list[ArchiveMember]:
    """Return each file and link in an archive with the digest of its content, in its order; unpacks nothing.

    Raises:
        ArtifactError: no archive, or damaged.
    """
    return list(_files_of(archive_path, _with_digest))


def read_member(archive_path: Path, name: str, max_bytes: int) -> bytes | None:
    """Return the content of a file in an archive; None where there is none of that name, or it is larger.

    Raises:
        ArtifactError: no archive, or damaged.
    """

    def content_of(member_name: str, member: tarfile.TarInfo, content: IO[bytes] | None) -> tuple[bool, bytes | None]:
        if member_name != name:
            return False, None
        return True, None if content is None or member.size > max_bytes else content.read()

    return next((content for is_it, content in _files_of(archive_path, content_of) if is_it), None)


def _files_of(archive_path: Path, look: Callable[[str, tarfile.TarInfo, IO[bytes] | None], _Seen]) -> Iterator[_Seen]:
    """Yield what ``look`` returns for name, header and content of each file and link; a link has no content."""
    try:
        with _open_gzip(archive_path, "rb") as compressed, _read_tar(compressed) as archive:
            for member in archive:
                name = _safe_name(member.name)
                if name is not None and not member.isdir():
                    yield look(str(name), member, archive.extractfile(member) if member.isreg() else None)
    except _DAMAGED as error:
        raise ArtifactError(f"{archive_path} cannot be read: {error}.", "Check that it is whole: tar -tzf") from error


def _with_digest(name: str, member: tarfile.TarInfo, content: IO[bytes] | None) -> ArchiveMember:
    if content is None:
        return ArchiveMember(name, member.size, "", member.linkname)
    return ArchiveMember(name, member.size, _digest(content), runs=bool(member.mode & 0o100))


def _digest(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := content.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _open_gzip(path: Path, mode: str) -> IO[bytes]:
    threads = min(os.cpu_count() or 1, 8)
    opened: Any = igzip_threaded.open
    return cast("IO[bytes]", opened(path, mode, compresslevel=_COMPRESSION_LEVEL, threads=threads))


def _members_of(
    hosts: Sequence[tuple[str, Tree]], moved: Mapping[tuple[str, str], str], report: PackReport
) -> Iterator[_Member]:
    folders: set[str] = set()
    for host, tree in hosts:
        for entry in tree.walk(report.notes.add, make_readable=True):
            name = moved.get((host, entry.path), entry.path)
            if entry.is_folder:
                if len(hosts) == 1 or name not in folders:
                    yield _Member(name, entry.status, "", _no_content, report.notes.add)
                folders |= {name} if len(hosts) > 1 else set()
            elif entry.is_link:
                reason = tree.why_link_leaves(entry.path)
                if reason:
                    report.notes.add(f"{entry.path}: {reason}, to {entry.read_link()}")
                    continue
                report.files += 1
                yield _Member(name, entry.status, _moved_link(host, entry, moved), _no_content, report.notes.add)
            elif not entry.is_file:
                report.notes.add(f"{entry.path}: a socket, pipe or device")
            else:
                try:
                    descriptor = entry.open(make_readable=True)
                except OSError as error:
                    report.notes.add(f"{entry.path}: {error.strerror}")
                    continue
                try:
                    report.files += 1
                    yield _Member(name, os.fstat(descriptor), "", partial(os.dup, descriptor), report.notes.add)
                finally:
                    os.close(descriptor)


def _moved_link(host: str, entry: Entry, moved: Mapping[tuple[str, str], str]) -> str:
    """Return where a link has to point to in the archive, after it or its target has got another name."""
    link, folder = entry.read_link(), entry.path.rpartition("/")[0]
    target = os.path.normpath(f"{folder}/{link}" if folder else link)
    placed = moved.get((host, entry.path), entry.path)
    if (host, target) not in moved and placed == entry.path:
        return link
    return os.path.relpath(moved.get((host, target), target), placed.rpartition("/")[0] or ".")


def _member_at(name: str, path: Path) -> _Member:
    link = ""
    if path.is_symlink():
        target = path.readlink()
        link = os.path.relpath(target, path.parent) if target.is_absolute() else str(target)
    return _Member(name, path.lstat(), link, lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC), _refuse_short)


def _add(archive: tarfile.TarFile, member: _Member, mtime: int | None, latest: int | None) -> None:
    info = tarfile.TarInfo(member.name)
    info.mtime = int(member.status.st_mtime) if mtime is None else mtime
    if latest is not None:
        info.mtime = min(int(info.mtime), latest)
    mode = member.status.st_mode
    if stat.S_ISLNK(mode):
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, member.link
        archive.addfile(info)
    elif stat.S_ISDIR(mode):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
    else:
        info.mode = 0o755 if mode & 0o100 else 0o644
        with os.fdopen(member.open(), "rb") as content:
            info.size = os.fstat(content.fileno()).st_size
            archive.addfile(info, cast("IO[bytes]", _Whole(content, info.size, member)))


class _Whole:
    """The content of a member with exactly the size that its header says."""

    def __init__(self, content: IO[bytes], size: int, member: _Member) -> None:
        self._content = content
        self._left = size
        self._name = member.name
        self._on_short = member.on_short

    def read(self, count: int) -> bytes:
        """Return ``count`` bytes, zeros where the file has no more."""
        data, reason = b"", "it became shorter"
        count = min(count, self._left)
        try:
            data = self._content.read(count)
        except OSError as error:
            reason = str(error.strerror)
        self._left -= count
        if len(data) < count:
            self._on_short(f"{self._name}: {reason} while it was packed; it ends with zeros")
            self._on_short = lambda _: None
            data += bytes(count - len(data))
        return data


def _refuse_short(line: str) -> None:
    raise OSError(errno.EIO, line)


def _no_content() -> int:
    raise ValueError("only a regular file has content")


def _unpack_into(archive_path: Path, root: Path) -> None:
    links: list[tuple[Path, str]] = []
    seen: set[str] = set()
    free = shutil.disk_usage(root).free
    with _open_gzip(archive_path, "rb") as compressed, _read_tar(compressed) as archive:
        for count, member in enumerate(archive):
            relative = _safe_name(member.name)
            if relative is None:
                continue
            if str(relative) in seen and not member.isdir():
                raise tarfile.TarError(f"the member '{member.name}' is there twice")
            seen.add(str(relative))
            if not abs(member.mtime) < _MAX_TIME:  # also false for a NaN
                raise tarfile.TarError(f"the member '{member.name}' has a time that no file has")
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
        if _leads_in_a_circle(path):
            raise tarfile.TarError(f"the link '{path.name}' leads in a circle")
        if not path.resolve().is_relative_to(root.resolve()):
            raise tarfile.TarError(f"the link '{path.name}' leaves the folder, to '{target}'")


class _BoundedHeader(tarfile.TarInfo):
    """A header that takes little memory: tarfile reads long names, extended headers and maps of holes whole."""

    _IN_MEMORY = (
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    )

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in self._IN_MEMORY and self.size > _MAX_HEADER_BYTES:
            raise tarfile.TarError(f"a header of {self.size:,} bytes")
        if self.type == tarfile.XGLTYPE and len(archive.pax_headers) > _MAX_GLOBAL_HEADERS:
            raise tarfile.TarError(f"more than {_MAX_GLOBAL_HEADERS} global headers")
        processed: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return processed

    def _proc_sparse(self, _archive: tarfile.TarFile) -> tarfile.TarInfo:
        raise tarfile.TarError(f"the member '{self.name[:200]}' is a sparse file; pack it without --sparse")

    def _proc_gnusparse_00(self, *_header: Any) -> None:
        self._proc_sparse(cast("tarfile.TarFile", None))

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def _read_tar(compressed: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=compressed, mode="r|", tarinfo=_BoundedHeader)


def _leads_in_a_circle(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _safe_name(name: str) -> PurePosixPath | None:
    """Return the member's path, or None for the root itself.

    Raises:
        tarfile.TarError: it is absolute, climbs out, or lies too deep.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise tarfile.TarError(f"the member '{name[:200]}' leaves the folder")
    if len(name) > 4096 or len(path.parts) > MAX_DEPTH + 1:
        raise tarfile.TarError(f"the member '{name[:200]}...' lies more than {MAX_DEPTH} folders deep")
    return path if path.parts else None


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
