"""What docker-compose.yml runs: the main job with the launcher itself, in the image that jobs run in.

Compose mounts the code, the presets and the folder ``jobs`` of the checkout. A job is a process of the container: its
record, log and results are in ``jobs/NAME``, as in any home. In S3 mode a bucket takes the results.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import urlsplit

from launcher.errors import ArtifactError, BadInputError, JobFailedError, LauncherError, StorageError
from launcher.jobs.store import JobStore
from launcher.running.artifacts import unpack
from launcher.sdk.bundled import bundled_estimator
from launcher.sdk.estimator import Estimator
from launcher.sdk.session import Session
from launcher.sdk.training_job import TrainingJob
from launcher.settings import data_path, home_path
from launcher.storage import recorded_storage

DEFAULT_PRESETS = {
    "collect": "preset-cartpole-random",
    "train": "preset-cartpole-ddqnbcq",
    "evaluate": "preset-cartpole-ddqnbcq-env",
}
MAKERS = {"train": "collect", "evaluate": "train"}  # whose newest job a command reads
CHANNELS = {"train": "train", "evaluate": "checkpoint"}
INPUT_VARIABLES = {"train": "DATASET", "evaluate": "CHECKPOINT"}
LATEST = "latest"  # in a bucket: LATEST/COMMAND holds the name of the newest job that succeeded
S3_SERVICE, S3_PORT = "s3", 9000
AWS_SERVICE = "aws"
CONSOLE_SERVICE = "ui"
_S3_START_SECONDS = 30
_STOPPED = 143  # 128 + SIGTERM
_FAILED = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line and the variables ask for; ``input_path`` as the user wrote it, "" by default."""

    command: str
    preset: str
    hyperparameters: dict[str, object]
    input_path: str


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code of this process (2: the job cannot be started as asked)."""
    try:
        if arguments == [S3_SERVICE]:
            become_owner(home_path() / "jobs")
            serve_bucket(home_path() / "jobs")
        if arguments == [AWS_SERVICE]:
            become_owner(home_path() / "jobs")
            serve_aws(home_path() / "jobs")
        if arguments == [CONSOLE_SERVICE]:
            become_owner(home_path() / "jobs", also=home_path())
            serve_console(home_path(), os.environ.get("CONSOLE_URL", ""))
        request = read_request(arguments, os.environ)
        become_owner(home_path() / "jobs")
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        with tempfile.TemporaryDirectory(prefix="launcher-compose-") as scratch:
            place = _Bucket(Path(scratch), endpoint) if endpoint else _Jobs(Path(scratch))
            return run_request(request, place)
    except LauncherError as error:
        print(f"{arguments[0] if arguments else 'compose'}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _STOPPED


def read_request(arguments: list[str], variables: Mapping[str, str]) -> Request:
    """Return what is asked for.

    Args:
        arguments: one command.
        variables: PRESET, HYPERPARAMETERS (a JSON object), DATASET for train, CHECKPOINT for evaluate; an empty one
            counts as not set.
    Raises:
        BadInputError: the command is unknown, or HYPERPARAMETERS does not hold hyperparameters.
    """
    if len(arguments) != 1 or arguments[0] not in DEFAULT_PRESETS:
        raise BadInputError(f"{arguments} is not a command.", f"Name one of: {', '.join(DEFAULT_PRESETS)}.")
    command = arguments[0]
    hyperparameters = _read_hyperparameters(variables.get("HYPERPARAMETERS", ""))
    named = {
        variable: name
        for variable, name in (
            ("PRESET", variables.get("PRESET", "")),
            ("HYPERPARAMETERS' preset", hyperparameters.pop("preset", "")),
            ("HYPERPARAMETERS' RLCOACH_PRESET", hyperparameters.pop("RLCOACH_PRESET", "")),
        )
        if name
    }
    if len(set(map(str, named.values()))) > 1:
        differing = ", ".join(f"{variable} is {name!r}" for variable, name in named.items())
        raise BadInputError(f"{differing}.", "Name one preset.")
    preset = str(next(iter(named.values()), DEFAULT_PRESETS[command])).removesuffix(".yaml").removesuffix(".yml")
    return Request(command, preset, hyperparameters, variables.get(INPUT_VARIABLES.get(command, ""), ""))


def become_owner(jobs: Path, *, also: Path | None = None) -> None:
    """Give up root for the user who owns the checkout, so that every file of the job belongs to that user.

    Does nothing where this process is not root, or where root owns the checkout (also: a rootless engine).

    Args:
        jobs: the checkout's folder of jobs, which the engine makes as root where it is missing.
        also: another folder that root made, for that user to write to.
    Raises:
        BadInputError: the folder is not mounted, or the checkout's owner may not write to it.
    """
    if not jobs.is_dir():
        raise BadInputError(f"{jobs} is not there.", "Start this with docker compose, which mounts the checkout.")
    owner = data_path("presets").stat()
    if os.getuid() == 0 and owner.st_uid != 0:
        # Somebody else's folder is left alone.
        for folder in filter(None, (jobs, also)):
            if folder.stat().st_uid == 0:
                os.chown(folder, owner.st_uid, owner.st_gid)
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    if not os.access(jobs, os.W_OK | os.X_OK):
        raise BadInputError(
            f"user {os.getuid()}, who owns the checkout, cannot write to its folder jobs/.",
            f"Mend that: sudo chown -R {os.getuid()} jobs",
        )


def serve_bucket(jobs: Path) -> NoReturn:
    """Become the S3 of S3 mode: the launcher's own, with its objects in ``jobs/s3``."""
    module = "launcher.s3_server.foreground"
    os.execv(sys.executable, [sys.executable, "-m", module, str(jobs / "s3"), "0.0.0.0", str(S3_PORT), S3_SERVICE])


