"""Sees a job of another machine through: sends it, follows it, brings back what it left.

The launcher there does the job's own steps, whether or not anybody is connected. Its record and its logs are copied
into the job's folder here, so everything that reads a job reads this one; how far a log has come says where to go on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.elsewhere.connection import Connection, borrow, give_back
from launcher.elsewhere.messages import Payload
from launcher.elsewhere.runtime import AnotherMachine
from launcher.elsewhere.sending import Sender
from launcher.errors import JobFolderError, LauncherError, RuntimeUnavailableError
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import TrainingJobSpec, job_keys
from launcher.jobs.states import SecondaryStatus, Status
from launcher.running.job_driver import JobDriver
from launcher.running.opt_ml import FAILURE_REASON_LIMIT
from launcher.running.signals import HandOver
from launcher.running.stages.job_state import TICK_SECONDS
from launcher.storage import recorded_storage
from launcher.terminal import say_error
from launcher.trees import remove_tree

_WAIT_SECONDS = 0.5  # that the other side waits for something new
_FIRST_SECONDS = 30.0  # of tries to submit
_LOOKING_SECONDS = 2.0  # between two tries to reach a machine that does not answer
_CHUNK_BYTES = 1 << 20
# What the record there says and the one here repeats; the rest is about this machine, or about the submission.
_COPIED = (
    *("started", "billable_seconds", "exit_codes", "failure_reason", "stop_reason", "stop_started", "attempts"),
    *("transitions", "input_failure", "platform_failure", "warm_pool", "faults", "final_metrics", "usage"),
    *("log_offsets", "secondary_status", "status", "ended"),
)


class ElsewhereDriver(JobDriver[JobRecord]):
    """Carries a job of another machine through the steps that are not recorded yet; the runtime is that machine."""

    def _set_up(self) -> None:
        assert isinstance(self._runtime, AnotherMachine)  # its own driver
        self._machine = self._runtime
        self._connection: Connection | None = None
        self._stop_sent = False
        self._brought: dict[str, tuple[int, int]] = {}
        self._last: dict[str, Any] = {}

    @property
    def _spec(self) -> TrainingJobSpec:
        return self._record.training_spec

    def run(self) -> None:
        """Do all that is left to do; the record is terminal afterwards, unless this process has to go.

        Raises:
            HandOver: this process has to go; everything is as the next driver needs it.
            JobFolderError: the job's own files could not be written or read.
        """
        try:
            if not self._is_there and self._folder.stop_requested():
                self._end_before_its_begin()
                return
            if not self._is_there:
                self._until_it_answers(self._submit)
            self._interrupts.deferred = True  # it runs: Ctrl-C stops it in order
            self._until_it_answers(self._follow)
            self._until_it_answers(self._bring_back)
            with self._interrupts.held():
                self._finish()
        except HandOver:
            raise
        except OSError as error:
            if not self._folder.record_path.exists():
                raise JobFolderError(f"the folder of job '{self._name}' is gone: {self._folder.path}.") from error
            raise JobFolderError(
                f"job '{self._name}': {error.filename or self._folder.path}: {error.strerror}. It goes on at "
                f"{self._machine.address}.",
                f"Make room or give rights, then: launcher logs -f {self._name}",
            ) from error
        except BaseException as error:
            if not self._is_there:
                self._fail(error)
            raise
        finally:
            if self._connection is not None:
                give_back(self._connection)
                self._connection = None

    @property
    def _is_there(self) -> bool:
        return "submit" in self._record.steps

    def _ask(self, call: str, **arguments: Any) -> dict[str, Any]:
        return self._open().ask(call, **arguments)

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = borrow(self._machine.address)
        return self._connection

    def _until_it_answers(self, effect: Callable[[], None]) -> None:
        """Do what needs the connection, and try again as long as there is none; a second Ctrl-C gives up.

        Before the job is there, it gives up by itself: nobody could say what became of it.
        """
        first_tries = time.monotonic() + _FIRST_SECONDS
        while True:
            try:
                effect()
            except RuntimeUnavailableError as error:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                if self._interrupts.count > 1 or (not self._is_there and time.monotonic() > first_tries):
                    raise
                self._note_silence(error)
                deadline = time.monotonic() + _LOOKING_SECONDS
                while time.monotonic() < deadline:
                    self._interrupts.check()
                    time.sleep(TICK_SECONDS)
            else:
                return

    def _note_silence(self, error: RuntimeUnavailableError) -> None:
        if self._record.unknown_since is None:
            self._record.unknown_since = time.time()
            self._record.warn(f"the connection was lost for a while: {error.message}")
            self._save()
            if self._lines is not None:
                say_error(f"job '{self._name}' goes on; its machine does not answer: {error.message}")

    def _submit(self) -> None:
        connection = self._open()
        sender = Sender(self._spec, self._record.request, self._folder, connection)
        try:
            document = sender.send(self._machine.inner_name)
        finally:
            with contextlib.suppress(OSError):
                remove_tree(self._folder.work_path)
        with self._interrupts.held():
            answer = connection.ask("submit", document=document, origin=self._origin)
            self._record.executions = {"algo-1": {"machine": str(self._machine.address), "path": answer["path"]}}
            self._record.steps["submit"] = time.time()
            self._save()
        if config := self._spec.checkpoint_config:
            self._brought |= {f"{config.s3_uri}/{path}": (size, changed) for path, size, changed in sender.restored}

    @property
    def _origin(self) -> str:
        """What tells this submission apart from others of the name: the home, and the moment."""
        return f"{self._store.home} {self._record.created!r}"

    def _follow(self) -> None:
        if self._last.get("terminal"):
            return
        begins = True
        while True:
            if self._folder.stop_requested() and not self._stop_sent:
                self._ask("stop", name=self._name)
                self._stop_sent = True
            sizes = {path.name: path.stat().st_size for path in self._folder.path.iterdir() if path.is_file()}
            answer, data = self._open().read(
                "follow", name=self._name, sizes=sizes, seconds=_WAIT_SECONDS, begins=begins
            )
            begins = False
            self._write(answer.get("files", ()), data)
            self._copy_record(answer.get("record"))
            if self._lines is not None:
                self._lines.read()
                if self._lines.failure:
                    self._record.warn(self._lines.failure)
                    if self._looking_on:
                        raise HandOver
            self._bring_written(answer)
            self._interrupts.check()
            if answer["terminal"] and not answer.get("more"):
                self._last["terminal"] = True
                return

    def _write(self, files: Sequence[Sequence[Any]], data: Payload) -> None:
        for name, offset, size in files:
            path = self._folder.path / Path(name).name
            with path.open("r+b" if path.exists() else "wb") as file:
                file.seek(offset)
                file.truncate()
                left = size
                while left:
                    left -= file.write(self._bytes(data, left))
        data.drop()

    def _bytes(self, data: Payload, most: int) -> bytes:
        try:
            return data.read(min(most, _CHUNK_BYTES))
        except EOFError as error:
            raise self._open().lost() from error

    def _copy_record(self, values: Mapping[str, Any] | None) -> None:
        """Take over what the record there says, except its end: first everything has to be here."""
        if values is None:
            if self._record.unknown_since is not None:
                self._record.unknown_since = None
                self._save()
            return
        self._last["record"] = dict(values)
        there = JobRecord.from_dict(dict(values))
        if there.terminal:
            there.transitions, there.ended = there.transitions[:-1], None
            there.transitions[-1].end = None
            there.status = Status.STOPPING if there.status == Status.STOPPED else Status.IN_PROGRESS
            there.secondary_status = there.transitions[-1].status
        self._take(there)
        self._record.unknown_since = there.unknown_since
        self._save()

    def _take(self, there: JobRecord) -> None:
        for name in _COPIED:
            setattr(self._record, name, getattr(there, name))
        if "start" in there.steps:
            self._record.steps.setdefault("start", there.steps["start"])
            self._record.channels = {name: list(place) for name, place in there.channels.items()}
        for line in there.warnings:
            self._record.warn(line)

    def _bring_written(self, answer: Mapping[str, Any]) -> None:
        """Copy what the job has written so far and its caller may look at: intermediate files and checkpoints."""
        keys, config = job_keys(self._spec), self._spec.checkpoint_config
        targets = {"intermediate": keys.intermediate, "checkpoints": config.s3_uri if config else ""}
        for root, rows in answer.get("written", {}).items():
            self._bring(rows, answer["roots"][root], targets[root])

    def _bring_back(self) -> None:
        answer = self._ask("results", name=self._name)
        output = job_keys(self._spec).model.rpartition("/")[0]
        config = self._spec.checkpoint_config
        targets = {"output": output, "checkpoints": config.s3_uri if config else ""}
        for root, rows in answer["files"].items():
            self._bring(rows, answer["roots"][root], targets[root])
        self._ask("forget", name=self._name)

    def _bring(self, rows: Sequence[Sequence[Any]], folder: str, target: str) -> None:
        """Copy each file that is new or changed to its place here; the one written last comes last."""
        for path, size, changed in sorted(rows, key=lambda row: row[2]):
            uri = f"{target}/{path}"
            if self._brought.get(uri) == (size, changed) or not self._comes_here(target):
                continue
            part = self._fetched(f"{folder}/{path}", f"{changed}-{path.replace('/', '%')[-150:]}.part")
            recorded_storage(uri, self._spec.s3).put_file(part, uri)
            self._brought[uri] = (size, changed)

    def _comes_here(self, uri: str) -> bool:
        in_s3 = uri.startswith("s3://") and self._spec.s3 is not None and self._spec.s3["kind"] != "embedded"
        return bool(uri) and not in_s3

    def _fetched(self, path: str, name: str) -> Path:
        """Return a copy of a file there; one that was cut off is gone on with where it ended."""
        self._folder.make_work_path()
        part = self._folder.work_path / name
        with part.open("ab") as file:
            _, data = self._open().read("read", path=path, offset=file.tell())
            while chunk := self._bytes(data, _CHUNK_BYTES):
                file.write(chunk)
        self._interrupts.check()
        return part

    def _finish(self) -> None:
        if self._lines is not None:
            self._lines.read(final=True)
        values = self._last.get("record")
        there = JobRecord.from_dict(dict(values)) if values else None
        with contextlib.suppress(OSError):
            remove_tree(self._folder.work_path)
        if there is not None:
            self._take(there)
        self._record.unknown_since = None
        self._save()

    def _end_before_its_begin(self) -> None:
        now = time.time()
        self._record.move(Status.STOPPING, SecondaryStatus.STOPPING, "Stopping the training job", now)
        self._record.ended = now
        self._record.move(Status.STOPPED, SecondaryStatus.STOPPED, "Training job stopped", now)
        self._save()

    def _fail(self, error: BaseException) -> None:
        """End a job that never came to the other machine."""
        if self._record.terminal:
            return
        if isinstance(error, KeyboardInterrupt | SystemExit) or self._folder.stop_requested():
            self._end_before_its_begin()
            return
        kind = "ClientError" if isinstance(error, LauncherError) else "InternalServerError"
        text = error.message if isinstance(error, LauncherError) else f"{type(error).__name__}: {error}"
        self._record.failure_reason = f"{kind}: {text}"[:FAILURE_REASON_LIMIT]
        self._record.ended = time.time()
        self._record.move(Status.FAILED, SecondaryStatus.FAILED, "Training job failed", self._record.ended)
        self._save()
