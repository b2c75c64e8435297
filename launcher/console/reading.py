"""What the pages show, read from a home. A part that cannot be read is missing from a page, and does not end it.

What the list of jobs does not need is loaded where it is used: somebody waits for that page first.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.console.charts import Curve
from launcher.errors import LauncherError
from launcher.jobs.endpoint_record import EndpointRecord
from launcher.jobs.folder import JobFolder
from launcher.jobs.index import Entry, list_entries
from launcher.jobs.kinds import KINDS, PROCESSING_JOBS, TRAINING_JOBS, TRANSFORM_JOBS, TUNING_JOBS, Kind
from launcher.jobs.record import DrivenRecord, JobRecord
from launcher.jobs.spec import job_keys
from launcher.jobs.store import EndpointStore, Store
from launcher.s3_server.errors import S3Error
from launcher.s3_server.store import ObjectStore
from launcher.secrets import masked, masked_text

JOB_KINDS: Mapping[str, Kind[Any]] = {
    kind.folder: kind for kind in (TRAINING_JOBS, PROCESSING_JOBS, TRANSFORM_JOBS, TUNING_JOBS)
}
_SECRET_MAPS = ("HyperParameters", "StaticHyperParameters", "Environment")
_MAX_CSV_BYTES = 8 << 20
_MAX_ARCHIVE_BYTES = 256 << 20  # of one whose files are named
_NO_FILES = "Nothing was left here."
_LOW, _HIGH = " Low", " High"  # suffixes of the columns of an estimate's interval, as batch_rl writes them
_USAGE = {  # by the member of a sample, what a person calls it, and the unit
    "cpu_percent": ("CPU, % of one", 1),
    "memory_bytes": ("Memory, MiB", 1 << 20),
    "disk_bytes": ("Written, MiB", 1 << 20),
}
_MOST_HOSTS = 6
_BASELINE = "Logged Discounted Return"
_CURVES = ("Loss/Mean", "Evaluation Reward", "Q/Mean", "Effective Sample Size")


@dataclass(frozen=True)
class Listed:
    """A line of the list of jobs; times in seconds since 1970.

    Attributes:
        folder: that of its kind.
        result: name and value of its first metric; None where it has none.
    """

    folder: str
    name: str
    status: str
    runtime: str
    created: float
    ended: float | None
    unknown: bool
    result: tuple[str, float] | None

    @property
    def identity(self) -> str:
        """What names the line in a page."""
        return f"{self.folder}/{self.name}"


@dataclass(frozen=True)
class Estimates:
    """What a training job wrote of each epoch.

    Attributes:
        curves: of the training, by column.
        values: estimates of the policy's value, with their intervals where they have some.
        baseline: what the logged policy is worth; None where the job does not say.
    """

    curves: Sequence[Curve]
    values: Sequence[Curve]
    baseline: float | None


@dataclass(frozen=True)
class Log:
    """The end of the logs of a job's hosts.

    Attributes:
        lines: by host, without control sequences of their own removed.
        offsets: how many bytes of each were read, by host.
        cut: whether there is more before.
    """

    lines: Mapping[str, Sequence[str]]
    offsets: Mapping[str, int]
    cut: bool


@dataclass(frozen=True)
class JobView:
    """A job as its page shows it.

    Attributes:
        request: as it was accepted, without secrets.
        driven: whether a process sees it through.
        metrics: a curve over seconds for each metric that patterns found in the log.
        estimates: None where it wrote none.
        usage: a curve for each host over seconds, by what was measured; empty where nothing was.
        folder: its own.
    """

    kind: Kind[Any]
    record: DrivenRecord
    folder: JobFolder
    request: Mapping[str, Any]
    driven: bool
    metrics: Sequence[Curve] = ()
    estimates: Estimates | None = None
    usage: Mapping[str, Sequence[Curve]] = field(default_factory=dict)
    warnings: Sequence[str] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """The job's name."""
        return self.folder.name


