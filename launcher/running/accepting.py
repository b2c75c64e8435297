"""From a CreateTrainingJob document to a job that is recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from launcher.channels.resolving import ResolvedChannels, host_names, resolve_channels
from launcher.errors import (
    BadInputError,
    ChannelError,
    OutputPathError,
    RuntimeUnavailableError,
    SourceError,
    StorageError,
)
from launcher.jobs.clock import clock_mark
from launcher.jobs.faults import faults_of
from launcher.jobs.folder import JobFolder
from launcher.jobs.interruptions import check_plan
from launcher.jobs.processing_spec import HostsSpec, ProcessingJobSpec
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import CheckpointConfig, TrainingJobSpec, job_keys
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import Claim, JobStore
from launcher.requests.distribution import check_distribution
from launcher.requests.members import without_effect
from launcher.requests.training import check_training_request
from launcher.running.debugging import check_debugging
from launcher.running.limits import JobLimits, job_limits, pending_limit
from launcher.running.plan import RunPlan, make_plan
from launcher.runtimes import TRAINING_JOB, Runtime, choose_runtime
from launcher.runtimes.images import image_note, is_bundled, local_image
from launcher.settings import S3Settings, aws_names, default_runtime, planned_faults, spot_interruptions, spot_price
from launcher.storage import recorded_storage, s3_needed_for

_Spec = TypeVar("_Spec", TrainingJobSpec, ProcessingJobSpec)


@dataclass(frozen=True)
class AcceptedJob(Generic[_Spec]):
    """A request that was checked, with the decisions made when it is submitted.

    Attributes:
        request: the document as it was given.
        spec: the job, with its runtime and its S3 decided.
        runtime: what runs it.
        warnings: for the user, before it runs.
    """

    request: Mapping[str, Any]
    spec: _Spec
    runtime: Runtime
    warnings: tuple[str, ...] = ()


def accept(request: Mapping[str, Any], runtime: Runtime | None = None) -> AcceptedJob[TrainingJobSpec]:
    """Check a CreateTrainingJob document, and decide where it runs and which S3 it means; changes nothing.

    Args:
        request: as boto3's ``create_training_job`` takes it, with the member ``Launcher`` or without.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
    Raises:
        BadInputError: it cannot be run as it was written.
    """
    spec = check_training_request(request)
    uris = [spec.output_uri, spec.source_uri or "", *(channel.uri for channel in spec.channels)]
    uris.append(spec.checkpoint_config.s3_uri if spec.checkpoint_config else "")
    placed, runtime, warnings = place_job(spec, uris, runtime)
    if placed.debug:
        check_debugging(placed, runtime)
    if is_bundled(local_image(placed.image_uri)):
        check_distribution(placed)
    placed, notes = _with_times(placed)
    placed = _with_faults(placed)
    return AcceptedJob(request, placed, runtime, (*without_effect(request), *notes, *warnings))


def _with_faults(spec: TrainingJobSpec) -> TrainingJobSpec:
    """Decide which faults happen to a job on purpose.

    Raises:
        BadInputError: the plan cannot be read, or names a host that the job has not.
    """
    plan, place = (planned_faults(), "LAUNCHER_FAULTS") if spec.faults is None else (spec.faults, "faults")
    try:
        faults_of(plan, host_names(spec))
    except BadInputError as error:
        raise BadInputError(f"{place}: {error.message}", error.hint) from error
    return replace(spec, faults=plan) if plan else spec


def _with_times(spec: TrainingJobSpec) -> tuple[TrainingJobSpec, list[str]]:
    """Decide when a spot job is interrupted; return the job, and warnings for the user."""
    warnings = []
    if spec.max_pending_seconds and not pending_limit(spec):
        warnings.append(
            f"StoppingCondition.MaxPendingTimeInSeconds={spec.max_pending_seconds} has no effect here: as on AWS, it "
            f"counts for instance types with GPUs, and {spec.instance_type} has none"
        )
    if spec.spot is None:
        return spec, warnings
    plan = spec.spot.interruptions
    if plan is None:
        plan = spot_interruptions()
        check_plan(plan, "LAUNCHER_SPOT_INTERRUPTIONS")
    if plan and spec.checkpoint_config is None:
        warnings.append("each interruption begins the job anew: it has no checkpoint_s3_uri")
    return replace(spec, spot=replace(spec.spot, interruptions=plan, price=spot_price())), warnings


def place_job(
    spec: _Spec, uris: Sequence[str], runtime: Runtime | None = None
) -> tuple[_Spec, Runtime, tuple[str, ...]]:
    """Decide where a checked job runs and which S3 it means; changes nothing.

    Args:
        spec: the job.
        uris: all that it reads and writes.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
    Returns:
        The job as it will run, what runs it, and warnings for the user.
    """
    if runtime is None:
        name = default_runtime() if spec.runtime == "auto" else spec.runtime
        subject = TRAINING_JOB if isinstance(spec, TrainingJobSpec) else "a processing job"
        runtime = choose_runtime(name, image_uri=spec.image_uri, subject=subject)
    warnings: list[str] = [line] if (line := image_note(spec.image_uri)) else []
    if not runtime.runs_images and spec.image_uri is not None and spec.brings_code:
        warnings.append(
            f"the image {spec.image_uri} is not used: the {runtime.name.partition('+')[0]} runtime runs the request's "
            "own code"
        )
        spec = replace(spec, image_uri=None)
    manifests = any(channel.s3_data_type != "S3Prefix" for channel in spec.channels)  # which may name s3://
    if spec.s3 is None:
        spec = replace(spec, s3=s3_needed_for([*uris, "s3://"] if manifests else uris))
    elif spec.s3["kind"] != "embedded" and aws_names():
        warnings.append("LAUNCHER_AWS_NAMES=local has no effect on a job whose S3 is not the embedded one")
    streamed = next((channel.name for channel in spec.channels if channel.is_stream), "")
    if streamed and runtime.no_streams:
        raise RuntimeUnavailableError(
            f"the {runtime.name} runtime cannot stream the channel '{streamed}': {runtime.no_streams}.",
            "Use the input mode File or FastFile.",
        )
    allowed: JobLimits = job_limits(spec, runtime)
    warnings += [*allowed.warnings, *_channel_warnings(spec)]
    if isinstance(spec, TrainingJobSpec) and spec.keep_alive_seconds and (spec.debug or runtime.no_warm_pools):
        why = "a job that waits for a debugger starts by itself" if spec.debug else runtime.no_warm_pools
        warnings.append(f"KeepAlivePeriodInSeconds keeps no warm pool here: {why}")
    return replace(spec, limits=allowed.limits, runtime=runtime.name), runtime, tuple(warnings)


def _channel_warnings(spec: HostsSpec) -> list[str]:
    """Name the channels that are read another way than they were asked for."""
    if spec.s3 is None or spec.s3["kind"] == "embedded":
        return []
    place = S3Settings.from_dict(dict(spec.s3)).place
    return [
        f"channel '{channel.name}': {channel.input_mode} downloads all objects from {place} before the job starts, "
        "through the cache"
        for channel in spec.channels
        if channel.input_mode != "File" and channel.uri.startswith("s3://")
    ]


def plan_job(
    job: AcceptedJob[TrainingJobSpec], store: JobStore, *, source_members: Sequence[str] | None = None
) -> RunPlan:
    """Work out what ``drive`` would do, and check that it could; writes nothing.

    Args:
        job: what was accepted.
        store: the home it would live in.
        source_members: the names in a source archive that the caller is about to upload; None: it is uploaded.
    Raises:
        BadInputError: something about the job cannot be done as it was asked for.
    """
    spec = job.spec
    store.check_writable()
    store.check_unused(spec.job_name)
    folder = store.folder(spec.job_name)
    keys = job_keys(spec)
    # A source in the folder of a job without a record was left by a submission that was killed.
    to_be_written = [] if source_members is None or _lies_within(keys.source, str(folder.path)) else [keys.source]
    resolved = resolve_channels(spec, folder.work_path / "channels", fetch=False)
    places = _channel_places(spec, resolved)
    for uri in (keys.output, keys.model, *to_be_written):
        storage = recorded_storage(uri, spec.s3)
        if storage.exists(uri):
            raise OutputPathError(
                f"{uri} is there already, from another job named '{spec.job_name}'.", "Choose another job name."
            )
        storage.check_writable(uri.rpartition("/")[0])
    if source_members is None and spec.source_uri is not None:
        _check_source_archive(spec, spec.source_uri)
    for channel in spec.channels:
        if any(_lies_within(spec.output_uri, path) for path in places[channel.name]):
            raise OutputPathError(
                f"the output path {spec.output_uri} lies inside channel '{channel.name}' ({channel.uri}).",
                "Write results somewhere else, or the job would read what it writes.",
            )
    if spec.checkpoint_config is not None:
        _check_checkpoint_place(spec, spec.checkpoint_config, places, folder)
    plan = make_plan(
        spec,
        home=store.home,
        job_path=folder.path,
        work_path=folder.work_path,
        channels=resolved.sources,
        channel_notes=resolved.notes,
        source_members=source_members or (),
        network_interface=job.runtime.interface_of(len(host_names(spec))),
    )
    for container in plan.containers:
        job.runtime.check(container)
    for fault in plan.faults:
        container = next(container for container in plan.containers if container.host == fault.host)
        if reason := job.runtime.refused_faults(container).get(fault.kind):
            raise RuntimeUnavailableError(
                f"the fault '{fault.kind}' cannot be caused on the {job.runtime.name} runtime: {reason}.",
                "Use another fault, or another runtime.",
            )
    return replace(
        plan,
        image=job.runtime.describe_image(plan.containers[0]),
        submits=job.runtime.describe_start(plan.containers),
    )


def submit(
    request: Mapping[str, Any], store: JobStore, runtime: Runtime | None = None, *, warnings: Sequence[str] = ()
) -> JobFolder:
    """Check a CreateTrainingJob document and record it as a job: from here on it cannot be lost.

    Args:
        request: as boto3's ``create_training_job`` takes it; its source archive, if it names one, is there.
        store: the home that the job lives in.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
        warnings: of the caller's, for the record.
    Raises:
        BadInputError: the job cannot be run; nothing has been recorded.
    """
    job = accept(request, runtime)
    job = replace(job, warnings=(*warnings, *job.warnings))
    plan_job(job, store)
    with store.claim(job.spec.job_name) as claim:
        return record_job(job, claim)


def record_job(job: AcceptedJob[TrainingJobSpec], claim: Claim[JobRecord], origin: str = "") -> JobFolder:
    """Record a job that was planned, under a name that the caller holds.

    Args:
        origin: what tells the submission apart that came from another machine; empty for this one.
    """
    now = time.time()
    record = JobRecord(spec=job.spec.to_dict(), created=now, request=dict(job.request), warnings=list(job.warnings))
    record.origin = origin
    record.marks["submitted"] = clock_mark()
    record.move(Status.IN_PROGRESS, SecondaryStatus.STARTING, "Starting the training job", now)
    claim.record(record)
    return claim.folder


def _check_source_archive(spec: TrainingJobSpec, uri: str) -> None:
    try:
        _, is_file = recorded_storage(uri, spec.s3).locate(uri, Path(os.devnull))
    except (ChannelError, StorageError) as error:
        raise SourceError(f"the source of job '{spec.job_name}': {error.message}", error.hint) from error
    if not is_file:
        raise SourceError(
            f"the source of job '{spec.job_name}', {uri}, is no archive.",
            "Name the one sourcedir.tar.gz in the hyperparameter sagemaker_submit_directory.",
        )


def _check_checkpoint_place(
    spec: TrainingJobSpec, config: CheckpointConfig, places: Mapping[str, Sequence[str]], folder: JobFolder
) -> None:
    """Refuse a place for checkpoints that cannot be read or written, or that overlaps another place of the job.

    Raises:
        BadInputError: it does.
    """
    uri, storage = config.s3_uri, recorded_storage(config.s3_uri, spec.s3)
    try:
        storage.check_writable(uri)
        storage.files_below(uri)
    except (ChannelError, OutputPathError) as error:
        raise type(error)(f"checkpoint_s3_uri={uri}: {error.message}", error.hint) from error
    for channel in spec.channels:
        # A channel in S3 is every key that begins with its URI.
        in_s3 = channel.uri.startswith("s3://") and f"{uri}/".startswith(channel.uri)
        if in_s3 or any(_lies_within(uri, path) for path in places[channel.name]):
            raise OutputPathError(
                f"checkpoint_s3_uri={uri} lies inside channel '{channel.name}' ({channel.uri}).",
                "Keep checkpoints somewhere else, or jobs would read them as data.",
            )
    for place in (job_keys(spec).model, spec.source_uri or "", f"file://{folder.path}"):
        if place.startswith(f"{uri}/"):
            raise OutputPathError(
                f"checkpoint_s3_uri={uri} contains {place}, which is no checkpoint and would be restored as one.",
                "Give checkpoints a folder of their own.",
            )


def _channel_places(spec: TrainingJobSpec, resolved: ResolvedChannels) -> dict[str, list[str]]:
    """Return the folders and files that each channel is read from."""
    places: dict[str, list[str]] = {}
    for channel in spec.channels:
        own = [str(source.path) for name, source in resolved.sources.items() if name.rpartition("/")[2] == channel.name]
        places[channel.name] = [*own, *([channel.uri.removeprefix("file://")] if channel.uri[:7] == "file://" else [])]
    return places


def _lies_within(uri: str, path: str) -> bool:
    return uri.startswith("file://") and Path(uri.removeprefix("file://")).resolve().is_relative_to(path)
