"""The commands for jobs that were submitted: list, describe, read, stop, pack again, clear away."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.printing import print_json, print_table, to_json
from launcher.errors import BadInputError, JobNotFoundError, LauncherError
from launcher.paths import MAX_NAME_BYTES
from launcher.secrets import masked_description
from launcher.terminal import neutralised_text, print_line, say, say_error

if TYPE_CHECKING:
    from launcher.jobs.record import Record
    from launcher.jobs.store import JobStore, Store
    from launcher.sdk.training_job import TrainingJob

JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's name, or 'latest'.")]
KindName = Annotated[
    str | None,
    typer.Option("--kind", "-k", help="training, transform or model; by default whichever has such a job."),
]
_KIND_NAMES = {"training": "jobs", "transform": "transform-jobs", "model": "models"}
_JOB_KINDS = ("training", "transform")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def list_jobs(
    kind: Annotated[
        str | None, typer.Option("--kind", "-k", help="training, transform or model; all jobs by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List all jobs, the oldest first; a job without a driver gets a new one."""
    stores = [_store_of(word) for word in ((kind,) if kind else _JOB_KINDS)]
    entries: list[tuple[Store[Any], str, Record]] = []
    for store in stores:
        records, errors = store.records()
        entries += [(store, name, record) for name, record in records]
        for error in errors:
            say_error(f"{type(error).__name__}: {error}")
    entries.sort(key=lambda entry: entry[2].created)
    for entry in entries:
        _look_after(*entry)
    if as_json:
        print_json([_listed(*entry) for entry in entries])
    elif not entries:
        print(f"no {stores[0].kind.noun}s in {stores[0].path if kind else stores[0].home}")
    else:
        headings = ["JOB", "STATUS", "RUNTIME", "CREATED", "SECONDS", "KIND"]
        if kind:
            headings = ["MODEL", "CREATED"] if stores[0].kind.folder == "models" else headings[:-1]
        print_table([headings, *(_row(*entry)[: len(headings)] for entry in entries)])


def _listed(store: Store[Any], name: str, record: Record) -> dict[str, Any]:
    from launcher.jobs.record import DrivenRecord, utc

    noun = {"jobs": "TrainingJob", "transform-jobs": "TransformJob"}.get(store.kind.folder, "Model")
    status = {f"{noun}Status": record.status} if isinstance(record, DrivenRecord) else {}
    return {f"{noun}Name": name, **status, "CreationTime": utc(record.created)}


def _row(store: Store[Any], name: str, record: Record) -> tuple[str, ...]:
    from launcher.jobs.record import DrivenRecord, utc

    created = utc(record.created).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if not isinstance(record, DrivenRecord):
        return name, created
    last = record.ended or (record.modified if record.terminal else time.time())
    unknown = " (unknown)" if record.unknown_since is not None else ""
    kind = next(word for word, folder in _KIND_NAMES.items() if folder == store.kind.folder)
    return name, f"{record.status}{unknown}", record.runtime, created, f"{last - record.created:.0f}", kind


def describe(
    job: JobName,
    kind: KindName = None,
    as_json: AsJson = False,
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Show values whose names say that they are secret, too.")
    ] = False,
) -> None:
    """Describe a job, in the shape of AWS's Describe call; a job without a driver gets a new one."""
    store, name = _found(job, kind)
    _look_after(store, name, store.load(name))
    description = _description(store, name)
    if not show_secrets:
        description = masked_description(description)
    if as_json:
        print_json(description)
    else:
        import yaml

        print(yaml.safe_dump(json.loads(to_json(description)), sort_keys=False), end="")


def logs(
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    kind: KindName = None,
) -> None:
    """Print a job's log."""
    from launcher.jobs.kinds import TRANSFORM_JOBS
    from launcher.running.driving import drive, raise_unless_completed
    from launcher.running.following import LogReader
    from launcher.sdk.transform_job import TransformJob

    store, name = _found(job, kind)
    record = store.load(name)
    if store.kind is TRANSFORM_JOBS:
        transform = TransformJob(name)
        if follow:
            transform.wait(looking_on=True)
        else:
            transform.print_logs()
            _look_after(store, name, record)
        return
    on_line = partial(print_line, hosts=record.training_spec.instance_count)
    if follow:
        raise_unless_completed(store, drive(store, name, on_line=on_line, looking_on=True))
        return
    LogReader(store.folder(name), on_line).read(final=True)
    _look_after(store, name, record)


