"""How the data of a job's channels reach its hosts: as paths of this machine, or as streams for named pipes."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from launcher.channels.feeder import share_of, shuffled
from launcher.channels.listing import Part, StorageOf, augmented_lines, channel_objects, check_whole_folder
from launcher.errors import ChannelError
from launcher.jobs.processing_spec import HostsSpec
from launcher.jobs.spec import Channel
from launcher.storage import Storage, recorded_storage

_FICLONE = 0x40049409
_CLONING = ("btrfs", "xfs", "bcachefs", "ocfs2")


@dataclass(frozen=True)
class ChannelSource:
    """What a channel resolves to on this machine.

    Attributes:
        path: a file or a folder of this machine.
        is_file: a channel of one file is a folder with that file in it.
    """

    path: Path
    is_file: bool


@dataclass
class ResolvedChannels:
    """Where the data of every channel lie.

    Attributes:
        sources: by channel, or by ``host/channel`` where hosts get different data.
        streams: by channel, what a feeder has to know of a Pipe channel.
        notes: a line about each channel that is no plain mount, for people.
    """

    sources: dict[str, ChannelSource] = field(default_factory=dict)
    streams: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def source_of(sources: Mapping[str, ChannelSource], host: str, channel: str) -> ChannelSource:
    """Return what a channel is on a host."""
    return sources.get(f"{host}/{channel}") or sources[channel]


def host_names(spec: HostsSpec) -> list[str]:
    """Return the names of a job's hosts."""
    return [f"algo-{number}" for number in range(1, spec.instance_count + 1)]


def hosts_by_group(spec: HostsSpec) -> dict[str, list[str]]:
    """Return the hosts of each group; they are numbered in the order of the groups."""
    names = iter(host_names(spec))
    return {group.name: list(islice(names, group.instance_count)) for group in spec.groups}


def hosts_of(spec: HostsSpec, channel: Channel) -> list[str]:
    """Return the hosts that get a channel."""
    groups = hosts_by_group(spec)
    members = {host for name in channel.instance_groups for host in groups[name]}
    return [host for host in host_names(spec) if host in members or not members]


def resolve_channels(spec: HostsSpec, cache_path: Path, *, fetch: bool) -> ResolvedChannels:
    """Find the data of every channel on this machine.

    Args:
        spec: the job.
        cache_path: a folder for data that has to be linked or copied here.
        fetch: False links and copies nothing, and returns where the data would be.
    Raises:
        ChannelError: a channel has nothing to read; the message names channel and job.
        StorageError: an S3 refuses it, or does not answer.
    """

    def storage_of(uri: str) -> Storage:
        return recorded_storage(uri, spec.s3)

    resolved = ResolvedChannels()
    for channel in spec.channels:
        hosts = hosts_of(spec, channel)
        try:
            if channel.is_stream:
                _resolve_stream(resolved, channel, cache_path, storage_of, fetch=fetch)
            elif (channel.is_sharded and len(hosts) > 1) or channel.s3_data_type == "ManifestFile":
                _resolve_files(resolved, channel, hosts, cache_path, storage_of, fetch=fetch)
            else:
                _resolve_whole(resolved, channel, cache_path, storage_of, fetch=fetch)
        except ChannelError as error:
            raise ChannelError(
                f"channel '{channel.name}' of job '{spec.job_name}': {error.message}", error.hint
            ) from error
        if channel.name in spec.own_channels:
            _give_own_copies(resolved, channel, hosts, cache_path, fetch=fetch)
    return resolved


def _resolve_whole(
    resolved: ResolvedChannels, channel: Channel, cache_path: Path, storage_of: StorageOf, *, fetch: bool
) -> None:
    """Lend all that is there to every host: the caller's own folder, or links."""
    storage, path = storage_of(channel.uri), cache_path / channel.name
    if channel.input_mode == "FastFile":
        check_whole_folder(channel, storage_of)
    if fetch:
        path = storage.fetch(channel.uri, path)
        resolved.sources[channel.name] = ChannelSource(path, path.is_file())
    else:
        resolved.sources[channel.name] = ChannelSource(*storage.locate(channel.uri, path))


def _resolve_files(
    resolved: ResolvedChannels,
    channel: Channel,
    hosts: Sequence[str],
    cache_path: Path,
    storage_of: StorageOf,
    *,
    fetch: bool,
) -> None:
    """Link a choice of objects: those of a manifest, or the part of them that a host gets."""
    objects = list(channel_objects(channel, storage_of).items())
    if not channel.is_sharded or len(hosts) == 1:
        folder = cache_path / channel.name
        resolved.sources[channel.name] = ChannelSource(folder, False)
        resolved.notes.append(f"{channel.name}: {_counted(len(objects))}, as links")
        if fetch:
            _lend({folder / name: uri for name, uri in objects}, folder, storage_of)
        return
    objects = shuffled(objects, channel.shuffle_seed, 0)
    for number, host in enumerate(hosts):
        own = share_of(objects, number, len(hosts))
        folder = cache_path / f".{host}" / channel.name
        resolved.sources[f"{host}/{channel.name}"] = ChannelSource(folder, False)
        resolved.notes.append(f"{channel.name}: {_counted(len(own))} on {host}, as links")
        if fetch:
            _lend({folder / name: uri for name, uri in own}, folder, storage_of)


