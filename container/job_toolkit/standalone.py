"""One job without a launcher around it, for ``docker compose run train``, ``evaluate`` and ``collect``.

Compose mounts the checkout at ``/project`` and its folder ``jobs`` at ``/jobs``. Around a job, this module
does what the launcher does on the host: it writes the configuration, lays out ``/opt/ml``, runs the job, and
leaves what a managed job leaves in ``jobs/<job>/output``: ``model.tar.gz``, ``output.tar.gz``, ``intermediate/``.
In S3 mode a bucket stands in the place of ``jobs``.
"""

import difflib
import gzip
import json
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn, cast

from job_toolkit.bucket import Bucket, BucketError, bucket_of, fetch_input, mirrored
from job_toolkit.paths import JobPaths, job_paths
from job_toolkit.trainer import StopSignals, run_job

DEFAULT_PRESETS = {
    "collect": "preset-cartpole-random",
    "train": "preset-cartpole-ddqnbcq",
    "evaluate": "preset-cartpole-ddqnbcq-env",
}
# Which channel a command reads, the variable that names another source, and the command that makes it.
CHECKPOINT_CHANNEL = "checkpoint"
DATASET_CHANNEL = "train"

# What docker-compose.yml starts beside the jobs in S3 mode, and where it listens.
S3_SERVICE, S3_PORT = "s3", "9000"

# Level 9, which tarfile would take, needs six times as long and saves 3 %.
COMPRESSION_LEVEL = 1
COPY_BYTES = 1024 * 1024


class StandaloneError(Exception):
    """The job cannot be started as asked; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line and the variables ask for; ``input_path`` as the user wrote it, "" by default."""

    command: str
    hyperparameters: dict[str, object]
    input_path: str


