"""From a CreateProcessingJob document to a job: checked, planned, recorded. Nothing runs here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.channels.resolving import resolve_channels
from launcher.errors import OutputPathError
from launcher.jobs.folder import JobFolder
from launcher.jobs.processing_record import ProcessingRecord
from launcher.jobs.processing_spec import ProcessingJobSpec
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import Claim, ProcessingStore
from launcher.processing_jobs.plan import make_processing_plan
from launcher.requests.members import without_effect
from launcher.requests.processing import check_processing_request
from launcher.requests.processing_members import PROCESSING_MEMBERS
from launcher.running.accepting import AcceptedJob, place_job
from launcher.running.plan import RunPlan
from launcher.runtimes import Runtime
from launcher.storage import recorded_storage

AcceptedProcessing = AcceptedJob[ProcessingJobSpec]
"""A CreateProcessingJob document that was checked, with the decisions made when it is submitted."""


def accept_processing(request: Mapping[str, Any], runtime: Runtime | None = None) -> AcceptedProcessing:
    """Check a CreateProcessingJob document, and decide where it runs and which S3 it means; changes nothing.

    Args:
        request: as boto3's ``create_processing_job`` takes it, with the member ``Launcher`` or without.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
    Raises:
        BadInputError: it cannot be run as it was written.
    """
    spec = check_processing_request(request)
    uris = [*(given.channel.uri for given in spec.inputs), *(output.uri for output in spec.outputs)]
    placed, chosen, warnings = place_job(spec, uris, runtime)
    return AcceptedJob(request, placed, chosen, (*without_effect(request, PROCESSING_MEMBERS), *warnings))


def plan_processing(
    job: AcceptedProcessing, store: ProcessingStore, *, to_be_written: Mapping[str, Path] | None = None
) -> RunPlan:
    """Work out what would be done, and check that it could; writes nothing.

    Args:
        job: what was accepted.
        store: the home it would live in.
        to_be_written: URIs of inputs that the caller is about to write, and where their files lie now.
    Raises:
        BadInputError: something about the job cannot be done as it was asked for.
    """
    spec = job.spec
    store.check_writable()
    store.check_unused(spec.job_name)
    folder = store.folder(spec.job_name)
    written = to_be_written or {}
    inputs = tuple(
        replace(given, channel=replace(given.channel, uri=f"file://{written[given.channel.uri]}"))
        if given.channel.uri in written
        else given
        for given in spec.inputs
    )
    resolved = resolve_channels(replace(spec, inputs=inputs), folder.work_path / "channels", fetch=False)
    for output in spec.outputs:
        if output.app_managed:
            continue
        recorded_storage(output.uri, spec.s3).check_writable(output.uri)
        for name, source in resolved.sources.items():
            if output.uri.startswith("file://") and _path(output.uri).is_relative_to(source.path):
                raise OutputPathError(
                    f"the output '{output.name}', {output.uri}, lies inside the input '{name}'.",
                    "Write results somewhere else, or the job would read what it writes.",
                )
    plan = make_processing_plan(
        spec,
        home=store.home,
        job_path=folder.path,
        work_path=folder.work_path,
        channels=resolved.sources,
        channel_notes=resolved.notes,
        network_interface=job.runtime.interface_of(spec.instance_count),
    )
    for container in plan.containers:
        job.runtime.check(container)
    return replace(
        plan,
        image=job.runtime.describe_image(plan.containers[0]),
        submits=job.runtime.describe_start(plan.containers),
    )


def submit_processing(
    request: Mapping[str, Any],
    store: ProcessingStore,
    runtime: Runtime | None = None,
    *,
    warnings: Sequence[str] = (),
) -> JobFolder:
    """Check a CreateProcessingJob document and record it as a job: from here on it cannot be lost.

    Args:
        request: as boto3's ``create_processing_job`` takes it; its inputs are there.
        store: the home that the job lives in.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
        warnings: of the caller's, for the record.
    Raises:
        BadInputError: the job cannot be run; nothing has been recorded.
    """
    job = accept_processing(request, runtime)
    job = replace(job, warnings=(*warnings, *job.warnings))
    plan_processing(job, store)
    with store.claim(job.spec.job_name) as claim:
        return record_processing(job, claim)


def record_processing(job: AcceptedProcessing, claim: Claim[ProcessingRecord]) -> JobFolder:
    """Record a job that was planned, under a name that the caller holds."""
    now = time.time()
    record = ProcessingRecord(
        spec=job.spec.to_dict(), created=now, request=dict(job.request), warnings=list(job.warnings)
    )
    record.move(Status.IN_PROGRESS, SecondaryStatus.STARTING, "Starting the processing job", now)
    claim.record(record)
    return claim.folder


def _path(uri: str) -> Path:
    return Path(uri.removeprefix("file://")).resolve()
