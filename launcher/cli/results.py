"""What a job left, for people: its files, its metrics, and what to do with them next."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.jobs import AsJson, JobName, job_handle
from launcher.cli.on_aws import OnAws, aws_session, job_on_aws
from launcher.cli.printing import print_json, print_table
from launcher.errors import BadInputError
from launcher.paths import checked_path
from launcher.terminal import say, say_error

if TYPE_CHECKING:
    from launcher.sdk.training_job import TrainingJob

_INSIDE = {"/opt/ml/model": "model", "/opt/ml/output/data": "output", "/opt/ml/output/intermediate": "intermediate"}
_INSIDE_PATH = re.compile(rf"({'|'.join(_INSIDE)})/([^\s'\"`,;:()\[\]]+)")
_BUNDLED = ("collect.py", "prepare.py", "train.py", "evaluate.py")
_UNPACKED = re.compile(r".*/jobs/(?P<job>[A-Za-z0-9-]+)/unpacked/output(?:/(?P<inside>.+))?")
_MAX_NAMES = 5
_MAX_LOG_BYTES = 1 << 20
_MAX_ARCHIVE_BYTES = 64 << 20  # of an archive that is read to name its files, when nobody asked for them


def outputs(
    job: JobName,
    path: Annotated[str, typer.Argument(help="model, output or intermediate, or PART/FILE; all by default.")] = "",
    to: Annotated[Path | None, typer.Option("--to", help="A folder that gets copies.")] = None,
    as_json: AsJson = False,
    mode: OnAws = None,
) -> None:
    """List the files that a training job left, also inside its archives; with PATH or --to unpack, and print where.

    launcher outputs latest output/cartpole_dataset.csv
    """
    from launcher.sdk.job_results import PARTS, results_path

    handle = job_on_aws(job, mode) or job_handle(job)
    if path or to is not None:
        print(_placed(handle, path, to) if to is not None else results_path(handle.outputs, path))
        return
    files = {part: handle.outputs.files(part) for part in PARTS}
    if as_json:
        print_json([{"name": f"{part}/{name}", "bytes": size} for part in sorted(files) for name, size in files[part]])
        return
    rows = [(f"{part}/{name}", f"{size:,}") for part in sorted(files) for name, size in files[part]]
    if not rows:
        command = f"launcher logs {handle.name}{handle.command_options}"
        say(f"{handle.name} is {handle.status} and has left no file. Its log: {command}")
        return
    print_table([("FILE", "BYTES"), *rows])
    for part, archive in _archives(handle).items():
        if files[part]:
            print(f"{part}: {archive}")
    print(f"Unpack: launcher outputs {handle.name} FILE, or --to FOLDER")


def metrics(
    job: JobName,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: every value that the log held.")] = False,
    as_json: AsJson = False,
    mode: OnAws = None,
) -> None:
    """Print the metrics that patterns found in a training job's log (fit --metric NAME=REGEX)."""
    from launcher.sdk.analytics import TrainingJobAnalytics

    remote = job_on_aws(job, mode)
    handle = remote or job_handle(job)
    table = TrainingJobAnalytics(handle.name, sagemaker_session=remote and aws_session()).dataframe()
    if as_json:
        print_json(table.to_dict("records"))
    elif as_csv:
        table.to_csv(sys.stdout, index=False)
    elif table.empty:
        say(f"{handle.name} has no metric yet; name them with: launcher fit --metric NAME=REGEX")
    else:
        rows: list[tuple[str, ...]] = [("METRIC", "VALUES", "FIRST", "LAST", "MIN", "MAX")]
        for name, values in table.groupby("metric_name", sort=False)["value"]:
            numbers = (values.iloc[0], values.iloc[-1], values.min(), values.max())
            rows.append((str(name), str(len(values)), *(f"{number:.6g}" for number in numbers)))
        print_table(rows)


def print_results(job: TrainingJob) -> None:
    """Say how a job ended, which files came out by paths of this machine, and what the next command may be."""
    for line in job.warnings:
        say_error(f"warning: {line}")
    say(f"{job.name}: {job.status}. Results: {_results(job)}")
    if print_files(job):
        say(f"Files: launcher outputs {job.name}{job.command_options} --to FOLDER")
        for number, command in enumerate([] if job.command_options else _next_commands(job)):
            say(f"{'Next:' if not number else '  or:'} {command}")


def print_what_failed_left(job: TrainingJob) -> None:
    """Name the files that a job left which failed."""
    print_files(job, title=f"{job.name}: {job.status}. What it left: {_results(job)}")


