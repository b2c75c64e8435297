"""What the operations have in common: a record by its name, a driver for it, its stop."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, TypeVar

from launcher.aws.errors import AwsError
from launcher.errors import JobFolderError, JobNotFoundError, NotFoundError
from launcher.jobs.record import DrivenRecord, Record
from launcher.jobs.states import Status
from launcher.jobs.store import Store
from launcher.requests.shapes import OWN_MEMBER
from launcher.running.driving import drive_detached, take_up
from launcher.terminal import say_error

NOT_FOUND = "Requested resource not found."
_NOTICING_SECONDS = 1.0
_STOPPING_SECONDS = 0.8  # less, so that nobody who has asked for a stop sees a job that is InProgress
_POLL_SECONDS = 0.01

_Record = TypeVar("_Record", bound=Record)


def load(store: Store[_Record], name: str) -> _Record:
    """Read a record by its name.

    Raises:
        AwsError: there is none; in AWS's words.
    """
    try:
        return store.load(name)
    except (JobNotFoundError, NotFoundError) as error:
        words = store.kind.missing_words.format(arn=store.kind.arn(name), name=name)
        raise AwsError("ValidationException", words or NOT_FOUND) from error


def looked_after(store: Store[_Record], name: str) -> _Record:
    """Read a record by its name, and see to it that somebody drives what it is of.

    Raises:
        AwsError: there is none; in AWS's words.
    """
    record = load(store, name)
    if not record.terminal and (text := take_up(store, name, record)):
        say_error(text)
    return record


def shown_status(store: Store[Any], name: str, record: DrivenRecord) -> Status:
    """Return the status of a job as its clients see it: one whose stop was asked for is stopping.

    Its driver may be busy with a download, and records the stop when that is over. The end of the hosts counts if it is
    recorded before: such a job completes, and nobody was told otherwise.
    """
    folder = store.folder(name)
    if record.status != Status.IN_PROGRESS or record.exit_codes or not folder.stop_requested():
        return record.status
    try:
        seconds = time.time() - folder.stop_path.stat().st_mtime
    except OSError:
        return record.status
    return Status.STOPPING if seconds > _STOPPING_SECONDS else record.status


def start_driver(store: Store[Any], name: str) -> None:
    """Start what sees a job through that was just recorded.

    Where none can be started the job is not lost: whoever asks for it next starts one. The record says so.
    """
    try:
        drive_detached(store, name)
    except JobFolderError as error:
        record = store.load(name)
        record.warn(error.message)
        store.save(name, record)


def stop(store: Store[Any], name: str, noun: str) -> None:
    """Ask for the stop of a job, and wait a moment until its driver has noticed; nothing changes a job that stops.

    Raises:
        AwsError: there is no such job, or it has ended.
    """
    record: DrivenRecord = load(store, name)
    if record.terminal:
        raise AwsError(
            "ValidationException", f"The request was rejected because the {noun} is in status {Status(record.status)}."
        )
    if record.status == Status.STOPPING:
        return
    store.folder(name).request_stop()
    deadline = time.monotonic() + _NOTICING_SECONDS
    while looked_after(store, name).status == Status.IN_PROGRESS and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def remove_ended(store: Store[Any], name: str, noun: str) -> None:
    """Remove the record of a job that has ended; its results stay.

    Raises:
        AwsError: there is no such job, or it has not ended.
    """
    record: DrivenRecord = load(store, name)
    if not record.terminal:
        raise AwsError(
            "ResourceInUse",
            f"Cannot delete the {noun} {store.kind.arn(name)}: it is in status {Status(record.status)}.\n"
            "  Stop it first, and wait until it has ended.",
        )
    deadline = time.monotonic() + _NOTICING_SECONDS
    while True:  # its driver holds the lock for a moment after the last record
        try:
            store.remove(name)
        except JobNotFoundError:
            return
        except JobFolderError:
            if not store.folder(name).driven() or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def with_s3(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request that says which S3 it means: the embedded one, unless ``LAUNCHER_S3_ENDPOINT`` names another.

    The endpoint's own address may stand in ``AWS_ENDPOINT_URL``, which means no other S3 here.
    """
    own = dict(document.get(OWN_MEMBER, {}))
    if not os.environ.get("LAUNCHER_S3_ENDPOINT"):
        own.setdefault("S3", {"Kind": "embedded"})
    return {**document, OWN_MEMBER: own}