@dataclass(frozen=True, slots=True)
class HostFolders:
    """The two folders of the host: the checkout, read-only, and the folder of all jobs."""

    project: Path
    jobs: Path


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code of this process (2: the job cannot be started as asked)."""
    folders = HostFolders(
        project=Path(os.environ.get("STANDALONE_PROJECT_DIR") or "/project"),
        jobs=Path(os.environ.get("STANDALONE_JOBS_DIR") or "/jobs"),
    )
    try:
        if arguments == [S3_SERVICE]:
            become_owner(folders)
            serve_bucket(folders)
        request = read_request(arguments, os.environ)
        become_owner(folders)
        check_preset(request, folders)
        bucket = bucket_of(os.environ)
        with StopSignals().caught() as signals:
            return (
                run_request(request, folders, signals)
                if bucket is None
                else run_in_bucket(request, folders, bucket, signals)
            )
    except (StandaloneError, BucketError) as error:
        print(f"{arguments[0] if arguments else 'standalone'}: {error}", file=sys.stderr)
        return 2


def read_request(arguments: list[str], variables: Mapping[str, str]) -> Request:
    """Return what is asked for.

    Args:
        arguments: one command.
        variables: PRESET, HYPERPARAMETERS (a JSON object), DATASET for train, CHECKPOINT for evaluate; an
            empty one counts as not set.

    Raises:
        StandaloneError: the command is unknown, or HYPERPARAMETERS does not hold hyperparameters.
    """
    if len(arguments) != 1 or arguments[0] not in DEFAULT_PRESETS:
        raise StandaloneError(f"name one of these commands: {', '.join(DEFAULT_PRESETS)}.")
    command = arguments[0]
    hyperparameters = _read_hyperparameters(variables.get("HYPERPARAMETERS", ""))
    preset = variables.get("PRESET", "")
    if preset and hyperparameters.get("preset", preset) != preset:
        raise StandaloneError(
            f"PRESET is {preset!r}, HYPERPARAMETERS holds the preset {hyperparameters['preset']!r}; name one."
        )
    # The entry points also take the preset by its old name, and refuse two that differ.
    if preset or "RLCOACH_PRESET" not in hyperparameters:
        hyperparameters.setdefault("preset", preset or DEFAULT_PRESETS[command])
    input_variable = {"train": "DATASET", "evaluate": "CHECKPOINT"}.get(command, "")
    return Request(command, hyperparameters, variables.get(input_variable, ""))


def become_owner(folders: HostFolders) -> None:
    """Give up root for the user who owns the checkout, so that every file of the job belongs to that user.

    Does nothing where this process is not root, or where root owns the checkout (also: a rootless engine).

    Raises:
        StandaloneError: the checkout is not mounted, or its owner may not write to the folder of jobs.
    """
    try:
        owner = folders.project.stat()
    except OSError as error:
        raise StandaloneError(f"{error}. Start this with docker compose, which mounts the checkout.") from error
    if os.getuid() == 0 and owner.st_uid != 0:
        folder = folders.jobs.stat()
        # The engine makes a missing mount source, as root. Somebody else's folder is left alone.
        if folder.st_uid == 0:
            os.chown(folders.jobs, owner.st_uid, owner.st_gid)
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    if not os.access(folders.jobs, os.W_OK | os.X_OK):
        raise StandaloneError(
            f"user {os.getuid()}, who owns the checkout, cannot write to its folder jobs/. "
            f"Mend that: sudo chown -R {os.getuid()} jobs"
        )


def check_preset(request: Request, folders: HostFolders) -> None:
    """Refuse a preset that is not there, before anything is written.

    Raises:
        StandaloneError: no such file; the message lists those that are there.
    """
    preset = str(request.hyperparameters.get("preset") or request.hyperparameters.get("RLCOACH_PRESET"))
    entry_points = folders.project / "entrypoints"
    places = (folders.project / "presets", entry_points / "presets", entry_points)
    known = {file.stem for place in places if place.is_dir() for file in place.glob("*.yaml")}
    if preset.removesuffix(".yaml") not in known:
        nearest = difflib.get_close_matches(preset, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"those there are: {', '.join(sorted(known))}."
        raise StandaloneError(f"there is no preset {preset!r} in presets/; {hint}")


def run_request(request: Request, folders: HostFolders, signals: StopSignals) -> int:
    """Run the job that is asked for, after one that collects the dataset if there is none to train on.

    Raises:
        StandaloneError: what the job should read is not there; nothing was started.
    """
    if request.command == "collect":
        channels: dict[str, Path] = {}
    elif request.command == "train":
        if not request.input_path and not (folders.jobs / "collect").exists():
            print("train: there is no dataset in jobs/ yet; collecting one first.", flush=True)
            collect = Request("collect", {"preset": DEFAULT_PRESETS["collect"]}, "")
            exit_code = run_job_folder(collect, {}, folders, signals)
            if exit_code != 0:
                return exit_code
        channels = {DATASET_CHANNEL: find_input(request, folders)}
    else:
        channels = {CHECKPOINT_CHANNEL: find_input(request, folders)}
    return run_job_folder(request, channels, folders, signals)


def run_in_bucket(request: Request, folders: HostFolders, bucket: Bucket, signals: StopSignals) -> int:
    """Run the job that is asked for with the bucket in the place of ``jobs``, which is a folder of this container.

    Raises:
        StandaloneError, BucketError: as ``run_request``; or the S3 has not got what the job should read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        jobs = Path(scratch)
        bucket.make()
        maker = {"train": "collect", "evaluate": "train"}.get(request.command)
        if maker is not None:
            input_path = fetch_input(bucket, jobs, maker, request.input_path)
            request = replace(request, input_path=input_path)
        try:
            with mirrored(jobs, bucket):
                return run_request(request, replace(folders, jobs=jobs), signals)
        except BucketError as error:
            print(f"{request.command}: results are lost: {error}", file=sys.stderr, flush=True)
            return 1


def serve_bucket(folders: HostFolders) -> NoReturn:
    """Become the S3 of S3 mode: the launcher's own, from the checkout, with its objects in ``jobs/s3``."""
    command = [sys.executable, "-m", "launcher.s3_server.foreground", str(folders.jobs / "s3"), "0.0.0.0", S3_PORT]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": str(folders.project)})


def find_input(request: Request, folders: HostFolders) -> Path:
    """Return the archive, folder or file that the job's channel is made of.

    A job folder stands for its ``output.tar.gz``; without a path, it is the newest job that left one.

    Raises:
        StandaloneError: there is no such thing.
    """
    maker = "collect" if request.command == "train" else "train"
    if request.input_path:
        path = _inside_mounts(request.input_path, folders)
        if not path.exists():
            raise StandaloneError(f"{request.input_path} does not exist in the checkout.")
    else:
        path = folders.jobs / maker
        if not path.exists():
            raise StandaloneError(
                f"jobs/{maker} does not exist: no {maker} job has finished yet. Run: docker compose run {maker}"
            )
    archive = path / "output" / "output.tar.gz"
    if archive.is_file():
        return archive
    if (path / "output").is_dir():
        raise StandaloneError(
            f"{path.name} left no output/output.tar.gz. Choose another job, or run: docker compose run {maker}"
        )
    return path


