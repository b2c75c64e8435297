"""Finds a process that sees a job through: this one, another one, or a driver of its own that outlives them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from launcher.errors import (
    ArtifactError,
    BadInputError,
    JobFailedError,
    JobFolderError,
    LauncherError,
    RecordError,
    SettingsError,
)
from launcher.jobs.kinds import KINDS, PROCESSING_JOBS, TRAINING_JOBS
from launcher.jobs.record import DrivenRecord, HostsRecord, Record
from launcher.jobs.states import Status
from launcher.jobs.store import Store
from launcher.running.following import LineSink, LogReader, log_tail
from launcher.running.job_driver import JobDriver
from launcher.running.places import Place, drop_from_queue, next_in_queue, share_of
from launcher.running.runner import HostsDriver
from launcher.running.signals import HandOver, Interrupts, watch_signals
from launcher.running.spawner import driver_environment, spawned
from launcher.running.stages.job_state import TICK_SECONDS
from launcher.runtimes import Runtime, get_runtime
from launcher.secrets import masked_text
from launcher.settings import home_path
from launcher.terminal import neutralised_text, open_standard_streams, say_error

_Record = TypeVar("_Record", bound=DrivenRecord)
_WITH_PLACES = (PROCESSING_JOBS.folder, TRAINING_JOBS.folder)
_SETTLING_SECONDS = 3.0  # a job has no driver for a moment when it was submitted, or given one of its own


def drive(
    store: Store[_Record],
    name: str,
    *,
    runtime: Runtime | None = None,
    on_line: LineSink | None = None,
    looking_on: bool = False,
) -> _Record:
    """Drive a job to its end, whichever process began it; follow it where another process drives it.

    Ctrl-C asks for a stop and waits for it: SIGTERM, two minutes, SIGKILL. A second one kills at once. SIGTERM and
    SIGHUP leave the job to a driver of its own and end this process, unless it has handlers for them itself.

    Args:
        store: the home that the job lives in.
        name: the job.
        runtime: default: the runtime that the job was submitted for.
        on_line: gets every line that the job prints; one that raises is dropped, and the job goes on.
        looking_on: whether the caller only wants to see the log, and the job goes on without it.
    Raises:
        JobNotFoundError: there is no such job.
        KeyboardInterrupt: after the stop that it asked for.
        SystemExit: the process was asked to go; its code is 128 and the signal's number.
    """
    store.load(name)
    folder = store.folder(name)
    reader = LogReader(folder, on_line) if on_line else None
    with watch_signals(folder, hand_over=True) as interrupts:
        try:
            while not _driven_to_its_end(store, name, runtime, reader, interrupts, looking_on):
                # Another process drives it: read along, and take over should it go away.
                interrupts.deferred = True
                if reader:
                    reader.read()
                    _leave_if_blind(reader, looking_on)
                time.sleep(TICK_SECONDS)
        except HandOver as leaving:
            hand_over(store, name, leaving)
            if leaving.number:
                raise SystemExit(128 + leaving.number) from None
    record = store.load(name)
    if interrupts.count:
        place = record.results_uri.removeprefix("file://")
        say_error(f"{name} is {record.status}; what it had written is in {place}, its log in {store.folder(name).path}")
        raise KeyboardInterrupt
    return record


def drive_detached(store: Store[Any], name: str) -> None:
    """Start a process that drives the job and outlives this one.

    Raises:
        JobFolderError: it could not be started.
    """
    environment = driver_environment(store.home)
    try:
        with store.folder(name).driver_log_path.open("ab") as log:
            os.utime(log.fileno())  # for others who find that the job has no driver: one is on its way
            if spawned(store.home, [name, store.kind.folder], environment, log):
                return
            subprocess.Popen(
                [sys.executable, "-m", "launcher", "drive", name, "--kind", store.kind.folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                env=environment,
            )
    except OSError as error:
        raise JobFolderError(
            f"{store.kind.noun} '{name}': no driver could be started: {error}.",
            f"Take the job up with: {_logs_command(store, name)}",
        ) from error


def drive_alone(store: Store[Any], name: str) -> None:
    """Be that process: drive the job, unless another process drives it already."""
    folder = store.folder(name)
    deadline = time.monotonic() + _SETTLING_SECONDS
    with watch_signals(folder, hand_over=False) as interrupts:
        while not _driven_to_its_end(store, name, None, None, interrupts, False):
            if time.monotonic() > deadline:
                return
            time.sleep(TICK_SECONDS)


def be_driver(name: str, kind: str) -> int:
    """Drive a job of the environment's home as the only work of this process; return its exit code.

    Args:
        kind: the folder of the job's kind.
    """
    open_standard_streams()
    try:
        drive_alone(Store(home_path(), KINDS[kind]), name)
    except LauncherError as error:
        say_error(f"{type(error).__name__}: {error}")
        return error.exit_code
    return 0


def drive_in_thread(store: Store[Any], name: str, runtime: Runtime, interrupts: Interrupts) -> None:
    """Drive a job to its end in a thread of a process that has others to drive as well.

    Args:
        interrupts: what the process wants of it: ``leaving`` ends the thread at the job's next step.
    Raises:
        HandOver: the process has to go; everything is as the next driver needs it.
        JobNotFoundError: the job is gone.
    """
    while not _driven_to_its_end(store, name, runtime, None, interrupts, False):
        interrupts.check()
        time.sleep(TICK_SECONDS)


def collect_again(store: Store[Any], name: str) -> None:
    """Pack what a job that has ended left and nobody packed; its status stays as it is.

    Raises:
        ArtifactError: nothing of it is left.
        JobFolderError: another process drives it, or its files cannot be read or written.
    """
    with store.folder(name).driving(wait=False) as had:
        if not had:
            raise JobFolderError(f"job '{name}' is being driven by another process.", f"See: launcher logs -f {name}")
        runtime = get_runtime(store.load(name).runtime)
        driver = driver_class(store)(store, name, runtime)
        if not isinstance(driver, HostsDriver):
            raise ArtifactError(f"a {store.kind.noun} packs nothing when it ends.", "Its outputs are in their places.")
        driver.collect_again()


def hand_over(store: Store[Any], name: str, leaving: HandOver) -> None:
    """Leave the job to a driver of its own, and say so."""
    record = store.load(name)
    if record.terminal:
        return
    if not store.folder(name).driven():
        drive_detached(store, name)
    ending = "is being stopped" if store.folder(name).stop_requested() else "goes on"
    say_error(
        f"{store.kind.noun} '{name}' {ending} without this process: {_logs_command(store, name)}"
        if leaving.number
        else f"{store.kind.noun} '{name}' {ending}; nobody reads its log here any more"
    )


def undriven(store: Store[Any], name: str, record: Record) -> bool:
    """Return whether a job that has not ended has no driver.

    Raises:
        OSError: its folder cannot be looked into.
    """
    folder = store.folder(name)
    changes = [record.modified]
    if folder.driver_log_path.is_file():
        changes.append(folder.driver_log_path.stat().st_mtime)
    if record.terminal or any(abs(time.time() - change) < _SETTLING_SECONDS for change in changes):
        return False
    return not folder.driven()


def take_up(store: Store[Any], name: str, record: Record) -> str:
    """See to it that somebody drives a job that has no driver: at once, or when its turn comes.

    Returns:
        What the user should know about it; empty where there is nothing to say.
    """
    return " ".join(take_up_all(store.home, [(store, name, record)]))


def take_up_all(home: Path, jobs: Iterable[tuple[Store[Any], str, Record]]) -> list[str]:
    """See to it that somebody drives each of many jobs of a home.

    A job that has not begun goes into the queue. There are at once as many drivers as have room, and one that waits for
    the next place; the others are started whenever a place becomes free.

    Returns:
        What the user should know about it, a line for each driver that was started.
    """
    lines: list[str] = []
    queued: set[str] = set()
    sharing: dict[str, bool] = {}
    for store, name, record in jobs:
        try:
            if not undriven(store, name, record):
                continue
            if isinstance(record, HostsRecord) and _can_wait(store, name, record):
                if record.runtime not in sharing:
                    sharing[record.runtime] = _shares_this_machine(record.runtime)
                if sharing[record.runtime]:
                    place = _place_name(store, name)
                    Place(home, place, record.created, share_of(record.hosts_spec)).queue()
                    queued.add(place)
                    continue
            drive_detached(store, name)
        except (OSError, JobFolderError) as error:
            lines.append(_not_driven(store, name, error))
        else:
            lines.append(_newly_driven(store, name))
    started, problems = _drive_next(home)
    lines += [*started.values(), *problems.values()]
    if waiting := len(queued - started.keys() - problems.keys()):
        jobs_wait, them = ("1 job waits", "it") if waiting == 1 else (f"{waiting} jobs wait", "them")
        lines.append(f"{jobs_wait} for other jobs to end: a driver is started for {them} then")
    return lines


def _drive_next(home: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Start drivers for the jobs of the queue whose turn is near.

    Returns:
        What to say of those that were started, and of those that could not be, by name of the place.
    """
    started: dict[str, str] = {}
    problems: dict[str, str] = {}
    try:
        while names := next_in_queue(home):
            dropped = False
            for place in names:
                kind_folder = next(folder for folder in _WITH_PLACES if place.startswith(f"{folder}-"))
                store: Store[Any] = Store(home, KINDS[kind_folder])
                name = place.removeprefix(f"{kind_folder}-")
                try:
                    ended = store.load(name).terminal
                except (BadInputError, RecordError):  # it was removed, or no driver could read it either
                    ended = True
                if ended:
                    drop_from_queue(home, place)
                    dropped = True
                    continue
                try:
                    drive_detached(store, name)
                    started[place] = _newly_driven(store, name)
                except JobFolderError as error:
                    problems[place] = _not_driven(store, name, error)
            if not dropped:
                break
    except (OSError, SettingsError) as error:
        problems[""] = f"jobs that wait for others to end get no driver: {error}"
    return started, problems