def print_files(job: TrainingJob, *, title: str = "") -> bool:
    """Name the files that came out, and those that the log names by paths of the container; return if there are any.

    Args:
        title: is printed before them; empty for none.
    """
    files = {
        part: [name for name, _ in job.outputs.files(part)]
        for part in _archives(job)
        if 0 < job.outputs.size(part) <= _MAX_ARCHIVE_BYTES
    }
    if title and files:
        say(title)
    for part, names in files.items():
        shown = by_folder(names)
        rest = f" and {len(shown) - _MAX_NAMES} more" if len(shown) > _MAX_NAMES else ""
        say(f"  {_archives(job)[part].rpartition('/')[2]}: {', '.join(shown[:_MAX_NAMES])}{rest}")
    for line in _translated(job, files):
        say(f"  {line}")
    return bool(files)


def _results(job: TrainingJob) -> str:
    return job.model_data.removeprefix("file://").rpartition("/")[0]


def by_folder(names: Sequence[str]) -> list[str]:
    """Return the names of files, those of a folder with several as one."""
    counts = Counter(name.partition("/")[0] for name in names)
    folders = {name.partition("/")[0] for name in names if "/" in name}
    shown = (
        f"{first}/ ({counts[first]} files)" if first in folders and counts[first] > 1 else name
        for name in names
        for first in (name.partition("/")[0],)
    )
    return list(dict.fromkeys(shown))


def _next_commands(job: TrainingJob) -> list[str]:
    """Return what people do next with a job's results, for the bundled entry points by what they are for."""
    from launcher.jobs.store import JobStore

    spec = JobStore(job.outputs.home).load(job.name).training_spec
    if "preset" not in spec.hyperparameters or job.entry_point not in _BUNDLED:
        return [f"launcher fit SCRIPT -i CHANNEL={job.name}"]
    if job.entry_point in ("collect.py", "prepare.py"):
        return [f"launcher fit --preset PRESET -i train={job.name}"]
    if job.entry_point == "evaluate.py":
        return []
    datasets = [channel.uri for channel in spec.channels if channel.name == "train" and channel.uri.startswith("file:")]
    judging = [f"launcher ope -d {shlex.quote(_shown_input(uri))} -c {job.name}" for uri in datasets]
    return [*judging, f"launcher fit evaluate.py --preset PRESET -i checkpoint={job.name}"]


def _shown_input(uri: str) -> str:
    """Return a channel's input as a person would type it: by its job, or from here."""
    path = uri.removeprefix("file://")
    match = _UNPACKED.fullmatch(path)
    if match is not None:
        return match["job"] + (f":output/{match['inside']}" if match["inside"] else "")
    try:
        near = os.path.relpath(path)
    except OSError:  # this folder is gone
        return path
    return path if near.startswith("..") else near


def _translated(job: TrainingJob, files: dict[str, list[str]]) -> list[str]:
    """Return a line for each file of the job that its log names by a path of the container."""
    with job.log_path.open("rb") as log:
        log.seek(max(0, job.log_path.stat().st_size - _MAX_LOG_BYTES))
        text = log.read().decode("utf-8", "replace")
    lines: dict[str, None] = {}
    for match in _INSIDE_PATH.finditer(text):
        folder, name = match[1], match[2].rstrip("./")
        part = _INSIDE[folder]
        if name in files.get(part, ()) or any(file.startswith(f"{name}/") for file in files.get(part, ())):
            lines[f"{folder}/{name} is {part}/{name}"] = None
        elif part == "intermediate" and job.outputs.has_intermediate(name):
            lines[f"{folder}/{name} is {_intermediate(job)}/{name}"] = None
    return list(lines)[:_MAX_NAMES]


def _archives(job: TrainingJob) -> dict[str, str]:
    keys = job.keys
    return {"model": keys.model.removeprefix("file://"), "output": keys.output.removeprefix("file://")}


def _intermediate(job: TrainingJob) -> str:
    return job.keys.intermediate.removeprefix("file://")


def _placed(job: TrainingJob, path: str, folder: Path) -> Path:
    """Copy what lies at ``path``, or all that the job left, into a folder of the user's; return where it is."""
    from launcher.sdk.job_results import PARTS, results_path

    folder = checked_path(folder, "--to").absolute()
    parts = [path] if path else [part for part in PARTS if job.outputs.files(part)]
    if not parts:
        raise BadInputError(
            f"job '{job.name}' has left no file.", f"Its log: launcher logs {job.name}{job.command_options}"
        )
    sources = {folder / Path(part).name: results_path(job.outputs, part) for part in parts}
    for target in sources:
        if target.exists():
            raise BadInputError(f"{target} is there already.", "Name another folder; nothing is overwritten.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for target, source in sources.items():
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True)
            else:
                shutil.copy2(source, target)
    except OSError as error:
        raise BadInputError(f"{folder} cannot be written: {error.strerror}.", "Name another folder.") from error
    return next(iter(sources)) if path else folder
