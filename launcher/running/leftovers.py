"""Finds what dead jobs and killed writers left: containers, processes, scratch files, results never packed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError
from launcher.jobs.record import JobRecord
from launcher.jobs.store import JobStore
from launcher.runtimes import get_runtime
from launcher.runtimes.probe import engine_answers
from launcher.trees import remove_tree

_COPY_PATTERN = "*.launcher-part"  # of the storage that copies into folders


@dataclass(frozen=True)
class Leftover:
    """Something that no job needs any more.

    Attributes:
        text: what it is, for people.
        remove: removes it; raises LauncherError or OSError where it cannot.
    """

    text: str
    remove: Callable[[], None]


def find_leftovers(store: JobStore, *, with_work: bool) -> tuple[list[Leftover], list[str]]:
    """Look for what can be removed; removes nothing. What a live job or an unreadable record may need is left out.

    Args:
        store: the home.
        with_work: also the working folders of jobs that have ended, which ``launcher collect`` could still pack.
    Returns:
        What can be removed, and why something could not be looked at.
    Raises:
        SettingsError: the home may not be looked into.
    """
    # Before the records: a job that begins meanwhile is recorded first, and is not taken for a dead one.
    remains = get_runtime("process").leftovers(str(store.home))
    notes = []
    has_engine = engine_answers()
    if has_engine:
        try:
            remains += get_runtime("docker").leftovers(str(store.home))
        except LauncherError as error:
            notes.append(f"containers were not looked at: {error.message}")
    records, errors = store.records()
    notes += [error.message for error in errors]
    if not has_engine and any(record.training_spec.runtime == "docker" for _, record in records):
        notes.append("containers were not looked at: no Docker engine answers.")
    alive = {name for name, record in records if not record.terminal}
    unreadable = {path.name for path in store.jobs_path.glob("[!.]*") if (path / "job.json").exists()}
    alive |= unreadable - {name for name, _ in records}
    leftovers = [Leftover(f"{path} (its writer was killed)", _remover(path)) for path in store.leftovers()]
    for name, record in records:
        if record.terminal:
            leftovers += _of_ended_job(store, name, record, with_work)
    leftovers += [
        Leftover(f"{remainder.text} of job '{remainder.job_name}'", remainder.remove)
        for remainder in remains
        if remainder.lost or remainder.job_name not in alive
    ]
    return leftovers, notes


def _of_ended_job(store: JobStore, name: str, record: JobRecord, with_work: bool) -> Iterator[Leftover]:
    folder = store.folder(name)
    copies = folder.path / "output"
    parts = [folder.spare_path] if folder.spare_path.exists() else []
    for path in (*parts, *(sorted(copies.rglob(_COPY_PATTERN)) if copies.is_dir() else ())):
        yield Leftover(f"{path} (of a copy that was never finished)", _remover(path))
    if with_work and folder.work_path.is_dir():
        yield Leftover(
            f"{folder.work_path} (what job '{name}', which is {record.status}, wrote and was not packed)",
            lambda: remove_tree(folder.work_path),
        )


def _remover(path: Path) -> Callable[[], None]:
    def remove() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    return remove
