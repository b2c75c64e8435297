"""Results of one job as the input of the next: a job in Python, ``JOB`` or ``JOB:model/FILE`` on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TypeVar

from launcher.errors import ArtifactError, ChannelError, JobNotFoundError
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import job_keys
from launcher.jobs.states import Status
from launcher.jobs.store import JobStore, Store
from launcher.paths import MAX_NAME_BYTES, exists
from launcher.sdk.training_job import JobOutputs, TrainingJob
from launcher.settings import home_path
from launcher.storage import recorded_storage

LATEST = "latest"
PARTS = {
    "output": "what the job left in /opt/ml/output/data",
    "model": "what it left in /opt/ml/model",
    "intermediate": "what it wrote to /opt/ml/output/intermediate",
}
CHECKPOINT_CHANNEL, MODEL_CHANNEL = "checkpoint", "model"
_CHECKPOINT_FOLDER = "checkpoint"  # where the bundled entry points leave theirs, in the output data
_REFERENCE = re.compile(r"(?P<job>[A-Za-z0-9][A-Za-z0-9-]{0,62})(?:[:/](?P<inside>.*))?", re.DOTALL)
_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
_MAX_NAMED = 5

_T = TypeVar("_T")


def find_job(name: str) -> TrainingJob:
    """Return a training job by its name, or by the word ``latest`` the newest.

    Raises:
        JobNotFoundError: there is none.
    """
    from launcher.jobs.index import names_by_age

    store = JobStore(home_path())
    if len(name.encode()) > MAX_NAME_BYTES:
        raise JobNotFoundError(f"no job '{name:.60}...': that is no job's name.", "List them with: launcher ls")
    if name == LATEST:
        names = names_by_age(store, limit=1)
        if not names:
            raise JobNotFoundError(f"there is no training job in {store.home} yet.", "Is LAUNCHER_HOME the same?")
        name = names[0]
    return TrainingJob(name, store)


def as_location(value: _T | TrainingJob | JobOutputs, channel: str = "") -> _T | str:
    """Return the path of what a job left, for a ``TrainingJob`` or its ``outputs``; anything else as it is.

    Args:
        value: anything that an input may be.
        channel: for which; ``checkpoint`` and ``model`` get the part of that name.
    Raises:
        ChannelError: the job has left nothing of the kind.
    """
    if isinstance(value, TrainingJob):
        return str(results_path(value.outputs, "", channel))
    return str(results_path(value, "", channel)) if isinstance(value, JobOutputs) else value


def referred_location(text: str, channel: str = "", tell: Callable[[str], None] = lambda _: None) -> str:
    """Return the path or URI that a word of the command line means as an input.

    A path that is there, and a URI, stay what they are. ``JOB`` stands for what the job left, ``JOB:model``,
    ``JOB:output/FILE`` and ``JOB/output/FILE`` for a part of it; ``latest`` for the newest job.

    Args:
        tell: gets a line that says which job ``latest`` is.
    Raises:
        ChannelError: the job has left nothing of the kind; or no path and no job has this name.
    """
    match = _REFERENCE.fullmatch(text)
    if "://" in text or match is None or exists(text):
        return text
    name, inside = match["job"], match["inside"] or ""
    store = JobStore(home_path())
    if name != LATEST and not store.folder(name).record_path.exists():
        if "/" in text or "." in text:
            return text  # a path, whose error is said where paths are looked at
        from launcher.jobs.index import names_by_age

        near = get_close_matches(name, names_by_age(store), n=1)
        raise ChannelError(
            f"'{text}' is neither a file or folder nor a job.",
            f"Did you mean the job '{near[0]}'?" if near else _fitting(store, inside, channel) or "List: launcher ls",
        )
    path = results_path(find_job(name).outputs, inside, channel)
    if name == LATEST:
        tell(f"{text} is {path}")
    return str(path)


def results_path(outputs: JobOutputs, inside: str = "", channel: str = "") -> Path:
    """Return where something lies that a job left; an archive is unpacked when it is first asked for.

    Args:
        outputs: of a job that has ended, or for ``intermediate`` of one that runs.
        inside: ``output``, ``model`` or ``intermediate``, and a path in it; empty for what ``channel`` reads, or else
            the output data, or else the model.
    Raises:
        ChannelError: the job has not ended, or has left nothing of the kind; the message names jobs that have.
    """
    name, path = outputs.job_name, PurePosixPath(inside.strip("/"))
    part = path.parts[0] if path.parts else ""
    if part and part not in PARTS:
        raise ChannelError(
            f"job '{name}' has no '{inside}'.", f"Write {name}:PART or {name}:PART/FILE with {_parts()}."
        )
    if ".." in path.parts:
        raise ChannelError(f"'{name}:{inside}' leaves the results of the job.", "Name a file or folder in them.")
    store = JobStore(outputs.home)
    part = part or _default_part(outputs, channel)
    status = outputs.status
    if part != "intermediate" and not Status(status).terminal:
        raise ChannelError(
            f"job '{name}' is {status}; its results are packed when it has ended.",
            f"Wait for it: launcher logs -f {name}",
        )
    try:
        folder = outputs.part_path(part)
    except ArtifactError as error:
        raise ChannelError(
            f"job '{name}', which is {status}, has no {part}: {error.message}",
            _fitting(store, part, channel) or f"See: launcher logs {name}",
        ) from error
    if not inside and channel == CHECKPOINT_CHANNEL and (folder / _CHECKPOINT_FOLDER).is_dir():
        return folder / _CHECKPOINT_FOLDER
    target = folder.joinpath(*path.parts[1:])
    if not target.exists():
        names = sorted(str(entry.relative_to(folder)) for entry in folder.rglob("*") if entry.is_file())

        near = get_close_matches(str(PurePosixPath(*path.parts[1:])), names, n=1)
        listed = ", ".join(names[:_MAX_NAMED]) + (f" and {len(names) - _MAX_NAMED} more" * (len(names) > _MAX_NAMED))
        raise ChannelError(
            f"job '{name}' has left no '{inside}'; its {part} holds {listed or 'nothing'}.",
            f"Did you mean {name}:{part}/{near[0]}?" if near else f"List them: launcher outputs {name}",
        )
    return target


def loose_location(location: str, channel: str) -> str:
    """Return where the files are that an archive holds, for a program that reads files and no archives.

    An archive that a job of this home left, or the folder with it, stands for what the job left.

    Raises:
        ChannelError: it is another archive.
    """
    path = location.removeprefix("file://").rstrip("/")
    folder, _, name = path.rpartition("/")
    is_archive = name.endswith(_ARCHIVES)
    if not is_archive and "://" not in location:
        folder, name = path, "output.tar.gz"
        if not Path(folder, name).is_file() and not Path(folder, "model.tar.gz").is_file():
            return location
        folder = str(Path(folder).resolve())
    elif not is_archive:
        return location
    elif not location.startswith("s3://"):
        folder = str(Path(folder or ".").resolve())
    job_name = folder.removesuffix("/output").rpartition("/")[2]
    store = JobStore(home_path())
    if store.folder(job_name).record_path.exists():
        keys = job_keys(store.load(job_name).training_spec)
        part = {
            key: part
            for part, key in (("output", keys.output), ("model", keys.model))
            for key in (key, key.removeprefix("file://"))
        }
        uri = f"{folder}/{name}"
        if not is_archive and (uri in part or f"{folder}/model.tar.gz" in part):
            return str(results_path(JobOutputs(store, job_name), "", channel))
        if uri in part:
            inside = "" if part[uri] == "output" and channel == CHECKPOINT_CHANNEL else part[uri]
            return str(results_path(JobOutputs(store, job_name), inside, channel))
    if not is_archive:
        return location
    raise ChannelError(
        f"channel '{channel}': {location} is an archive, and this program reads the files in one.",
        f"Unpack it to a folder first, and give that: mkdir data && tar -xzf {name} -C data",
    )


def _default_part(outputs: JobOutputs, channel: str) -> str:
    if channel == MODEL_CHANNEL:
        return "model"
    return next((part for part in ("output", "model") if outputs.has(part)), "output")


def _has(store: Store[JobRecord], name: str, part: str) -> bool:
    spec = store.load(name).training_spec
    uri = getattr(job_keys(spec), part)
    return bool(recorded_storage(uri, spec.s3).exists(uri))


def _fitting(store: Store[JobRecord], inside: str, channel: str) -> str:
    """Return a sentence with the newest jobs that have such a part; empty where there are none."""
    part = inside.split("/")[0] or (MODEL_CHANNEL if channel == MODEL_CHANNEL else "")
    parts = [name for name in ((part,) if part else ("output", "model")) if name in PARTS]
    from launcher.jobs.index import list_entries

    # Each may be a question to an S3: the newest are enough.
    newest = list_entries(store.home, [store.kind], terminal=True, limit=4 * _MAX_NAMED).entries
    fitting = [entry.name for entry in newest if any(_has(store, entry.name, part) for part in parts)]
    if not fitting:
        return ""
    return f"Jobs that have {' or '.join(parts)}, the newest first: {', '.join(fitting[:_MAX_NAMED])}."


def _parts() -> str:
    return ", ".join(f"{part} ({meaning})" for part, meaning in PARTS.items())