def run_job_folder(request: Request, channels: Mapping[str, Path], folders: HostFolders, signals: StopSignals) -> int:
    """Run one job, leave its results in a new folder below ``jobs``, and return its exit code.

    Results are packed however the job ended. ``jobs/<command>`` then points to it if it succeeded.

    Raises:
        StandaloneError: a channel cannot be made of what was found; nothing was started.
    """
    paths = job_paths()
    _clear(paths.base)
    for name, source in channels.items():
        _fill_channel(paths.input_data / name, source, _member_prefix(name))
    job_name, output = _make_job_folder(request.command, folders.jobs)
    _write_tree(paths, request, channels, folders.project, output)
    os.environ["TRAINING_JOB_NAME"] = job_name
    print(f"{request.command}: job {job_name}", flush=True)
    exit_code = run_job(request.command, signals)
    for folder, archive in ((paths.model, output / "model.tar.gz"), (paths.output_data, output / "output.tar.gz")):
        try:
            if pack(folder, archive):
                print(f"{request.command}: jobs/{archive.relative_to(folders.jobs)}", flush=True)
        except StandaloneError as error:
            print(f"{request.command}: {error}", file=sys.stderr, flush=True)
            exit_code = exit_code or 1
    if signals.received is not None:
        print(f"{request.command}: stopped.", flush=True)
        return exit_code or 128 + signals.received
    if exit_code == 0:
        _point_to(folders.jobs / request.command, job_name)
    else:
        print(f"{request.command}: failed with exit code {exit_code}.", file=sys.stderr, flush=True)
    return exit_code


def unpack(archive: Path, target: Path, prefix: str = "") -> int:
    """Unpack the regular files of ``archive`` whose names begin with ``prefix``; return how many there were.

    Nothing but files and folders below ``target`` is made, whatever the names and links in the archive say.

    Args:
        archive: a gzipped tar.
        target: a folder; it is made if there is something to unpack.
        prefix: a folder of the archive, with a final "/"; left out of the names below ``target``.

    Raises:
        StandaloneError: the archive is damaged, or a name would leave ``target``.
    """
    count = 0
    try:
        with tarfile.open(archive, "r:gz") as content:
            for member in content:
                name = PurePosixPath(member.name)
                if not member.isreg() or not str(name).startswith(prefix):
                    continue
                relative = PurePosixPath(str(name)[len(prefix) :])
                if relative.is_absolute() or ".." in relative.parts:
                    raise StandaloneError(f"{_shown(archive)} holds {member.name!r}, which would leave its folder.")
                file = target / relative
                file.parent.mkdir(parents=True, exist_ok=True)
                source = content.extractfile(member)
                if source is not None:
                    with source, file.open("wb") as copy:
                        shutil.copyfileobj(source, copy, COPY_BYTES)
                count += 1
    except (OSError, EOFError, tarfile.TarError) as error:
        raise StandaloneError(f"{_shown(archive)} cannot be unpacked: {error}") from error
    return count


def pack(folder: Path, archive: Path) -> bool:
    """Write all that is in ``folder`` to ``archive``, which appears complete or not at all; False if empty.

    The same files make the same bytes: sorted, owned by nobody, the compressor's own time left out.

    Raises:
        StandaloneError: a file cannot be read or the disk is full; nothing of the archive is left.
    """
    part = archive.with_name(f".{archive.name}.part")
    try:
        members = list(_members(folder))
        if not members:
            return False
        with (
            part.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=COMPRESSION_LEVEL, fileobj=file, mtime=0) as stream,
            tarfile.open(fileobj=cast("IO[bytes]", stream), mode="w", format=tarfile.PAX_FORMAT) as content,
        ):
            for path in members:
                _add(content, path.relative_to(folder).as_posix(), path)
        part.replace(archive)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StandaloneError(f"{_shown(archive)} cannot be written: {error}") from error
    return True