def listed_jobs(
    home: Path, *, folder: str = "", text: str = "", status: str = "", begin: int = 0, limit: int = 100
) -> tuple[list[Listed], int]:
    """Return a page of the jobs of a home, the newest first, and how many there are on all pages.

    Args:
        folder: of the only kind that is wanted; empty for all.
        text: a part of the name.
        status: the only one that is wanted; empty for all.
    """
    listing = list_entries(
        home,
        [kind for kind in JOB_KINDS.values() if folder in ("", kind.folder)],
        statuses=[status] if status else [],
        name_contains=text,
        limit=limit,
        offset=begin,
    )
    lines = [
        Listed(
            entry.kind, entry.name, entry.status, entry.runtime, entry.created,
            entry.ended or (entry.modified if entry.terminal else None),
            entry.unknown_since is not None, _result(home, entry),
        )
        for entry in listing.entries
    ]  # fmt: skip
    return lines, listing.total


def _result(home: Path, entry: Entry) -> tuple[str, float] | None:
    """Return name and value of a job's first metric, as its record has them; the index has none."""
    if not entry.terminal:
        return None
    path = Store(home, entry.kind_of).folder(entry.name).record_path
    with suppress(OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        name, value = json.loads(path.read_bytes())["final_metrics"][0][:2]
        return str(name), float(value)
    return None


def job_view(home: Path, folder: str, name: str) -> JobView:
    """Return what the page of a job shows.

    Raises:
        LauncherError: there is none, or its record cannot be read.
    """
    kind = KINDS[folder]
    store = Store(home, kind)
    record = store.load(name)
    job_folder = store.folder(name)
    driven = True
    with suppress(OSError):
        driven = job_folder.driven()
    return JobView(
        kind, record, job_folder, shown_document(record.request or record.spec), driven,
        metrics=_metrics(job_folder.metrics_path),
        estimates=read_estimates(record, home) if isinstance(record, JobRecord) else None,
        usage=_usage(job_folder.usage_path),
        warnings=[masked_text(text) for text in record.warnings],
    )  # fmt: skip


def endpoint_view(home: Path, name: str) -> tuple[EndpointRecord, list[dict[str, Any]], bool]:
    """Return an endpoint's record, its last requests, and whether a process carries it.

    Raises:
        LauncherError: there is none, or its record cannot be read.
    """
    from launcher.endpoints.service import recent_requests, status_of  # most of what a first page would load

    store = EndpointStore(home)
    record = store.load(name)
    record.status = status_of(store, name, record)
    driven = store.folder(name).driven()
    return record, recent_requests(store, name) if driven else [], driven


def read_log(folder: JobFolder, limit: int) -> Log:
    """Return about the last ``limit`` bytes of every host's log."""
    from launcher.running.following import LogReader, tail_begins

    lines: dict[str, list[str]] = {}
    begins = tail_begins(folder, limit)
    reader = LogReader(folder, lambda host, line: lines.setdefault(host, []).append(line), offsets=begins)
    reader.read()
    return Log(lines, reader.offsets, any(begins.values()))


def files_at(uri: str, s3: Mapping[str, Any] | None, home: Path) -> tuple[list[tuple[str, int]], str]:
    """Return the files of an archive or a folder, with their sizes in bytes, and why there are none.

    Args:
        uri: ``file://``, or ``s3://`` of the S3 that is built in; another S3 is not asked.
        s3: which S3 is meant, as a spec holds it.
    """
    from launcher.running.artifacts import list_files
    from launcher.storage import embedded_path

    try:
        if uri.startswith("file://"):
            path = Path(uri.removeprefix("file://"))
        elif (s3 or {}).get("kind") == "embedded":
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            with ObjectStore(embedded_path(home)) as objects:
                stored = objects.head(bucket, key)
                if stored is None:
                    below = objects.list_page(bucket, f"{key.rstrip('/')}/").objects
                    return [(entry.key[len(key.rstrip("/")) + 1 :], entry.size) for entry in below], _NO_FILES
                path = stored.path
        else:
            return [], f"It lies at {uri}; another S3 is not asked. Its files: launcher outputs JOB"
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            return [(file.relative_to(path).as_posix(), file.stat().st_size) for file in files], _NO_FILES
        if not path.exists():
            return [], _NO_FILES
        if path.stat().st_size > _MAX_ARCHIVE_BYTES:
            return [(path.name, path.stat().st_size)], ""
        return list_files(path), _NO_FILES
    except (S3Error, OSError, LauncherError) as error:
        return [], str(error)


def job_files(record: JobRecord, home: Path) -> dict[str, tuple[list[tuple[str, int]], str]]:
    """Return the files that a training job left, and why there are none, by part."""
    keys, s3 = job_keys(record.training_spec), record.training_spec.s3
    return {part: files_at(getattr(keys, part), s3, home) for part in ("model", "output", "intermediate")}


def text_begin(path: Path, limit: int) -> str | None:
    """Return the beginning of a text in UTF-8; None where it is none."""
    with path.open("rb") as file:
        data = file.read(limit)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 4:  # a character that was cut at the end is no fault
            return None
        text = data[: error.start].decode()
    return None if "\0" in text else text


def shown_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request without the values of secret names, however deep they stand."""
    return {
        name: masked(value) if name in _SECRET_MAPS and isinstance(value, dict) else _shown(value)
        for name, value in document.items()
    }


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return shown_document(value)
    if isinstance(value, list):
        return [_shown(entry) for entry in value]
    return masked_text(value) if isinstance(value, str) else value


def _metrics(path: Path) -> list[Curve]:
    from launcher.jobs.metrics import read_points

    points = []
    with suppress(OSError, ValueError, TypeError):  # a file that something else has written
        points = read_points(path)
    series: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        series.setdefault(point.name, []).append((point.timestamp - points[0].timestamp, point.value))
    return [Curve(name, [x for x, _ in values], [y for _, y in values]) for name, values in series.items()]


def _usage(path: Path) -> dict[str, list[Curve]]:
    """Return what each host of a job used, as its driver measured it."""
    from launcher.jobs.usage import UsageSample, read_samples

    samples: list[UsageSample] = []
    with suppress(OSError):
        samples = read_samples(path)
    hosts = sorted({sample.host for sample in samples}, key=lambda host: (len(host), host))
    charts: dict[str, list[Curve]] = {}
    for name, (title, unit) in _USAGE.items():
        for place, host in enumerate(hosts[:_MOST_HOSTS]):
            own = [sample for sample in samples if sample.host == host]
            word = host if len(hosts) > 1 else title
            times, values = [sample.time - samples[0].time for sample in own], [getattr(sample, name) for sample in own]
            charts.setdefault(title, []).append(Curve(word, times, [value / unit for value in values], color=place))
    return charts


def read_estimates(record: JobRecord, home: Path) -> Estimates | None:
    """Return what the job's metric file holds: batch_rl writes one, a row an epoch or an episode."""
    text = ""
    with suppress(OSError, S3Error, ValueError):
        text = _metric_text(job_keys(record.training_spec).intermediate, record, home)
    rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))
    if not rows:
        return None
    columns = list(rows[0])
    axis = next((name for name in ("Epoch", "Episode #") if name in columns), "")
    curves = [_column(rows, axis, name) for name in _CURVES if name in columns]
    values = [
        _column(rows, axis, name) for name in columns if f"{name}{_LOW}" in columns and f"{name}{_HIGH}" in columns
    ]
    baseline = _number(rows[0].get(_BASELINE))
    return Estimates([curve for curve in curves if curve.x], [curve for curve in values if curve.x], baseline)