def _after_a_job(home: Path) -> None:
    """Start the drivers that there is room for, now that a place is free."""
    for problem in _drive_next(home)[1].values():
        say_error(problem)


def _shares_this_machine(runtime_name: str) -> bool:
    try:
        runtime = get_runtime(runtime_name)
    except SettingsError:  # a driver says so
        return False
    return not runtime.own_machines and not runtime.driver


def _can_wait(store: Store[Any], name: str, record: HostsRecord) -> bool:
    """Return whether nothing of a job has begun, or was asked for, that somebody has to see to."""
    return not record.steps and not record.attempts and not store.folder(name).stop_requested()


def _place_name(store: Store[Any], name: str) -> str:
    return f"{store.kind.folder}-{name}"


def _newly_driven(store: Store[Any], name: str) -> str:
    return f"{store.kind.noun} '{name}' had no driver; a new one was started: {_logs_command(store, name)}"


def _not_driven(store: Store[Any], name: str, error: OSError | JobFolderError) -> str:
    reason = error.message if isinstance(error, JobFolderError) else str(error)
    return f"{store.kind.noun} '{name}' has no driver, and none could be started: {reason}"


def _logs_command(store: Store[Any], name: str) -> str:
    return f"launcher logs -f {name}" + ("" if store.kind is TRAINING_JOBS else f" --kind {store.kind.folder}")