def _read_hyperparameters(text: str) -> dict[str, object]:
    if not text.strip():
        return {}
    example = """HYPERPARAMETERS='{"agent.learning_rate": 0.001}'"""
    try:
        content = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise StandaloneError(f"HYPERPARAMETERS is not JSON: {error}. Write it like this: {example}") from error
    if not isinstance(content, dict):
        raise StandaloneError(
            f"HYPERPARAMETERS must be a JSON object, not {type(content).__name__}. Write it like this: {example}"
        )
    return content


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def _inside_mounts(text: str, folders: HostFolders) -> Path:
    """Return where a path relative to the checkout is in this container."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        raise StandaloneError(
            f"{text} is not a path inside the checkout, and nothing else is visible here. "
            "Copy it there and name it relative to the checkout, for example jobs/NAME or data/log.csv."
        )
    if path.parts[:1] == ("jobs",):
        return folders.jobs.joinpath(*path.parts[1:])
    return folders.project / path


def _shown(path: Path) -> str:
    """Return a path as the user knows it: the folders of the host are mounted at the root of the container."""
    return str(path).removeprefix("/project/").removeprefix("/")


def _clear(folder: Path) -> None:
    """Remove what an earlier job in this container left."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _member_prefix(channel: str) -> str:
    # A training job keeps other things beside its checkpoints; the channel holds the checkpoints alone.
    return "checkpoint/" if channel == CHECKPOINT_CHANNEL else ""


def _fill_channel(folder: Path, source: Path, member_prefix: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        inner = source / member_prefix
        folder.symlink_to(inner if inner.is_dir() else source)
    elif source.name.endswith((".tar.gz", ".tgz")):
        if unpack(source, folder, member_prefix) == 0:
            wanted = f"a folder {member_prefix.rstrip('/')} with files" if member_prefix else "any files"
            raise StandaloneError(f"{_shown(source)} does not hold {wanted}.")
    else:
        folder.mkdir()
        (folder / source.name).symlink_to(source)


def _make_job_folder(command: str, jobs: Path) -> tuple[str, Path]:
    while True:
        milliseconds = time.time_ns() // 1_000_000
        stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime(milliseconds // 1000))
        name = f"{command}-{stamp}-{milliseconds % 1000:03d}"
        try:
            (jobs / name).mkdir()
        except FileExistsError:
            continue  # another job took the same millisecond
        output = jobs / name / "output"
        (output / "intermediate").mkdir(parents=True)
        return name, output


def _write_tree(paths: JobPaths, request: Request, channels: Mapping[str, Path], project: Path, output: Path) -> None:
    for folder in (paths.model, paths.output_data, paths.checkpoints, paths.code, paths.input_config):
        folder.mkdir(parents=True)
    # Live on the host while the job runs; everything else is packed at the end.
    paths.intermediate.symlink_to(output / "intermediate")
    for entry in (project / "entrypoints").iterdir():
        (paths.code / entry.name).symlink_to(entry)
    (paths.code / "presets").symlink_to(project / "presets")
    # As the SDK sends them: each value JSON in a string, so that every one arrives with its type.
    hyperparameters = {name: json.dumps(value) for name, value in request.hyperparameters.items()}
    arrival = {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    group = {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": ["algo-1"]}
    resources = {
        "current_host": "algo-1",
        "current_instance_type": "local",
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"],
        "instance_groups": [group],
        "network_interface_name": "eth0",
    }
    for file, content in {
        "hyperparameters": hyperparameters,
        "inputdataconfig": dict.fromkeys(channels, arrival),
        "resourceconfig": resources,
    }.items():
        text = json.dumps(content, separators=(",", ":"))
        (paths.input_config / f"{file}.json").write_text(text, encoding="utf-8")


def _members(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        mode = entry.lstat().st_mode
        # Links may point at anything on this machine, and sockets and pipes have no content to keep.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            print(f"standalone: {entry} is no file or folder; left out.", file=sys.stderr)
            continue
        yield entry
        if stat.S_ISDIR(mode):
            yield from _members(entry)


def _add(content: tarfile.TarFile, name: str, path: Path) -> None:
    status = path.lstat()
    member = tarfile.TarInfo(name)
    member.mtime = int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        content.addfile(member)
    else:
        member.size = status.st_size
        member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        with path.open("rb") as file:
            content.addfile(member, file)


def _point_to(link: Path, target: str) -> None:
    """Let ``link`` point to ``target``; whoever reads it meanwhile sees the old or the new one."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    try:
        fresh.replace(link)
    except OSError as error:  # something that is no link has that name
        fresh.unlink()
        print(f"{link.name}: {link} cannot point to this job: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