def serve_aws(jobs: Path) -> NoReturn:
    """Become the local AWS, with the same objects, and with all that it runs in ``jobs``."""
    module = "launcher.aws.foreground"
    os.execv(sys.executable, [sys.executable, "-m", module, str(jobs / "s3"), "0.0.0.0", str(S3_PORT), AWS_SERVICE])


def serve_console(home: Path, url: str) -> NoReturn:
    """Become the console of the jobs; its key, its index and its lists are of this container alone."""
    module = "launcher.console.foreground"
    url = url or f"http://127.0.0.1:{S3_PORT}"
    os.execv(sys.executable, [sys.executable, "-m", module, str(home), "0.0.0.0", str(S3_PORT), url])


def run_request(request: Request, place: _Jobs | _Bucket) -> int:
    """Run the job that is asked for, after collecting a dataset if there is none to train on.

    Raises:
        LauncherError: the job's input is missing, or it cannot be run as asked; nothing was started.
    """
    if request.command not in CHANNELS:
        return run_job(request, None, place)
    if request.command == "train" and not request.input_path and place.newest("collect") is None:
        # The training is checked as far as possible before the data are collected.
        make_estimator(request, place).plan()
        print(f"train: there is no dataset in {place.title} yet; collecting one first.", flush=True)
        exit_code = run_job(Request("collect", DEFAULT_PRESETS["collect"], {}, ""), None, place)
        if exit_code != 0:
            return exit_code
    return run_job(request, find_input(request, place), place)


def find_input(request: Request, place: _Jobs | _Bucket) -> str:
    """Return the path or URI that the job's channel is made of.

    A job stands for its ``output.tar.gz``; without a path it is the newest one that succeeded.

    Raises:
        BadInputError: there is no such thing.
    """
    maker = MAKERS[request.command]
    wanted = request.input_path
    if not wanted:
        job = place.newest(maker)
        if job is None:
            raise BadInputError(
                f"no {maker} job in {place.title} has succeeded yet.", f"Run: docker compose run --rm {maker}"
            )
        wanted = f"jobs/{job}"
    source = place.locate(wanted, maker)
    folder = CHANNELS[request.command]
    if folder != "checkpoint" or not isinstance(source, Path) or not source.is_dir():
        return str(source)
    inner = source / "checkpoint"
    if not inner.is_dir() and place.was_unpacked(source):
        raise BadInputError(f"{wanted} does not hold a folder checkpoint.", f"Name a {maker} job, or a checkpoint.")
    return str(inner if inner.is_dir() else source)


