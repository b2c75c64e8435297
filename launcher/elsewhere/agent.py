"""The other side: runs on the machine that the jobs go to, at the end of an ssh connection, and answers questions.

It ends with the connection; jobs and their drivers do not.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from launcher import __version__
from launcher.elsewhere.contents import CHUNK_BYTES, ContentStore, Entry
from launcher.elsewhere.messages import GREETING, Payload, container_of, error_message, receive, send
from launcher.errors import LauncherError, OutputPathError
from launcher.jobs.folder import JobFolder
from launcher.jobs.kinds import TRAINING_JOBS
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import TrainingJobSpec, job_keys
from launcher.jobs.store import JobStore
from launcher.running.accepting import accept, plan_job, record_job
from launcher.running.driving import be_driver, undriven
from launcher.running.limits import job_limits
from launcher.running.looking import RunningJob
from launcher.running.spawner import driver_environment
from launcher.runtimes import TRAINING_JOB, choose_runtime, get_runtime
from launcher.settings import home_path

_TICK_SECONDS = 0.05
_LOOK_SECONDS = 2.0  # between two looks whether a job has a driver
_LISTING_SECONDS = 0.5  # between two looks at what a job writes
_MOST_BYTES = 8 << 20  # of logs in one answer
_GROWING = ("job*.log", "job*.log.times", "metrics.jsonl", "usage.jsonl")
_WHOLE = ("environment.json",)


class Agent:
    """Answers one connection.

    Args:
        drivers: makes the drivers of jobs.
    """

    def __init__(self, drivers: Drivers) -> None:
        self._drivers = drivers
        self._home = home_path()
        self._store = JobStore(self._home)
        self._contents = ContentStore(self._home / "sent")
        self._told: dict[str, Any] = {}
        self._next_look = self._next_listing = 0.0
        self._received = Payload(io.BytesIO(), 0)
        self._payload: tuple[Iterator[bytes], int] = (iter(()), 0)

    def answer(self, request: Mapping[str, Any], received: Payload) -> tuple[dict[str, Any], Iterator[bytes], int]:
        """Return the answer to a request, with the bytes that follow it and their number."""
        self._received, self._payload = received, (iter(()), 0)
        call: Callable[..., dict[str, Any]] = getattr(self, f"call_{request['call']}")
        message = call(**request["arguments"])
        return message, *self._payload

    def call_hello(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """Take the caller's settings of jobs; say who is here."""
        os.environ.update(variables)
        return {
            "home": str(self._home), "python": sys.executable, "version": __version__, "machine": platform.node(),
            "code": str(Path(__file__).resolve().parents[2]),
        }  # fmt: skip

    def call_choose(self, runtime: str, image_uri: str | None) -> dict[str, Any]:
        """Say which runtime a job would have here."""
        chosen = choose_runtime(runtime, image_uri=image_uri, subject=TRAINING_JOB)
        return {
            "name": chosen.name, "network_interface": chosen.network_interface, "runs_images": chosen.runs_images,
            "gpus": chosen.gpus,
        }  # fmt: skip

    def call_place(self, spec: Mapping[str, Any], runtime: str) -> dict[str, Any]:
        """Say what the hosts of a job may use here."""
        allowed = job_limits(TrainingJobSpec.from_dict(spec), get_runtime(runtime))
        return {"limits": asdict(allowed.limits), "warnings": list(allowed.warnings)}

    def call_check(self, container: Mapping[str, Any], runtime: str) -> dict[str, Any]:
        """Refuse a host that could not be run here, or a job whose name is used."""
        host, chosen = container_of(container), get_runtime(runtime)
        self._store.check_writable()
        self._store.check_unused(host.job_name)
        chosen.check(replace(host, state_path=str(self._store.folder(host.job_name).work_path / host.host)))
        return {"image": chosen.describe_image(host), "refused_faults": dict(chosen.refused_faults(host))}

    def call_folder(self, digest: str) -> dict[str, Any]:
        """Say where a folder of files is that were sent before; empty where it is not."""
        path = self._contents.folder(digest)
        return {"path": str(path or "")}

    def call_missing(self, digests: Sequence[str]) -> dict[str, Any]:
        """Say which contents are not here."""
        return {"digests": self._contents.missing(digests)}

    def call_put(self, files: Sequence[tuple[str, int]]) -> dict[str, Any]:
        """Take the contents that follow the request."""
        for digest, size in files:
            self._contents.put(digest, size, self._received)
        return {}

    def call_make_folder(self, entries: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Make a folder of contents that are here."""
        return {"path": str(self._contents.make_folder([Entry(*row) for row in entries]))}

    def call_checkpoints(self, name: str, entries: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Make the folder that holds a job's checkpoints, with those of earlier jobs, as copies."""
        path = self._checkpoints(name)
        if not self._store.folder(name).record_path.exists():
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            self._contents.copy_to(path, [Entry(*row) for row in entries])
        return {"path": str(path), "files": _listed({"checkpoints": path})["checkpoints"]}

    def call_submit(self, document: Mapping[str, Any], origin: str) -> dict[str, Any]:
        """Record a job and give it a driver; once, however often the same submission comes."""
        name = document["TrainingJobName"]
        if not (self._store.folder(name).record_path.exists() and self._store.load(name).origin == origin):
            job = accept(document)
            plan_job(job, self._store)
            with self._store.claim(name) as claim:
                record_job(job, claim, origin)
            self._drivers.start(self._store, name)
        return {"path": str(self._store.folder(name).path)}

    def call_follow(self, name: str, sizes: Mapping[str, int], seconds: float, begins: bool) -> dict[str, Any]:
        """Say what is new of a job: its record, its logs, its files; wait for something new at most ``seconds``.

        Args:
            begins: everything is new to the caller.
        """
        folder = self._store.folder(name)
        if begins:
            self._told, self._next_listing = {}, 0.0
        deadline = time.monotonic() + seconds
        while True:
            record = self._store.load(name)
            if not record.terminal and time.monotonic() > self._next_look:
                self._next_look = time.monotonic() + _LOOK_SECONDS
                if undriven(self._store, name, record):
                    self._drivers.start(self._store, name)
            news = self._news(folder, record, sizes)
            if news or record.terminal or time.monotonic() > deadline:
                return {"terminal": record.terminal, **news}
            time.sleep(_TICK_SECONDS)

    def call_results(self, name: str) -> dict[str, Any]:
        """List what a job has left: path, size and time of each file of its output, and of its checkpoints."""
        record = self._store.load(name)
        output = Path(job_keys(record.training_spec).model.removeprefix("file://")).parent
        roots = {"output": output, "checkpoints": self._checkpoints(name)}
        return {"roots": {root: str(path) for root, path in roots.items()}, "files": _listed(roots)}

    def call_read(self, path: str, offset: int) -> dict[str, Any]:
        """Hand out a file from an offset on."""
        file = Path(path).open("rb")  # noqa: SIM115 - closed by what reads it
        size = max(0, os.fstat(file.fileno()).st_size - offset)
        file.seek(offset)
        self._payload = (_chunks(file, size), size)
        return {}

    def call_stop(self, name: str) -> dict[str, Any]:
        """Ask for a stop."""
        folder = self._store.folder(name)
        if not self._store.load(name).terminal:
            folder.request_stop()
        return {}

    def call_usage(self, name: str, host: str) -> dict[str, Any]:
        """Say what a host of a job uses; nothing where nobody can say."""
        usage = RunningJob(self._store, name).host(host).usage()
        return {"usage": None if usage is None else asdict(usage)}

    def call_forget(self, name: str) -> dict[str, Any]:
        """Remove the checkpoints of a job that were brought back."""
        shutil.rmtree(self._checkpoints(name), ignore_errors=True)
        return {}

    def _checkpoints(self, name: str) -> Path:
        return self._home / "sent" / "checkpoints" / name

    def _news(self, folder: JobFolder, record: JobRecord, sizes: Mapping[str, int]) -> dict[str, Any]:
        news: dict[str, Any] = {}
        files, chunks, left = [], [], _MOST_BYTES
        for path in sorted({path for pattern in _GROWING for path in folder.path.glob(pattern)}):
            here, there = path.stat().st_size, sizes.get(path.name, 0)
            if path.name in sizes and (here == there or not left):
                continue
            offset = there if here > there else 0  # a log that is shorter than its copy was begun anew
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(left)
            left -= len(data)
            files.append([path.name, offset, len(data)])
            chunks.append(data)
        for name in _WHOLE:
            with contextlib.suppress(FileNotFoundError):
                data = (folder.path / name).read_bytes()
                if len(data) != sizes.get(name, 0):
                    files.append([name, 0, len(data)])
                    chunks.append(data)
        if files:
            news["files"] = files
            self._payload = (iter(chunks), sum(map(len, chunks)))
        if not left and record.terminal:
            news["more"] = True
        values = record.to_dict()
        values.pop("modified")
        if self._told.get("record") != values:
            self._told["record"] = values
            news["record"] = values
        if not record.terminal and time.monotonic() < self._next_listing:
            return news
        self._next_listing = time.monotonic() + _LISTING_SECONDS
        roots = {"intermediate": Path(job_keys(record.training_spec).intermediate.removeprefix("file://"))}
        roots["checkpoints"] = self._checkpoints(folder.name)
        listed = _listed(roots)
        if self._told.get("listed", {}) != listed:
            self._told["listed"] = listed
            news["roots"], news["written"] = {root: str(path) for root, path in roots.items()}, listed
        return news


class Drivers:
    """A process that has loaded what a driver needs, and makes a copy of itself for each job.

    It is made before anything else, so that a copy shares no connection to an engine with this process. It ends with
    this one; the copies do not.
    """

    def __init__(self) -> None:
        reading, self._pipe = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(self._pipe)
            try:
                _copy_for_jobs(reading)
            finally:
                os._exit(1)
        os.close(reading)
        self._pid = pid

    def start(self, store: JobStore, name: str) -> None:
        """Have a job driven by a process that outlives this one.

        Raises:
            OSError: the process was killed.
        """
        request = {"name": name, "folder": str(store.folder(name).path), "environment": driver_environment(store.home)}
        os.write(self._pipe, json.dumps(request).encode() + b"\n")


def _copy_for_jobs(reading: int) -> None:
    """Be that process, and in each copy a driver."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # ssh waits for the end of all that have its streams
        os.dup2(nothing, number)
    for name in ("process", "docker_engine.runtime"):
        with contextlib.suppress(ImportError):
            import_module(f"launcher.runtimes.{name}")
    with os.fdopen(reading, "rb", buffering=0) as requests:
        while line := requests.readline():
            request = json.loads(line)
            if (pid := os.fork()) != 0:
                os.waitpid(pid, 0)
                continue
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
            requests.close()
            with Path(request["folder"], "driver.log").open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os.chdir("/")
            os.environ.update(request["environment"])
            os._exit(be_driver(request["name"], TRAINING_JOBS.folder))
    os._exit(0)


def _listed(roots: Mapping[str, Path]) -> dict[str, list[tuple[str, int, int]]]:
    listed = {}
    for root, folder in roots.items():
        rows = []
        for path in sorted(folder.rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # it was replaced at this moment
                status = path.stat()
                if path.is_file() and not path.name.endswith(".part"):
                    rows.append((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
        listed[root] = rows
    return listed


def _chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield exactly ``size`` bytes; a file that has become shorter is filled up, and its reader sees another size."""
    with file:
        while size:
            chunk = file.read(min(size, CHUNK_BYTES)) or b"\0" * min(size, CHUNK_BYTES)
            size -= len(chunk)
            yield chunk


def main() -> int:
    """Answer until the other side has gone."""
    for name in ("LAUNCHER_HOST", "LAUNCHER_SSH"):
        os.environ.pop(name, None)
    drivers = Drivers()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may print between answers
    questions = sys.stdin.buffer
    answers.write(f"{GREETING}\n".encode())
    answers.flush()
    agent: Agent | None = None
    while True:
        try:
            request = receive(questions)
        except EOFError:
            return 0
        received = Payload(questions, request["size"])
        try:
            agent = agent or Agent(drivers)
            message, payload, size = agent.answer(request, received)
        except EOFError:
            return 0
        except LauncherError as error:
            received.drop()
            send(answers, error_message(error))
        except OSError as error:
            received.drop()
            place = f"{error.filename}: " if error.filename else ""
            send(
                answers, error_message(OutputPathError(f"{place}{error.strerror}.", "Look there for room and rights."))
            )
        else:
            send(answers, {"answer": message}, payload, size)


if __name__ == "__main__":
    sys.exit(main())
