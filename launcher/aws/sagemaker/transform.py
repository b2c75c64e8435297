"""Transform jobs: created, described, listed, stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.sagemaker.documents import Document
from launcher.aws.sagemaker.records import Jobs, start_driver, with_s3
from launcher.jobs.kinds import TRANSFORM_JOBS
from launcher.jobs.store import ModelStore, TransformStore
from launcher.requests.transform import describe_transform, summarize_transform
from launcher.transform.submission import submit_transform

_JOBS = Jobs(
    kind=TRANSFORM_JOBS,
    noun="transform job",
    name_member="TransformJobName",
    status_member="TransformJobStatus",
    describe_record=lambda _, record: describe_transform(record),
    summarize=lambda _, record: summarize_transform(record),
    stopping={},
)
describe, stop = _JOBS.describe, _JOBS.stop


def create(document: Document, home: Path) -> dict[str, Any]:
    """Record a job and start its driver."""
    store = TransformStore(home)
    name = submit_transform(with_s3(document), store, ModelStore(home), warnings=document.warnings).name
    start_driver(store, name)
    return {"TransformJobArn": TRANSFORM_JOBS.arn(name)}


def list_jobs(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the jobs."""
    return _JOBS.page(document, home).answer("TransformJobSummaries")
