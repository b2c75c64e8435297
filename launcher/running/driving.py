"""Finds a process that sees a job through: this one, another one, or a driver of its own that outlives them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import import_module
from typing import Any, TypeVar

from launcher.errors import ArtifactError, BadInputError, JobFailedError, JobFolderError, LauncherError
from launcher.jobs.kinds import KINDS, TRAINING_JOBS
from launcher.jobs.record import DrivenRecord, HostsRecord, Record
from launcher.jobs.states import Status
from launcher.jobs.store import Store
from launcher.running.following import LineSink, LogReader, log_tail
from launcher.running.job_driver import JobDriver
from launcher.running.runner import HostsDriver
from launcher.running.signals import HandOver, Interrupts, watch_signals
from launcher.running.spawner import driver_environment, spawned
from launcher.running.stages.job_state import TICK_SECONDS
from launcher.runtimes import Runtime, get_runtime
from launcher.secrets import masked_text
from launcher.settings import home_path
from launcher.terminal import neutralised_text, open_standard_streams, say_error

_Record = TypeVar("_Record", bound=DrivenRecord)
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
    """Start a driver for a job that has none.

    Returns:
        What the user should know about it; empty where there is nothing to say.
    """
    try:
        if not undriven(store, name, record):
            return ""
        drive_detached(store, name)
    except (OSError, JobFolderError) as error:
        reason = error.message if isinstance(error, JobFolderError) else str(error)
        return f"{store.kind.noun} '{name}' has no driver, and none could be started: {reason}"
    return f"{store.kind.noun} '{name}' had no driver; a new one was started: {_logs_command(store, name)}"


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
            chosen = runtime or get_runtime(record.runtime)
            driver_class(store, chosen)(store, name, chosen, reader, interrupts, looking_on=looking_on).run()
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
