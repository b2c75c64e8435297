"""The commands for jobs that were submitted: list, describe, read, stop, pack again, clear away."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.on_aws import OnAws, is_aws, job_of_kind_on_aws, jobs_on_aws, rows_of
from launcher.cli.printing import print_json, print_table, to_json
from launcher.errors import BadInputError, JobNotFoundError, LauncherError, RecordError
from launcher.paths import MAX_NAME_BYTES, checked_path
from launcher.secrets import masked_description
from launcher.terminal import neutralised_text, say, say_error

if TYPE_CHECKING:
    from launcher.jobs.index import Entry
    from launcher.jobs.kinds import Kind
    from launcher.jobs.record import Record
    from launcher.jobs.store import JobStore, Store
    from launcher.sdk.job_handle import JobHandle
    from launcher.sdk.training_job import TrainingJob


def complete_job(incomplete: str) -> list[str]:
    """Return the names of jobs for a shell that completes one, the newest first."""
    from launcher.jobs.index import list_entries
    from launcher.settings import home_path

    listing = list_entries(home_path(), [kind_of_word(word) for word in JOB_KINDS], name_contains=incomplete)
    names = [entry.name for entry in listing.entries if entry.name.startswith(incomplete)]
    return [*(["latest"] if "latest".startswith(incomplete) else []), *names]


JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's name, or 'latest'.", autocompletion=complete_job)]
KindName = Annotated[
    str | None,
    typer.Option(
        "--kind", "-k", help="training, processing, transform, tuning or model; by default the first with such a job."
    ),
]
_KIND_NAMES = {
    "training": "jobs",
    "processing": "processing-jobs",
    "transform": "transform-jobs",
    "tuning": "tuning-jobs",
    "model": "models",
}
JOB_KINDS = ("training", "processing", "transform", "tuning")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def see_through(job: JobHandle[Any], tell: Callable[[Any], None], *, detach: bool, as_json: bool) -> None:
    """Follow a job to its end, or leave it to a process of its own, and print what came of it.

    Args:
        job: what was submitted.
        tell: prints what a job of this kind has come to.
        detach: whether it is left to a process of its own.
        as_json: whether its description is printed instead, for scripts.
    """
    if detach:
        job.detach()
    else:
        job.wait(logs=not as_json)
    if as_json:
        print_json(masked_description(job.describe()))
        return
    if detach:
        say(job.name)
        return
    for line in job.warnings:
        say_error(f"warning: {line}")
    tell(job)
    if job.status != "Completed":
        raise typer.Exit(1)


def list_jobs(
    kind: Annotated[
        str | None,
        typer.Option("--kind", "-k", help="training, processing, transform, tuning, model; by default all."),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", "-s", help="Only jobs with this status, such as Failed; may be given several times."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Only jobs whose name contains this.")] = "",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many; all by default.")] = None,
    as_json: AsJson = False,
    mode: OnAws = None,
) -> None:
    """List jobs, the newest first; a job without a driver gets a new one. Of AWS, the 100 newest of a kind."""
    if is_aws(mode):
        if len(status or ()) > 1:
            raise BadInputError("--mode aws lists jobs of one status or of all.", "Name one --status.")
        summaries = jobs_on_aws(kind, status=_status_of(status[0]) if status else None, name=name, limit=limit)
        print_json(summaries) if as_json else print_table(rows_of(summaries, kind), fit=True)
        return
    from launcher.jobs.index import list_entries
    from launcher.settings import home_path

    home, kinds = home_path(), [kind_of_word(word) for word in ((kind,) if kind else JOB_KINDS)]
    statuses = [_status_of(word) for word in status or ()]
    _look_after_all(home, list_entries(home, kinds, terminal=False).entries)
    listing = list_entries(home, kinds, statuses=statuses, name_contains=name, limit=limit)
    for error in listing.errors:
        say_error(f"{type(error).__name__}: {error}")
    if as_json:
        print_json([_listed(entry) for entry in listing.entries])
    elif not listing.entries:
        such = " such" if statuses or name else ""
        print(f"no{such} {kinds[0].noun}s in {home / kinds[0].folder if kind else home}")
    else:
        headings = ["JOB", "STATUS", "RUNTIME", "CREATED", "SECONDS", "KIND"]
        if kind:
            headings = ["MODEL", "CREATED"] if kinds[0].folder == "models" else headings[:-1]
        print_table([headings, *(_row(entry)[: len(headings)] for entry in listing.entries)], fit=True)


def _status_of(word: str) -> str:
    from launcher.jobs.states import Status

    statuses = {str(status).lower(): str(status) for status in Status}
    if word.lower() not in statuses:
        raise BadInputError(
            f"--status {word!r} is not the status of a job.", f"Use one of: {', '.join(statuses.values())}."
        )
    return statuses[word.lower()]


def _look_after_all(home: Path, entries: Sequence[Entry]) -> None:
    """Start drivers for jobs that have none, and print what the user would not see otherwise."""
    from launcher.jobs.store import Store
    from launcher.running.driving import take_up_all
    from launcher.running.places import names_in_queue

    queued = names_in_queue(home)

    def unended() -> Iterator[tuple[Store[Any], str, Record]]:
        for entry in entries:
            if f"{entry.kind}-{entry.name}" in queued:
                continue
            store = Store(home, entry.kind_of)
            with contextlib.suppress(BadInputError, RecordError):  # removed or damaged at this moment
                record = store.load(entry.name)
                yield store, entry.name, record
                _say_if_unknown(store, entry.name, record)

    for line in take_up_all(home, unended()) if entries else ():
        say_error(line)


def _listed(entry: Entry) -> dict[str, Any]:
    from launcher.jobs.record import utc

    noun = "".join(word.capitalize() for word in entry.kind_of.arn_kind.split("-"))
    status = {f"{noun}Status": entry.status} if entry.status else {}
    return {f"{noun}Name": entry.name, **status, "CreationTime": utc(entry.created)}


def _row(entry: Entry) -> tuple[str, ...]:
    from launcher.jobs.record import utc
    from launcher.jobs.states import SecondaryStatus
    from launcher.runtimes.addresses import MachineAddress

    created = utc(entry.created).astimezone().strftime("%m-%d %H:%M")
    if not entry.status:
        return entry.name, created
    last = entry.ended or (entry.modified if entry.terminal else time.time())
    unknown = " (unknown)" if entry.unknown_since is not None else ""
    kind = next(word for word, folder in _KIND_NAMES.items() if folder == entry.kind)
    waits = entry.secondary_status in (SecondaryStatus.PENDING, SecondaryStatus.INTERRUPTED)
    status = entry.secondary_status if waits else entry.status
    runtime = MachineAddress.of_runtime(entry.runtime).short_name if "://" in entry.runtime else entry.runtime
    return entry.name, f"{status}{unknown}", runtime, created, f"{last - entry.created:.0f}", kind


def describe(
    job: JobName,
    kind: KindName = None,
    as_json: AsJson = False,
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Also show values whose names say that they are secret.")
    ] = False,
    mode: OnAws = None,
) -> None:
    """Describe a job, in the shape of AWS's Describe call; a job without a driver gets a new one."""
    remote = job_of_kind_on_aws(job, mode, kind)
    if remote is not None:
        description = remote.describe()
    else:
        store, name = found_job(job, kind)
        _look_after(store, name, store.load(name))
        description = _description(store, name)
    if not show_secrets:
        description = masked_description(description)
    if as_json:
        print_json(description)
    else:
        import yaml

        print(yaml.safe_dump(json.loads(to_json(description)), sort_keys=False), end="")


