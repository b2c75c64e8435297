"""Lists of ten thousand jobs: from the index of the home, against reading every record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from measuring import Aim, Row, interleave

from launcher.aws.sagemaker import answer
from launcher.jobs.index import INDEX_FILE, list_entries
from launcher.jobs.kinds import PROCESSING_JOBS, TRAINING_JOBS, TRANSFORM_JOBS, TUNING_JOBS
from launcher.jobs.record import JobRecord
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import JobStore
from launcher.requests.training import check_training_request

_JOBS = 10_000
_KINDS = (TRAINING_JOBS, PROCESSING_JOBS, TRANSFORM_JOBS, TUNING_JOBS)
_ENDS = (Status.COMPLETED, Status.FAILED)
_FILTERS = {"StatusEquals": "Failed", "NameContains": "77", "SortBy": "Name", "MaxResults": 20}


def list_rows(scratch: Path, runs: int) -> list[Row]:
    """Return rows for a filtered page, for all jobs, for a home that has just changed, and for a new index."""
    home = scratch / "ten-thousand"
    store = JobStore(home)
    _write_records(store)
    for path in (home / INDEX_FILE, home / "index.lock"):
        path.unlink(missing_ok=True)
    made = _timed(lambda: list_entries(home, _KINDS))
    records = [_timed(store.records) for _ in range(min(runs, 3))]
    number = iter(range(1_000_000))

    def changed() -> None:
        (store.path / f"new-{next(number)}").mkdir()
        _page(home)

    times = interleave(
        {
            "page": lambda: _page(home),
            "all": lambda: list_entries(home, _KINDS),
            "operation": lambda: answer("ListTrainingJobs", _FILTERS, home),
            "changed": changed,
        },
        max(3, runs),
    )
    aim = (Aim("ours", 100),)
    floor = {"page": "20 failed jobs by name", "operation": "ListTrainingJobs, the same filters"}
    rows = [
        Row("lists", f"{title} of {_JOBS:,}, against all records", floor=records, ours=times[name], aims=aim)
        for name, title in floor.items()
    ]
    rows.append(Row("lists", "the same, a folder was just made", floor=records, ours=times["changed"], aims=aim))
    rows.append(Row("lists", "all of them", floor=records, ours=times["all"]))
    rows.append(Row("lists", "a new index", floor=records, ours=[made]))
    return rows


def _page(home: Path) -> None:
    listing = list_entries(home, _KINDS, statuses=["Failed"], name_contains="77", sort_by="name", limit=20)
    assert len(listing.entries) == 20


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _write_records(store: JobStore) -> None:
    """Write records of jobs that were never run, without the waiting for the disk of the real thing."""
    for number in range(_JOBS):
        name = f"job-{number:05d}"
        request = {
            "TrainingJobName": name,
            "RoleArn": "arn:aws:iam::000000000000:role/launcher",
            "OutputDataConfig": {"S3OutputPath": "s3://results/jobs"},
            "HyperParameters": {f"parameter_{index}": "0.001" for index in range(10)},
            "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        }
        status = _ENDS[number % 2]
        record = JobRecord(
            spec=check_training_request(request).to_dict(), request=request, created=1.7e9 + number,
            modified=1.7e9 + number, ended=1.7e9 + number, status=status, secondary_status=SecondaryStatus(status),
        )  # fmt: skip
        folder = store.folder(name)
        folder.path.mkdir(parents=True)
        folder.record_path.write_text(json.dumps(record.to_dict()), encoding="utf-8")