def raise_unless_completed(store: Store[Any], record: HostsRecord, *, log_shown: bool = False) -> None:
    """Raise the error of a failed job; a stopped one is no error, as with SageMaker.

    Args:
        log_shown: the caller's user has seen the log, so that its end is not said again.
    Raises:
        JobFailedError: with the reason, the exit code and the last lines of the log of the host that failed.
    """
    if record.status != Status.FAILED:
        return
    spec = record.hosts_spec
    folder = store.folder(spec.job_name)
    seconds = record.billable_seconds
    if seconds is None:
        seconds = (record.ended or record.modified) - (record.started or record.created)
    host, code = next(((host, code) for host, code in record.exit_codes.items() if code != 0), ("algo-1", None))
    program = spec.entry_point or spec.image_uri or "the container"
    ending = "it never ran to an end"
    if code is not None:
        on_host = f" on {host}" if spec.instance_count > 1 else ""
        ending = f"{program} exited with {code}{on_host} after {seconds:.0f} s"
    log_path = folder.log_path(host)
    tail = "" if log_shown else "".join(f"\n    {line}" for line in log_tail(log_path))
    error = JobFailedError(
        neutralised_text(f"{store.kind.noun} '{spec.job_name}': {ending}. {masked_text(record.failure_reason)}"),
        neutralised_text(f"Log: {log_path}" + (f", which ends with:{tail}" if tail else "")),
        job_name=spec.job_name,
        reason=record.failure_reason,
    )
    error.exit_code_of_job = code
    if code == BadInputError.exit_code:  # the program found its input unfit: as if the launcher had
        error.exit_code = code
    raise error


def _driven_to_its_end(
    store: Store[Any],
    name: str,
    runtime: Runtime | None,
    reader: LogReader | None,
    interrupts: Interrupts,
    looking_on: bool,
) -> bool:
    """Drive the job if nobody else does; return False if somebody does."""
    with store.folder(name).driving(wait=False) as had:
        if not had:
            return False
        record = store.load(name)
        if not record.terminal:
            try:
                chosen = runtime or get_runtime(record.runtime)
                driver_class(store, chosen)(store, name, chosen, reader, interrupts, looking_on=looking_on).run()
            except HandOver:
                raise
            except BaseException:
                with contextlib.suppress(OSError):  # the same would happen again and again
                    drop_from_queue(store.home, _place_name(store, name))
                _after_a_job(store.home)
                raise
            _after_a_job(store.home)
        if reader:
            reader.read(final=True)
        return True


def _leave_if_blind(reader: LogReader, looking_on: bool) -> None:
    if reader.failure and looking_on:
        raise HandOver


def driver_class(store: Store[Any], runtime: Runtime | None = None) -> type[JobDriver[Any]]:
    """Return what sees a job of this kind through: by name, because it may be of a room below this one.

    Args:
        runtime: what runs the job, where that may have a driver of its own for it.
    """
    own = runtime.driver if runtime is not None and store.kind is TRAINING_JOBS else ""
    module, _, attribute = (own or store.kind.driver).partition(":")
    driver: type[JobDriver[Any]] = getattr(import_module(module), attribute)
    return driver