def make_estimator(request: Request, place: _Jobs | _Bucket) -> Estimator:
    """Return the estimator of a command: a bundled entry point as a process of this container."""
    return bundled_estimator(
        request.preset,
        f"{request.command}.py",
        request.hyperparameters,
        runtime="process",
        base_job_name=request.command,
        sagemaker_session=place.session,
        mode=None if place.session else "local",
    )


def run_job(request: Request, source: str | None, place: _Jobs | _Bucket) -> int:
    """Run one job, follow it, and say where its results are; return 0, or the exit code that says how it ended.

    Raises:
        BadInputError: the job cannot be run as asked; nothing was started.
    """
    command = request.command
    job = make_estimator(request, place).submit(None if source is None else {CHANNELS[command]: source})
    print(f"{command}: job {job.name}", flush=True)
    exit_code = 0
    try:
        job.wait(logs="All")
    except JobFailedError as error:
        print(f"{command}: failed: {error.reason or error.message}", file=sys.stderr, flush=True)
        exit_code = error.exit_code
    except LauncherError as error:
        print(f"{command}: {error}", file=sys.stderr, flush=True)
        exit_code = _FAILED
    except KeyboardInterrupt:
        print(f"{command}: stopped.", flush=True)
        exit_code = _STOPPED
    for line in job.warnings:
        print(f"{command}: warning: {line}", file=sys.stderr, flush=True)
    place.say_results(command, job)
    if exit_code == 0 and job.status == "Completed":
        place.point_to(command, job.name)
    elif exit_code == 0:
        print(f"{command}: {job.status}.", file=sys.stderr, flush=True)
        exit_code = _FAILED
    return exit_code


class _Place:
    """Where jobs are found and where their results go.

    Args:
        scratch: a folder of this container.
    """

    title = ""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._unpacked: set[Path] = set()

    def was_unpacked(self, folder: Path) -> bool:
        """Return whether ``locate`` made the folder of an archive."""
        return folder in self._unpacked

    def _unpack(self, archive: Path, shown: str, target: Path) -> Path:
        if not target.is_dir():
            try:
                unpack(archive, target)
            except ArtifactError as error:
                raise BadInputError(f"{shown} cannot be unpacked: {error.message}", error.hint) from error
        self._unpacked.add(target)
        return target

    @staticmethod
    def _results(job: TrainingJob) -> list[str]:
        spec = JobStore(home_path()).load(job.name).training_spec
        keys = (job.keys.model, job.keys.output)
        return [uri for uri in keys if recorded_storage(uri, spec.s3).exists(uri)]


class _Jobs(_Place):
    """The folder ``jobs`` of the checkout."""

    title = "jobs/"
    session: Session | None = None

    def newest(self, command: str) -> str | None:
        """Return the name of the newest job of a command that succeeded."""
        link = home_path() / "jobs" / command
        return link.resolve().name if link.exists() else None

    def locate(self, wanted: str, maker: str) -> Path:
        """Return the folder or file that a path below ``jobs/`` or ``data/`` means; a job's archive is unpacked.

        Raises:
            BadInputError: there is no such thing, or it is not visible here.
        """
        path = PurePosixPath(wanted)
        roots = {"jobs": home_path() / "jobs", "data": data_path("presets").parent / "data"}
        if path.is_absolute() or ".." in path.parts or path.parts[:1] not in [(name,) for name in roots]:
            raise BadInputError(
                f"{wanted} is neither below jobs/ nor below data/, and nothing else is visible here.",
                "Name a job, jobs/NAME; or the folder of your data in DATA, and a file or folder in it as data/NAME.",
            )
        source = roots[path.parts[0]].joinpath(*path.parts[1:])
        if not source.exists():
            raise BadInputError(
                f"{wanted} does not exist.", "To see what there is: ls jobs, or list the folder of DATA."
            )
        archive = source / "output" / "output.tar.gz"
        if archive.is_file():
            return self._unpack(archive, f"{wanted}/output/output.tar.gz", source.resolve() / "unpacked" / "output")
        if (source / "output").is_dir():
            raise BadInputError(
                f"{wanted} left no output/output.tar.gz.", f"Another job, or: docker compose run --rm {maker}"
            )
        return self._unpack(source, wanted, self._scratch / "input") if _is_archive(source.name) else source

    def say_results(self, command: str, job: TrainingJob) -> None:
        """Print where the archives of a job are, as paths of the checkout."""
        for uri in self._results(job):
            path = Path(uri.removeprefix("file://")).relative_to(home_path())
            print(f"{command}: {path}", flush=True)

    def point_to(self, command: str, job_name: str) -> None:
        """Point ``jobs/COMMAND`` to a job, in one step: a reader sees the old or the new one."""
        link = home_path() / "jobs" / command
        fresh = link.with_name(f".{command}.{os.getpid()}")
        fresh.symlink_to(job_name)
        try:
            fresh.replace(link)
        except OSError as error:  # something that is no link has that name
            fresh.unlink()
            print(f"{command}: {link} cannot point to this job: {error}", file=sys.stderr)


