"""Two training jobs side by side: request, source, data, environment, and what came out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path
from typing import Any

from launcher.channels.listing import StorageOf, channel_objects
from launcher.comparing import files
from launcher.comparing.differences import Difference, JobComparison, Section, compare_values, flattened
from launcher.comparing.files import Facts, Reader
from launcher.errors import BadInputError, ChannelError, LauncherError
from launcher.jobs.metrics import read_points
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import Channel, TrainingJobSpec, job_keys
from launcher.jobs.store import JobStore
from launcher.requests.training import training_request
from launcher.storage import recorded_storage
from launcher.storage.buckets import BucketStorage

SECTIONS = ("outcome", "request", "source", "data", "environment", "metrics", "results")
MAX_DATA_BYTES = 1 << 30
"""Of a channel, up to which the files' contents are compared; beyond, their sizes."""

_OF_THE_JOB_ITSELF = (
    "TrainingJobName",
    "HyperParameters.sagemaker_job_name",
    "HyperParameters.sagemaker_submit_directory",  # the source is compared by its files
)
_MOST_NAMED = 3


def compare_training_jobs(
    store: JobStore, first: str, second: str, sections: Collection[str] = SECTIONS, ignore: Collection[str] = ()
) -> JobComparison:
    """Compare two training jobs of a home; nothing of them is changed.

    What is not recorded with a job is looked at where it is now: the files of its channels, and its results.

    Args:
        store: the home.
        first, second: names of jobs; one that runs is compared as far as it has come.
        sections: those that are wanted, by their names; ``source``, ``data`` and ``results`` read files.
        ignore: ``SECTION/SUBJECT`` of differences that do not count, as patterns of shells.
    Raises:
        JobNotFoundError: there is no such job.
        BadInputError: there is no such section.
    """
    unknown = set(sections) - set(SECTIONS)
    if unknown:
        raise BadInputError(f"there is no section '{min(unknown)}'.", f"Use: {', '.join(SECTIONS)}.")
    pair = _Pair(store, first, second)
    compared = [getattr(pair, f"compare_{name}")() for name in SECTIONS if name in sections]
    return JobComparison(first, second, tuple(_without(section, ignore) for section in compared))