def _lend(files: Mapping[Path, str], folder: Path, storage_of: StorageOf) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("s3://", "file://"):
        of_scheme = {path: uri for path, uri in files.items() if uri.startswith(scheme)}
        if of_scheme:
            storage_of(next(iter(of_scheme.values()))).lend_all(of_scheme)


def _resolve_stream(
    resolved: ResolvedChannels, channel: Channel, cache_path: Path, storage_of: StorageOf, *, fetch: bool
) -> None:
    """Note what is streamed, as files of this machine, so that the feeder needs no S3 and no credentials."""
    if channel.s3_data_type == "AugmentedManifestFile":
        lines = augmented_lines(channel, storage_of)
        counted = f"{len(lines):,} line{'s' if len(lines) != 1 else ''}"
    else:
        lines = [[Part(uri=uri)] for uri in channel_objects(channel, storage_of).values()]
        counted = _counted(len(lines))
    uris = dict.fromkeys(part.uri for line in lines for part in line if part.uri)
    folder = cache_path / ".streams" / channel.name
    paths = {
        uri: Path(uri.removeprefix("file://")) if uri.startswith("file://") else folder / str(number)
        for number, uri in enumerate(uris)
    }
    if fetch:
        _lend({path: uri for uri, path in paths.items() if uri.startswith("s3://")}, folder, storage_of)
    resolved.streams[channel.name] = {
        "entries": [
            [{"path": str(paths[part.uri])} if part.uri else {"text": part.text} for part in line] for line in lines
        ],
        "sharded": channel.is_sharded,
        "seed": channel.shuffle_seed,
        "gzip": channel.compression == "Gzip",
        "record_io": channel.record_wrapping == "RecordIO",
    }
    options = [
        *(["decompressed"] if channel.compression == "Gzip" else []),
        *(["as RecordIO"] if channel.record_wrapping == "RecordIO" else []),
        *(["a part for each host"] if channel.is_sharded else []),
        *([f"shuffled by {channel.shuffle_seed}"] if channel.shuffle_seed is not None else []),
    ]
    name = channel.name
    resolved.notes.append(f"{', '.join([f'{name}: {counted}', *options])} -> {name}_0, {name}_1, ...")


def _counted(count: int) -> str:
    return f"{count:,} object{'s' if count != 1 else ''}"


def _give_own_copies(
    resolved: ResolvedChannels, channel: Channel, hosts: Sequence[str], cache_path: Path, *, fetch: bool
) -> None:
    """Put a copy for each host in the place of what was lent."""
    lent = {host: source_of(resolved.sources, host, channel.name) for host in hosts}
    for host, source in lent.items():
        folder = cache_path / f".own-{host}" / channel.name
        path = folder / source.path.name if source.is_file else folder
        resolved.sources[f"{host}/{channel.name}"] = ChannelSource(path, source.is_file)
        if fetch:
            own_copy(source.path, path)
    resolved.sources.pop(channel.name, None)
    how = "shared until it is written" if _clones(cache_path) else "copied byte by byte"
    resolved.notes.append(f"{channel.name}: a copy for the job to change, {how}")


def own_copy(source: Path, target: Path) -> None:
    """Copy a file or a folder for a job that changes its content; any user may write to the copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        _copy_file(source, target)
        target.chmod(0o666)
        return
    shutil.rmtree(target, ignore_errors=True)  # a driver before this one may have died in the middle
    shutil.copytree(source, target, copy_function=_copy_file)
    for folder, _, names in os.walk(target):
        Path(folder).chmod(0o777)
        for name in names:
            file = Path(folder, name)
            # Programs stay programs.
            file.chmod(0o777 if file.stat().st_mode & 0o100 else 0o666)


def _copy_file(source: str | Path, target: str | Path) -> str | Path:
    """Copy a file; where the file system can, the two share their blocks until one is written."""
    with open(source, "rb") as original, open(target, "wb") as copy:  # noqa: PTH123 - copytree gives texts
        try:
            fcntl.ioctl(copy, _FICLONE, original.fileno())
        except OSError:
            shutil.copyfileobj(original, copy, 1 << 20)
    shutil.copymode(source, target)
    return target


def _clones(folder: Path) -> bool:
    """Return whether the file system of a folder, which need not exist yet, lets files share blocks."""
    while not folder.exists():
        folder = folder.parent
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    kinds = [line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == wanted]
    return bool(kinds) and kinds[-1] in _CLONING
