"""Finds what dead jobs and killed writers left: containers, processes, scratch files, results never packed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import LauncherError
from launcher.jobs.kinds import KINDS, TRAINING_JOBS, Kind
from launcher.jobs.record import DrivenRecord
from launcher.jobs.store import JobStore, Store
from launcher.runtimes import get_runtime
from launcher.runtimes.probe import engine_answers
from launcher.trees import remove_tree

_SLURM = "slurm"
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
    silence = ""
    try:
        remains += get_runtime(_SLURM).leftovers(str(store.home))
    except LauncherError as error:  # which is nothing to say where no job was ever sent there
        silence = f"jobs of Slurm were not looked at: {error.message}"
    leftovers, alive, runtimes = list[Leftover](), set[str](), set[str]()
    images_needed = False
    for kind in KINDS.values():
        own: Store[Any] = Store(store.home, kind)
        records, errors = own.records()
        notes += [error.message for error in errors]
        leftovers += [Leftover(f"{path} (its writer was killed)", _remover(path)) for path in own.leftovers()]
        # A job that has not ended, or whose record cannot be read, may need what a runtime keeps of it.
        alive |= {_label(kind, path.name) for path in own.path.glob("[!.]*") if (path / kind.record_file).exists()}
        for name, record in records:
            if kind.driver and record.terminal:
                alive.discard(_label(kind, name))
                leftovers += _of_ended_job(own, name, record, with_work)
            if isinstance(record, DrivenRecord):
                runtimes.add(record.runtime)
                images_needed |= record.runtime == _SLURM and not record.terminal
        images_needed |= bool(errors)
    if not images_needed:
        leftovers += _saved_images(store.home)
    notes += [silence] if silence and _SLURM in runtimes else []
    if not has_engine and "docker" in runtimes:
        notes.append("containers were not looked at: no Docker engine answers.")
    for remainder in remains:
        folder, _, name = remainder.job_name.rpartition("/")
        owner = KINDS.get(folder or TRAINING_JOBS.folder)
        # What belongs to a kind that this version does not know is left to the version that does.
        if owner is not None and (remainder.lost or remainder.job_name not in alive):
            leftovers.append(Leftover(f"{remainder.text} of {owner.noun} '{name}'", remainder.remove))
    return leftovers, notes


def _saved_images(home: Path) -> Iterator[Leftover]:
    """Return the images that were saved for the nodes of Slurm, and parts that a killed writer left."""
    for path in sorted((home / "images").glob("*")):
        yield Leftover(
            f"{path} (an image for the nodes of Slurm; the next job that needs it saves it again)", _remover(path)
        )


def _label(kind: Kind[Any], name: str) -> str:
    """Return how a runtime's remains name a job: training jobs by their name alone, as ever."""
    return name if kind is TRAINING_JOBS else f"{kind.folder}/{name}"


def _of_ended_job(store: Store[Any], name: str, record: DrivenRecord, with_work: bool) -> Iterator[Leftover]:
    folder = store.folder(name)
    copies = folder.path / "output"
    parts = [folder.spare_path] if folder.spare_path.exists() else []
    for path in (*parts, *(sorted(copies.rglob(_COPY_PATTERN)) if copies.is_dir() else ())):
        yield Leftover(f"{path} (of a copy that was never finished)", _remover(path))
    if with_work and folder.work_path.is_dir():
        yield Leftover(
            f"{folder.work_path} (what {store.kind.noun} '{name}', which is {record.status}, wrote and was not packed)",
            lambda: remove_tree(folder.work_path),
        )


def _remover(path: Path) -> Callable[[], None]:
    def remove() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    return remove