def report(
    job: JobName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; by default JOB.html in this folder.")
    ] = None,
    kind: KindName = None,
) -> None:
    """Write a job's page as one HTML file, to send to somebody: status, curves, estimates, log, request, files.

    Values of secret names are masked; the log is as the job printed it.
    """
    from launcher.console.report import job_report

    store, name = found_job(job, kind)
    if store.kind.folder == "models":
        raise BadInputError("a report is about a job.", "List them with: launcher ls")
    target = checked_path(output or f"{name}.html", "--output").absolute()
    text = job_report(store.home, store.kind.folder, name)
    try:
        target.write_bytes(text)
    except OSError as error:
        raise BadInputError(f"{target} cannot be written: {error.strerror}.", "Name another file with -o.") from error
    print(target)


def logs(
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    kind: KindName = None,
    mode: OnAws = None,
) -> None:
    """Print a job's log."""
    remote = job_of_kind_on_aws(job, mode, kind)
    if remote is not None:
        remote.wait() if follow else remote.print_logs()
        return
    store, name = found_job(job, kind)
    handle = job_of_kind(store, name)
    if follow:
        handle.wait(looking_on=True)
        return
    handle.print_logs()
    _look_after(store, name, store.load(name))


def stop(job: JobName, kind: KindName = None, mode: OnAws = None) -> None:
    """Stop a job: SIGTERM, two minutes, SIGKILL; what it has written is kept."""
    handle = job_of_kind_on_aws(job, mode, kind)
    if handle is None:
        handle = job_of_kind(*found_job(job, kind))
    handle.stop()
    print(f"{handle.name}: {handle.status}")