class _Pair:
    def __init__(self, store: JobStore, first: str, second: str) -> None:
        self._names = first, second
        self._folders = store.folder(first), store.folder(second)
        self._records = store.load(first), store.load(second)
        self._specs = tuple(record.training_spec for record in self._records)

    def compare_outcome(self) -> Section:
        """How the jobs ended; how long they took is no difference."""
        sides = [
            {
                "status": str(record.status),
                **({"failure reason": record.failure_reason} if record.failure_reason else {}),
                **{f"exit code of {host}": code for host, code in record.exit_codes.items()},
            }
            for record in self._records
        ]
        seconds = [_training_seconds(record) for record in self._records]
        notes = [] if None in seconds else [f"training took {seconds[0]:.1f} s and {seconds[1]:.1f} s"]
        return _section("outcome", *sides, names=self._names, notes=notes)

    def compare_request(self) -> Section:
        """The documents as they were accepted, without the names of the jobs."""
        sides = []
        for record, spec in zip(self._records, self._specs, strict=True):
            members = flattened(record.request or training_request(spec))
            sides.append({path: value for path, value in members.items() if path not in _OF_THE_JOB_ITSELF})
        return _section("request", *sides, names=self._names)

    def compare_source(self) -> Section:
        """The files of the two source archives, whatever the archives are called."""
        return files.in_scratch(self._source)  # type: ignore[no-any-return]

    def _source(self, scratch: Path) -> Section:
        notes: list[str] = []
        facts: list[dict[str, Facts]] = []
        readers: list[Reader] = []
        for number, (name, spec) in enumerate(zip(self._names, self._specs, strict=True)):
            facts.append({})
            readers.append(files.no_reader)
            if not spec.source_uri:
                continue
            try:
                path = recorded_storage(spec.source_uri, spec.s3).fetch_object(spec.source_uri, scratch / str(number))
                facts[number], readers[number] = files.archive_facts(path), files.archive_reader(path)
            except (LauncherError, OSError) as error:
                notes.append(f"the source of {name} cannot be read: {_message(error)}")
        if notes:
            return Section("source", 0, notes=tuple(notes))
        differences = files.compare_files(facts[0], facts[1], (readers[0], readers[1]), names=self._names)
        return Section("source", len({*facts[0], *facts[1]}), tuple(differences))

    def compare_data(self) -> Section:
        """The files of each channel, as they are now; of the same place, which have changed since the first job."""
        channels = [{channel.name: channel for channel in spec.channels} for spec in self._specs]
        differences: list[Difference] = []
        notes: list[str] = []
        compared = 0
        for name in sorted({*channels[0], *channels[1]}):
            pair = channels[0].get(name), channels[1].get(name)
            if pair[0] is None or pair[1] is None:
                uris = [None if channel is None else channel.uri for channel in pair]
                differences.append(Difference(name, uris[0], uris[1]))
                compared += 1
                continue
            try:
                if pair[0].uri == pair[1].uri and self._specs[0].s3 == self._specs[1].s3:
                    count, newer = self._newer_files(pair[0])
                    compared += count
                    if newer:
                        named = ", ".join(newer[:_MOST_NAMED]) + (", ..." if len(newer) > _MOST_NAMED else "")
                        notes.append(
                            f"{name}: {len(newer)} of {count} files at {pair[0].uri} changed after {self._names[0]} "
                            f"began: {named}"
                        )
                    continue
                sides = [_Contents(spec, channel) for spec, channel in zip(self._specs, pair, strict=True) if channel]
                by_size = any(side.total_bytes > MAX_DATA_BYTES for side in sides)
                facts = [side.facts(by_size=by_size) for side in sides]
            except (LauncherError, OSError) as error:
                notes.append(f"{name} cannot be compared: {_message(error)}")
                continue
            if by_size:
                notes.append(f"{name}: compared by size alone, because there is more than 1 GiB")
            compared += len({*facts[0], *facts[1]})
            differences += files.compare_files(facts[0], facts[1], (sides[0].read, sides[1].read), f"{name}/")
        return Section("data", compared, tuple(differences), tuple(notes))

    def _newer_files(self, channel: Channel) -> tuple[int, list[str]]:
        """Return how many files a channel has now, and those that changed after the first job had begun."""
        times = _Contents(self._specs[0], channel).modified()
        return len(times), [name for name, modified in times.items() if modified > self._records[0].created]

    def compare_environment(self) -> Section:
        """What the jobs found beside their own files: runtime, interpreter and packages, or image."""
        sides: list[dict[str, Any]] = []
        notes = []
        for name, folder, record in zip(self._names, self._folders, self._records, strict=True):
            try:
                written = json.loads(folder.environment_path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                notes.append(f"nothing is recorded of the environment of {name}")
                written = {}
            requirements = Path(record.requirements).name if record.requirements else None
            sides.append({"Runtime": record.runtime, "Requirements": requirements, **flattened(written)})
        if notes:
            sides = [{"Runtime": record.runtime} for record in self._records]
        return _section("environment", *sides, notes=notes)

    def compare_metrics(self) -> Section:
        """The values that patterns found in the logs, in their order and whatever their times."""
        series: list[dict[str, list[float]]] = [{}, {}]
        for side, folder in zip(series, self._folders, strict=True):
            for point in read_points(folder.metrics_path):
                side.setdefault(point.name, []).append(point.value)
        differences = [
            Difference(
                name,
                _last(series[0].get(name)),
                _last(series[1].get(name)),
                _first_change(series[0].get(name, []), series[1].get(name, [])),
            )
            for name in sorted({*series[0], *series[1]})
            if series[0].get(name) != series[1].get(name)
        ]
        return Section("metrics", len({*series[0], *series[1]}), tuple(differences))

    def compare_results(self) -> Section:
        """The files that the jobs left: members of both archives, and the intermediate files."""
        return files.in_scratch(self._results)  # type: ignore[no-any-return]

    def _results(self, scratch: Path) -> Section:
        differences: list[Difference] = []
        notes: list[str] = []
        compared = 0
        for part in ("model", "output", "intermediate"):
            facts: list[dict[str, Facts]] = []
            readers: list[Reader] = []
            for number, spec in enumerate(self._specs):
                uri = getattr(job_keys(spec), part)
                place = scratch / f"{part}-{number}"
                try:
                    storage = recorded_storage(uri, spec.s3)
                    if not storage.exists(uri):
                        facts.append({})
                        readers.append(files.no_reader)
                    elif part == "intermediate":
                        place.mkdir()
                        folder = storage.fetch(uri, place)
                        facts.append(files.folder_facts(folder))
                        readers.append(files.folder_reader(folder))
                    else:
                        path = storage.fetch_object(uri, place)
                        facts.append(files.archive_facts(path))
                        readers.append(files.archive_reader(path))
                except (LauncherError, OSError) as error:
                    notes.append(f"{part} of {self._names[number]} cannot be read: {_message(error)}")
            if len(facts) == 2:
                compared += len({*facts[0], *facts[1]})
                differences += files.compare_files(
                    facts[0], facts[1], (readers[0], readers[1]), f"{part}/", names=self._names
                )
            else:
                differences.append(Difference(part, None, None))
        return Section("results", compared, tuple(differences), tuple(notes))


class _Contents:
    """The files of one channel, where they are now."""

    def __init__(self, spec: TrainingJobSpec, channel: Channel) -> None:
        self._storage_of: StorageOf = lambda uri: recorded_storage(uri, spec.s3)
        if channel.s3_data_type == "AugmentedManifestFile":
            self._uris = {channel.uri.rpartition("/")[2]: channel.uri}
        else:
            self._uris = channel_objects(channel, self._storage_of)

    @property
    def total_bytes(self) -> int:
        """How many bytes there are."""
        return sum(size for size, _, _ in map(self._status, self._uris.values()))

    def modified(self) -> dict[str, float]:
        """Return when each file was written, in seconds since 1970."""
        return {name: self._status(uri)[2] for name, uri in self._uris.items()}

    def facts(self, *, by_size: bool) -> dict[str, Facts]:
        """Return size and digest of each file, or its size alone."""
        return {name: self._facts(uri, by_size) for name, uri in self._uris.items()}

    def read(self, name: str) -> bytes | None:
        """Return the content of a file of this machine."""
        storage = self._storage_of(self._uris[name])
        return None if isinstance(storage, BucketStorage) else storage.fetch(self._uris[name], Path()).read_bytes()

    def _facts(self, uri: str, by_size: bool) -> Facts:
        size, etag, _ = self._status(uri)
        if by_size or etag:
            return Facts(size, "" if by_size else f"etag:{etag}")
        return files.file_facts(self._storage_of(uri).fetch(uri, Path()))

    def _status(self, uri: str) -> tuple[int, str, float]:
        """Return size in bytes, etag and time of change of a file or an object."""
        storage = self._storage_of(uri)
        if isinstance(storage, BucketStorage):
            listed = storage.head(uri)
            if listed is None:
                raise ChannelError(f"{uri} is gone.", "It was there when the channel was listed.")
            return listed.size, listed.etag, listed.modified
        status = storage.fetch(uri, Path()).stat()
        return status.st_size, "", status.st_mtime


def _section(
    name: str,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    *,
    names: tuple[str, str] = ("", ""),
    notes: Collection[str] = (),
) -> Section:
    return Section(name, len({*first, *second}), tuple(compare_values(first, second, names)), tuple(notes))


def _without(section: Section, ignore: Collection[str]) -> Section:
    """Return the section without the differences that do not count, and a note that says how many there were."""
    counting = tuple(
        difference
        for difference in section.differences
        if not any(fnmatchcase(f"{section.name}/{difference.subject}", pattern) for pattern in ignore)
    )
    left_out = len(section.differences) - len(counting)
    notes = (f"{left_out} left out, as {', '.join(ignore)}",) if left_out else ()
    return replace(section, differences=counting, notes=(*section.notes, *notes))


def _training_seconds(record: JobRecord) -> float | None:
    return record.billable_seconds


def _last(values: list[float] | None) -> Any:
    return None if values is None else {"last": values[-1], "count": len(values)}


def _first_change(first: list[float], second: list[float]) -> tuple[str, ...]:
    for number, pair in enumerate(zip_longest(first, second), 1):
        if pair[0] != pair[1]:
            return tuple(
                f"{sign}value {number}: {value!r}" for sign, value in zip("-+", pair, strict=True) if value is not None
            )
    return ()


def _message(error: Exception) -> str:
    return error.message if isinstance(error, LauncherError) else str(error)