class _Bucket(_Place):
    """A bucket in the place of ``jobs``; records and logs are in a folder of this container.

    Args:
        endpoint: of the S3 that compose starts beside the jobs.
    """

    def __init__(self, scratch: Path, endpoint: str) -> None:
        super().__init__(scratch)
        os.environ["LAUNCHER_HOME"] = str(scratch / "home")
        self.session = Session(mode="s3", default_bucket=os.environ.get("BUCKET") or None)
        _wait_for(endpoint)
        self._bucket = self.session.default_bucket()
        self.title = f"s3://{self._bucket}/"

    def newest(self, command: str) -> str | None:
        """Return the name of the newest job of a command that succeeded."""
        try:
            return self.session.read_s3_file(self._bucket, f"{LATEST}/{command}").strip()
        except StorageError as error:
            if error.aws_code in ("NoSuchKey", "404"):
                return None
            raise

    def locate(self, wanted: str, maker: str) -> Path | str:
        """Return the URI that ``DATASET`` or ``CHECKPOINT`` means, or the folder that an archive was unpacked to.

        Raises:
            BadInputError: there is no such object.
        """
        uri = wanted
        if wanted.startswith("jobs/"):
            uri = self.session.uri(self._bucket, f"{wanted.removeprefix('jobs/').strip('/')}/output/output.tar.gz")
        if not uri.startswith("s3://"):
            raise BadInputError(f"{wanted} is not a place of S3 mode.", "Write jobs/NAME, or s3://BUCKET/PREFIX.")
        if not _is_archive(uri):
            return uri
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if key not in self.session.list_s3_files(bucket, key):
            raise BadInputError(f"{uri} does not exist.", f"Another job, or: docker compose run --rm {maker}")
        archive = self.session.download_data(self._scratch / "archive", bucket, key)[0]
        return self._unpack(Path(archive), uri, self._scratch / "input")

    def say_results(self, _command: str, job: TrainingJob) -> None:
        """Print where the archives of a job are."""
        for uri in self._results(job):
            print(f"stored {uri}", flush=True)

    def point_to(self, command: str, job_name: str) -> None:
        """Let the object ``latest/COMMAND`` hold the job's name."""
        pointer = self._scratch / command
        pointer.write_text(job_name, encoding="utf-8")
        self.session.upload_data(pointer, self._bucket, LATEST)


def _is_archive(name: str) -> bool:
    return name.endswith((".tar.gz", ".tgz"))


def _wait_for(endpoint: str) -> None:
    """Wait for an S3 that has just been started.

    Raises:
        BadInputError: it does not answer.
    """
    parts = urlsplit(endpoint)
    deadline = time.monotonic() + _S3_START_SECONDS
    while True:
        try:
            socket.create_connection((parts.hostname or "", parts.port or 80), 1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise BadInputError(
                    f"the S3 at {endpoint} does not answer: {error}.", "Its log: docker compose logs s3"
                ) from error
        time.sleep(0.1)


def _read_hyperparameters(text: str) -> dict[str, object]:
    if not text.strip():
        return {}
    example = """Write it like this: HYPERPARAMETERS='{"agent.learning_rate": 0.001}'"""
    try:
        content = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"HYPERPARAMETERS is not JSON: {error}.", example) from error
    if not isinstance(content, dict):
        raise BadInputError(f"HYPERPARAMETERS must be a JSON object, not {type(content).__name__}.", example)
    return content


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