def remove(
    jobs: Annotated[
        list[str], typer.Argument(metavar="JOB...", help="Names of jobs that have ended.", autocompletion=complete_job)
    ],
    kind: KindName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove jobs that have ended, with their logs and the results in their own folders; results elsewhere stay."""
    named = [found_job(job, kind) for job in jobs]
    for store, name in named:
        if not store.load(name).terminal:
            raise BadInputError(f"{store.kind.noun} '{name}' has not ended.", f"Stop it first: launcher stop {name}")
    for store, name in dict.fromkeys(named):
        if not dry_run:
            store.remove(name)
        print(f"{'would remove' if dry_run else 'removed'} {store.folder(name).path}")


def collect(job: JobName, kind: KindName = None) -> None:
    """Pack the results of a job that has ended and whose results could not be packed then."""
    from launcher.running.driving import collect_again, drive

    store, name = found_job(job, kind)
    if not store.load(name).terminal:
        drive(store, name)
    else:
        collect_again(store, name)
    record = store.load(name)
    print(f"{name}: {record.status}. Results: {record.results_uri.removeprefix('file://')}")


def collect_garbage(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also remove what ended jobs wrote and 'launcher collect' could still pack.")
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
    from launcher.sdk.job_results import find_job

    return find_job(name)


def found_job(name: str, kind: str | None) -> tuple[Store[Any], str]:
    """Return the store and the name of a job: of the kind that was named, else of the first that has such a job."""
    from launcher.jobs.index import names_by_age

    if len(name.encode()) > MAX_NAME_BYTES:
        raise JobNotFoundError(f"no job '{name:.60}...': that is no job's name.", "List them with: launcher ls")
    stores = [store_of(word) for word in ((kind,) if kind else JOB_KINDS)]
    for store in stores:
        if name == "latest" and (names := names_by_age(store, limit=1)):
            return store, names[0]
        if store.folder(name).record_path.exists():
            return store, name
    if name == "latest":
        raise JobNotFoundError(
            f"there is no {stores[0].kind.noun} in {stores[0].home} yet.", "Is LAUNCHER_HOME the same?"
        )
    stores[0].load(name)  # which says that there is none
    return stores[0], name


def job_of_kind(store: Store[Any], name: str) -> Any:
    """Return the handle on a job, whatever its kind."""
    from launcher.sdk.processing_job import ProcessingJob
    from launcher.sdk.training_job import TrainingJob
    from launcher.sdk.transform_job import TransformJob
    from launcher.sdk.tuning_job import TuningJob

    handles = {"transform-jobs": TransformJob, "processing-jobs": ProcessingJob, "tuning-jobs": TuningJob}
    return handles.get(store.kind.folder, TrainingJob)(name)


def store_of(kind: str) -> Store[Any]:
    """Return the store of the jobs of a kind, by the word that the command line has for it."""
    from launcher.jobs.store import Store
    from launcher.settings import home_path

    return Store(home_path(), kind_of_word(kind))


def kind_of_word(kind: str) -> Kind[Any]:
    """Return a kind by the word that the command line has for it, or by its folder."""
    from launcher.jobs.kinds import KINDS

    folder = _KIND_NAMES.get(kind, kind)
    if folder not in _KIND_NAMES.values():
        raise BadInputError(f"--kind {kind!r} is not known.", f"Use one of: {', '.join(_KIND_NAMES)}.")
    return KINDS[folder]


def _description(store: Store[Any], name: str) -> dict[str, Any]:
    from launcher.jobs.model_record import ModelRecord
    from launcher.jobs.processing_record import ProcessingRecord
    from launcher.jobs.store import TuningStore
    from launcher.jobs.transform_record import TransformRecord
    from launcher.jobs.tuning_record import TuningRecord
    from launcher.requests.describe import describe_record
    from launcher.requests.models import describe_model
    from launcher.requests.processing import describe_processing
    from launcher.requests.transform import describe_transform
    from launcher.running.warm_pools import warm_pool_status
    from launcher.tuning import service

    record = store.load(name)
    if isinstance(record, TuningRecord):
        return service.describe(TuningStore(store.home), name)
    if isinstance(record, ProcessingRecord):
        return describe_processing(record)
    if isinstance(record, TransformRecord):
        return describe_transform(record)
    if isinstance(record, ModelRecord):
        return describe_model(record)
    return {**describe_record(record), **warm_pool_status(store, record)}


def _store() -> JobStore:
    from launcher.jobs.store import JobStore
    from launcher.settings import home_path

    return JobStore(home_path())


def _look_after(store: Store[Any], name: str, record: Record) -> None:
    """Start a driver for a job without one, and print what the user would not see otherwise."""
    from launcher.running.driving import take_up

    if record.terminal:
        return
    if text := take_up(store, name, record):
        say_error(text)
    _say_if_unknown(store, name, record)


def _say_if_unknown(store: Store[Any], name: str, record: Record) -> None:
    from launcher.jobs.record import DrivenRecord

    if isinstance(record, DrivenRecord) and record.unknown_since is not None and not record.terminal:
        say_error(f"{store.kind.noun} '{name}': {record.warnings[-1]}")
