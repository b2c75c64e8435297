"""The commands that look at jobs that run: their states, what their hosts use, a shell inside, a debugger."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.jobs import (
    JOB_KINDS,
    AsJson,
    JobName,
    KindName,
    complete_job,
    found_job,
    job_of_kind,
    kind_of_word,
)
from launcher.cli.printing import print_json, print_table
from launcher.errors import BadInputError
from launcher.terminal import neutralised_text, say, say_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launcher.jobs.record import HostsRecord
    from launcher.jobs.store import Store
    from launcher.jobs.usage import UsageSample
    from launcher.running.looking import RunningJob

_SECONDS = 1.0
_SHELL = ["sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"]
_HEADINGS = ("HOST", "CPU %", "MEMORY", "MEMORY %", "PEAK", "DISK", "CPU SECONDS")


def top(
    job: JobName,
    kind: KindName = None,
    once: Annotated[bool, typer.Option("--once", help="Print the numbers once, also on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show CPU, memory and disk of a job's hosts: live on a terminal, else once; of a job that has ended, in all.

    CPU is in per cent of one CPU, memory of what the host may use. Disk is what the job has written below /opt/ml.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from launcher.jobs.record import HostsRecord

    store, name = found_job(job, kind)
    record = store.load(name)
    if not isinstance(record, HostsRecord):
        raise BadInputError(f"a {store.kind.noun} has no hosts of its own.", "Name a training or a processing job.")
    running = _running(store, name, record)
    samples = running.usage() if running else {}
    record = record if running else store.load(name)
    if as_json:
        print_json(_document(name, record, samples))
        return
    console = Console()
    if running is None or once or not console.is_terminal:
        _print(name, record, samples)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not record.terminal:
            lines = _lines(running.usage())
            live.update(Text("\n".join([f"{name}  {record.secondary_status}", *lines])), refresh=True)
            time.sleep(_SECONDS)
            record = store.load(name)
    _print(name, record, {})


def _running(store: Store[Any], name: str, record: HostsRecord) -> RunningJob | None:
    from launcher.running.looking import RunningJob

    try:
        return None if record.terminal else RunningJob(store, name)
    except BadInputError:
        if store.load(name).terminal or "start" not in record.steps:  # it has ended meanwhile, or nothing runs yet
            return None
        raise


def _document(name: str, record: HostsRecord, samples: Mapping[str, UsageSample]) -> dict[str, Any]:
    return {
        "job": name,
        "status": record.status,
        "hosts": [asdict(sample) for sample in samples.values()],
        "totals": record.usage,
    }


def _print(name: str, record: HostsRecord, samples: Mapping[str, UsageSample]) -> None:
    if samples:
        print("\n".join(_lines(samples)))
    elif record.usage:
        rows = [
            (host, f"{used['cpu_seconds']:.1f}", _size(used["memory_peak_bytes"]), _size(used["disk_bytes"]))
            for host, used in record.usage.items()
        ]
        say(f"{name}: {record.status}, in all:")
        print_table([("HOST", "CPU SECONDS", "PEAK", "DISK"), *rows])
    else:
        say(f"{name} is {record.secondary_status}; its usage is not known yet.")


def _lines(samples: Mapping[str, UsageSample]) -> list[str]:
    rows = [
        (
            sample.host,
            f"{sample.cpu_percent:.0f}",
            _size(sample.memory_bytes),
            f"{sample.memory_percent:.1f}",
            _size(sample.memory_peak_bytes),
            _size(sample.disk_bytes),
            f"{sample.cpu_seconds:.1f}",
        )
        for sample in samples.values()
    ]
    return _table(_HEADINGS, rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose width nobody knows yet."""
    table = [headings, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _size(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB" if count < 10 * 2**30 else f"{count / 2**30:,.1f} GiB"


def watch(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JOB...]", help="By default all that are running.", autocompletion=complete_job),
    ] = None,
    kind: KindName = None,
) -> None:
    """Follow jobs until they have ended: a live table on a terminal, else a line for each change of a status.

    The exit code is 1 if one of them has failed or was stopped.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    watched = [found_job(name, kind) for name in jobs or ()] or _running_jobs(kind)
    if not watched:
        say("no job runs")
        return
    handles = [(store, job_of_kind(store, name)) for store, name in watched]
    console = Console()
    said: dict[str, str] = {}
    with Live(console=console, auto_refresh=False) if console.is_terminal else contextlib.nullcontext() as live:
        while True:
            rows = [_watched(store, handle) for store, handle in handles]
            if live is not None:
                lines = _table(("JOB", "STATUS", "SECONDS", "LAST LINE OF THE LOG"), rows)
                live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)
            for name, status, _, _ in rows:
                if live is None and said.get(name) != status:
                    said[name] = status
                    print(f"{time.strftime('%H:%M:%S')}  {name}  {status}", flush=True)
            statuses = {status for _, status, _, _ in rows}
            if statuses <= {"Completed", "Failed", "Stopped"}:
                break
            time.sleep(_SECONDS)
    if statuses != {"Completed"}:
        raise typer.Exit(1)


def _running_jobs(kind: str | None) -> list[tuple[Store[Any], str]]:
    """Return the jobs that have not ended, the oldest first."""
    from launcher.jobs.index import list_entries
    from launcher.jobs.store import Store
    from launcher.settings import home_path

    kinds = [kind_of_word(word) for word in ((kind,) if kind else JOB_KINDS)]
    listing = list_entries(home_path(), kinds, terminal=False, descending=False)
    return [(Store(home_path(), entry.kind_of), entry.name) for entry in listing.entries]


def _watched(store: Store[Any], handle: Any) -> tuple[str, str, str, str]:
    """Return name, state, age and last words of a job; one that has lost its driver gets another one."""
    from launcher.running.following import log_tail

    status, record = handle.status, store.load(handle.name)
    last = record.ended or (record.modified if record.terminal else time.time())
    shown = record.status if record.terminal else getattr(record, "secondary_status", status)
    paths = store.folder(handle.name).log_paths()
    line = neutralised_text((log_tail(paths[0]) or [""])[-1]) if paths else ""
    return handle.name, str(shown), f"{last - record.created:.0f}", line


def shell(
    job: JobName,
    command: Annotated[
        list[str] | None, typer.Argument(help="A command and its arguments; a shell by default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Which host of the job.")] = "algo-1",
    kind: KindName = None,
) -> None:
    """Run a shell, or a command, inside a job that runs: with its /opt/ml, environment and user.

    launcher shell latest

    launcher shell latest --host algo-2 -- nvidia-smi
    """
    from launcher.running.looking import RunningJob

    store, name = found_job(job, kind)
    code = RunningJob(store, name).host(host).run_inside(command or _SHELL)
    if code:
        raise typer.Exit(code)


def debug(job: JobName) -> None:
    """Say how to connect a debugger to a job that was started with fit --debug; print a launch.json for VS Code.

    launcher debug latest > .vscode/launch.json
    """
    from launcher.jobs.store import JobStore
    from launcher.settings import home_path

    store, name = found_job(job, "training")
    if not store.load(name).training_spec.debug:
        raise BadInputError(f"job '{name}' was not started for a debugger.", "Start one: launcher fit --debug ...")
    folder = JobStore(home_path()).folder(name)
    while not (record := store.load(name)).debug_ports:
        if record.terminal:
            break
        time.sleep(0.1)
    if record.terminal:
        raise BadInputError(f"job '{name}' has ended ({record.status}).", "Start another one: launcher fit --debug ...")
    places = ", ".join(f"{host} at 127.0.0.1:{port}" for host, port in record.debug_ports.items())
    say_error(
        f"{name} waits for a debugger: {places}\n"
        f"VS Code: copy {folder.launch_path} to .vscode/launch.json of your project, then Run > Start Debugging\n"
        "PyCharm: Run > Edit Configurations > Attach to DAP (from 2026.1), with that port and the same path mappings"
    )
    print(folder.launch_path.read_text(encoding="utf-8"), end="")
