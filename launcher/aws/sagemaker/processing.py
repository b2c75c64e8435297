"""Processing jobs: created, described, listed, stopped, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.sagemaker.documents import Document
from launcher.aws.sagemaker.records import Jobs, start_driver, with_s3
from launcher.jobs.kinds import PROCESSING_JOBS
from launcher.jobs.store import ProcessingStore
from launcher.processing_jobs.submission import submit_processing
from launcher.requests.processing import describe_processing, summarize_processing

_JOBS = Jobs(
    kind=PROCESSING_JOBS,
    noun="processing job",
    name_member="ProcessingJobName",
    status_member="ProcessingJobStatus",
    describe_record=lambda _, record: describe_processing(record),
    summarize=lambda _, record: summarize_processing(record),
    stopping={},
)
describe, stop, delete = _JOBS.describe, _JOBS.stop, _JOBS.delete


def create(document: Document, home: Path) -> dict[str, Any]:
    """Record a job and start its driver; nothing is downloaded before the answer."""
    store = ProcessingStore(home)
    name = submit_processing(with_s3(document), store, warnings=document.warnings).name
    start_driver(store, name)
    return {"ProcessingJobArn": PROCESSING_JOBS.arn(name)}


def list_jobs(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the jobs."""
    return _JOBS.page(document, home).answer("ProcessingJobSummaries")
