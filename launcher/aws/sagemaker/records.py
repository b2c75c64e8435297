"""What the operations on records have in common: by name, looked after, by page, stopped, removed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from launcher.aws.errors import AwsError
from launcher.aws.hosts import ASKED_BY_NAME
from launcher.aws.sagemaker.listing import Page, index_page
from launcher.errors import BadInputError, JobFolderError, JobNotFoundError, NotFoundError, RecordError
from launcher.jobs.index import list_entries
from launcher.jobs.kinds import Kind
from launcher.jobs.record import DrivenRecord, Record
from launcher.jobs.states import Status
from launcher.jobs.store import Store
from launcher.requests.shapes import OWN_MEMBER
from launcher.settings import aws_names
from launcher.terminal import say_error

NOT_FOUND = "Requested resource not found."
_NOTICING_SECONDS = 1.0
_STOPPING_SECONDS = 0.8  # less, so that nobody who has asked for a stop sees a job that is InProgress
_POLL_SECONDS = 0.01
_HOSTS_ENDED = ("follow", "transform")

_Record = TypeVar("_Record", bound=Record)
_Driven = TypeVar("_Driven", bound=DrivenRecord)


def load(store: Store[_Record], name: str) -> _Record:
    """Read a record by its name.

    Raises:
        AwsError: there is none; in AWS's words.
    """
    try:
        return store.load(name)
    except (JobNotFoundError, NotFoundError) as error:
        words = store.kind.missing_words.format(arn=store.kind.arn(name), name=name)
        raise AwsError(error.aws_code, words or NOT_FOUND) from error


def start_driver(store: Store[Any], name: str) -> None:
    """Start what sees a job through that was just recorded.

    Where none can be started the job is not lost: whoever asks for it next starts one. The record says so.
    """
    from launcher.running.driving import drive_detached  # what only looks needs no driver

    try:
        drive_detached(store, name)
    except JobFolderError as error:
        record = store.load(name)
        record.warn(error.message)
        store.save(name, record)


def with_s3(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request that says which S3 it means: the embedded one, unless ``LAUNCHER_S3_ENDPOINT`` names another.

    The endpoint's own address may stand in ``AWS_ENDPOINT_URL``, which means no other S3 here. Who asked by AWS's own
    names finds them inside as well.
    """
    own = dict(document.get(OWN_MEMBER, {}))
    if not os.environ.get("LAUNCHER_S3_ENDPOINT"):
        names = {"AwsNames": "local"} if ASKED_BY_NAME.get() or aws_names() else {}
        own.setdefault("S3", {"Kind": "embedded", **names})
    return {**document, OWN_MEMBER: own}