def _metric_text(uri: str, record: JobRecord, home: Path) -> str:
    """Return the metric file below a URI; empty where there is none, or where it is on another S3."""
    from launcher.storage import embedded_path

    if uri.startswith("file://"):
        paths = sorted(Path(uri.removeprefix("file://")).glob("worker_*.csv"))
    elif (record.training_spec.s3 or {}).get("kind") == "embedded":
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        with ObjectStore(embedded_path(home)) as objects:
            paths = [entry.path for entry in objects.list_page(bucket, f"{prefix.rstrip('/')}/worker_").objects]
    else:
        paths = []
    if not paths:
        return ""
    with paths[0].open("rb") as file:
        return file.read(_MAX_CSV_BYTES).decode("utf-8", "replace")


def _column(rows: Sequence[Mapping[str, str]], axis: str, name: str) -> Curve:
    points = []
    for index, row in enumerate(rows):
        x, y = _number(row.get(axis)), _number(row.get(name))
        if y is not None:
            points.append((index if x is None else x, y, _number(row.get(name + _LOW)), _number(row.get(name + _HIGH))))
    points.sort(key=lambda point: point[0])
    ends = [(low, high) for *_, low, high in points if low is not None and high is not None]
    whole = ends if len(ends) == len(points) else []
    return Curve(
        name.removesuffix(" (trajectory)"),
        [point[0] for point in points],
        [point[1] for point in points],
        [low for low, _ in whole],
        [high for _, high in whole],
    )


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