def stop(job: JobName, kind: KindName = None) -> None:
    """Stop a job: SIGTERM, two minutes, SIGKILL; what it has written is kept."""
    from launcher.jobs.kinds import TRANSFORM_JOBS
    from launcher.sdk.training_job import TrainingJob
    from launcher.sdk.transform_job import TransformJob

    store, name = _found(job, kind)
    handle = TransformJob(name) if store.kind is TRANSFORM_JOBS else TrainingJob(name)
    handle.stop()
    print(f"{handle.name}: {handle.status}")


def collect(job: JobName) -> None:
    """Pack the results of a job that has ended and whose results could not be packed then."""
    from launcher.running.driving import collect_again, drive

    name, store = job_handle(job).name, _store()
    if not store.load(name).terminal:
        drive(store, name)
    else:
        collect_again(store, name)
    handle = job_handle(name)
    print(f"{name}: {handle.status}. Results: {handle.model_data.removeprefix('file://').rpartition('/')[0]}")


def collect_garbage(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what jobs that have ended wrote and 'launcher collect' could pack.")
    ] = False,
) -> None:
    """Remove what dead jobs have left: containers, scratch folders, unfinished copies. Results stay."""
    from launcher.running.leftovers import find_leftovers

    leftovers, notes = find_leftovers(_store(), with_work=everything)
    failed = False
    for leftover in leftovers:
        if dry_run:
            print(neutralised_text(f"would remove {leftover.text}"))
            continue
        try:
            leftover.remove()
        except (LauncherError, OSError) as error:
            failed = True
            say_error(f"not removed: {leftover.text}: {error}")
        else:
            print(neutralised_text(f"removed {leftover.text}"))
    for note in notes:
        say_error(f"note: {note}")
    if not leftovers:
        print("nothing to remove")
    if failed:
        raise typer.Exit(1)


def job_handle(name: str) -> TrainingJob:
    """Return a job by its name, or the latest one."""
    from launcher.sdk.training_job import TrainingJob

    store = _store()
    if len(name.encode()) > MAX_NAME_BYTES:
        raise JobNotFoundError(f"no job '{name:.60}...': that is no job's name.", "List them with: launcher ls")
    if name == "latest" and (names := store.names()):
        name = names[-1]
    return TrainingJob(name, store)


def print_ending(job: Any) -> None:
    """Say how a job ended, where its results are, and what its user should know."""
    for line in job.warnings:
        say_error(f"warning: {line}")
    say(f"{job.name}: {job.status}. Results: {job.model_data.removeprefix('file://').rsplit('/', 1)[0]}")


def _found(name: str, kind: str | None) -> tuple[Store[Any], str]:
    """Return the store and the name of a job: of the kind that was named, else of the first that has such a job."""
    if len(name.encode()) > MAX_NAME_BYTES:
        raise JobNotFoundError(f"no job '{name:.60}...': that is no job's name.", "List them with: launcher ls")
    stores = [_store_of(word) for word in ((kind,) if kind else _JOB_KINDS)]
    for store in stores:
        if name == "latest" and (names := store.names()):
            return store, names[-1]
        if store.folder(name).record_path.exists():
            return store, name
    stores[0].load(name)  # which says that there is none
    return stores[0], name


def _store_of(kind: str) -> Store[Any]:
    from launcher.jobs.kinds import KINDS
    from launcher.jobs.store import Store
    from launcher.settings import home_path

    folder = _KIND_NAMES.get(kind, kind)
    if folder not in _KIND_NAMES.values():
        raise BadInputError(f"--kind {kind!r} is not known.", f"Use one of: {', '.join(_KIND_NAMES)}.")
    return Store(home_path(), KINDS[folder])


def _description(store: Store[Any], name: str) -> dict[str, Any]:
    from launcher.jobs.record import ModelRecord, TransformRecord
    from launcher.requests.describe import describe_record
    from launcher.requests.models import describe_model
    from launcher.requests.transform import describe_transform

    record = store.load(name)
    if isinstance(record, TransformRecord):
        return describe_transform(record)
    return describe_model(record) if isinstance(record, ModelRecord) else describe_record(record)


def _store() -> JobStore:
    from launcher.jobs.store import JobStore
    from launcher.settings import home_path

    return JobStore(home_path())


def _look_after(store: Store[Any], name: str, record: Record) -> None:
    """Start a driver for a job without one, and print what the user would not see otherwise."""
    from launcher.jobs.record import DrivenRecord
    from launcher.running.driving import take_up

    if record.terminal:
        return
    if text := take_up(store, name, record):
        say_error(text)
    if isinstance(record, DrivenRecord) and record.unknown_since is not None:
        say_error(f"{store.kind.noun} '{name}': {record.warnings[-1]}")