@dataclass(frozen=True)
class Jobs(Generic[_Driven]):
    """The operations on one kind of job.

    Attributes:
        kind: where they live.
        noun: as AWS's messages name one.
        name_member: the member of a request that names one.
        status_member: the member of an answer that holds its status.
        describe_record: makes the answer of Describe, of the store and a record of it.
        summarize: makes an entry of List, of the same.
        stopping: what is shown besides the status of a job that is stopping.
    """

    kind: Kind[_Driven]
    noun: str
    name_member: str
    status_member: str
    describe_record: Callable[[Store[_Driven], _Driven], dict[str, Any]]
    summarize: Callable[[Store[_Driven], _Driven], dict[str, Any]]
    stopping: Mapping[str, str]

    def describe(self, document: Mapping[str, Any], home: Path) -> dict[str, Any]:
        """Return what is known of a job, and have a driver see it through.

        Raises:
            AwsError: there is none.
        """
        store, name = Store(home, self.kind), document[self.name_member]
        record = _looked_after(store, name)
        answer = self.describe_record(store, record)
        return {**answer, **self._stopping()} if _is_being_stopped(store, name, record) else answer

    def page(self, document: Mapping[str, Any], home: Path, *, at_once: bool = True) -> Page:
        """Return a page of the jobs; those that were not driven any more are driven again.

        Args:
            at_once: as of ``list_page``.
        """
        store = Store(home, self.kind)
        active = list_entries(home, [self.kind], terminal=False).entries
        stopping = {entry.name for entry in active if self._is_shown_stopping(store, entry.name)}
        cut = index_page(document, home, self.kind, shown_as={str(Status.STOPPING): stopping}, at_once=at_once)
        wanted = document.get("StatusEquals")
        shown = [self._shown(store, entry.name, entry.name in stopping) for entry in cut.entries]
        # The record may have changed since the index was read.
        return cut._replace(entries=[values for values in shown if values and wanted in (None, self._status(values))])

    def stop(self, document: Mapping[str, Any], home: Path) -> dict[str, Any]:
        """Ask for the stop of a job, and wait a moment until its driver has noticed; a job that stops goes on to.

        Raises:
            AwsError: there is no such job, or it has ended.
        """
        store, name = Store(home, self.kind), document[self.name_member]
        record = load(store, name)
        if record.terminal:
            raise AwsError(
                "ValidationException",
                f"The request was rejected because the {self.noun} is in status {Status(record.status)}.",
            )
        if not store.folder(name).stop_requested():
            store.folder(name).request_stop()
        deadline = time.monotonic() + _NOTICING_SECONDS
        while _looked_after(store, name).status == Status.IN_PROGRESS and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return {}

    def delete(self, document: Mapping[str, Any], home: Path) -> dict[str, Any]:
        """Remove the record and the folder of a job that has ended; its results stay.

        Raises:
            AwsError: there is no such job, or it has not ended.
        """
        store, name = Store(home, self.kind), document[self.name_member]
        record = load(store, name)
        if not record.terminal:
            raise AwsError(
                "ResourceInUse",
                f"Cannot delete the {self.noun} {store.kind.arn(name)}: it is in status {Status(record.status)}.\n"
                "  Stop it first, and wait until it has ended.",
            )
        deadline = time.monotonic() + _NOTICING_SECONDS
        while True:  # its driver holds the lock for a moment after the last record
            try:
                store.remove(name)
            except JobNotFoundError:
                return {}
            except JobFolderError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return {}

    def _is_shown_stopping(self, store: Store[_Driven], name: str) -> bool:
        """Have a driver see to a job, and return whether clients see it as stopping before its record says so."""
        try:
            record = store.load(name)
        except (BadInputError, RecordError):
            return False  # removed or damaged at this moment
        _look_after(store, name, record)
        return _is_being_stopped(store, name, record)

    def _shown(self, store: Store[_Driven], name: str, stopping: bool) -> dict[str, Any]:
        """Return a job's entry in a list; empty where it was removed at this moment."""
        try:
            record = store.load(name)
        except (BadInputError, RecordError):
            return {}
        values = self.summarize(store, record)
        return {**values, **self._stopping()} if stopping and not record.terminal else values

    def _stopping(self) -> dict[str, str]:
        return {self.status_member: str(Status.STOPPING), **self.stopping}

    def _status(self, values: Mapping[str, Any]) -> str:
        return str(values[self.status_member])


def _looked_after(store: Store[_Driven], name: str) -> _Driven:
    """Read a record by its name, and see to it that somebody drives the job.

    Raises:
        AwsError: there is none; in AWS's words.
    """
    record = load(store, name)
    _look_after(store, name, record)
    return record


def _look_after(store: Store[Any], name: str, record: DrivenRecord) -> None:
    if record.terminal:
        return
    from launcher.running.driving import take_up

    if text := take_up(store, name, record):
        say_error(text)


def _is_being_stopped(store: Store[_Driven], name: str, record: DrivenRecord) -> bool:
    """Return whether clients see a job as stopping that its driver has not recorded as such.

    The driver may be busy with a download, and records the stop when that is over. The end of the hosts counts if it is
    recorded before: such a job completes, and nobody was told otherwise.
    """
    if record.status != Status.IN_PROGRESS or record.exit_codes or any(step in record.steps for step in _HOSTS_ENDED):
        return False
    try:
        return time.time() - store.folder(name).stop_path.stat().st_mtime > _STOPPING_SECONDS
    except OSError:  # nobody has asked for a stop
        return False
