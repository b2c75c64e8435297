"""From a CreateTransformJob document to a job: checked, planned, recorded. Nothing runs here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.errors import ChannelError, OutputPathError
from launcher.jobs.folder import JobFolder
from launcher.jobs.model_spec import ModelSpec
from launcher.jobs.store import ModelStore, TransformStore
from launcher.jobs.transform_record import TransformRecord
from launcher.jobs.transform_spec import TransformJobSpec
from launcher.requests.transform import check_transform_request
from launcher.runtimes import Runtime, choose_runtime
from launcher.secrets import masked
from launcher.serving.http_client import checked_header
from launcher.serving.model_host import HostPlan, check_model_data, plan_host
from launcher.settings import default_runtime
from launcher.storage import recorded_storage, s3_needed_for
from launcher.transform.inputs import InputObject, find_inputs, output_uri_of


@dataclass(frozen=True)
class AcceptedTransform:
    """A request that was checked, with what is decided when it is submitted.

    Attributes:
        request: the document as it was given.
        spec: what runs: the runtime and the S3 are decided.
        model: what answers.
        runtime: what runs it.
    """

    request: Mapping[str, Any]
    spec: TransformJobSpec
    model: ModelSpec
    runtime: Runtime


@dataclass(frozen=True)
class TransformPlan:
    """Everything that will be run, read and written.

    Attributes:
        objects: what is read, in order.
        hosts: a container each.
        image: what the containers are started from, as a person would name it.
    """

    spec: TransformJobSpec
    objects: tuple[InputObject, ...]
    hosts: tuple[HostPlan, ...]
    image: str

    def __str__(self) -> str:
        spec = self.spec
        lines = [
            f"transform  {spec.job_name}",
            f"model      {spec.model_name}",
            f"runtime    {spec.runtime}",
            f"image      {self.image}",
        ]
        for host in self.hosts:
            lines.append(f"host       {host.container.host}: serve")
            variables = masked(host.container.environment)
            lines += [f"  variable {name}={value}" for name, value in sorted(variables.items())]
        for source in self.objects[:10]:
            lines.append(f"reads      {source.uri}")
            lines.append(f"writes     {output_uri_of(spec, source.name)}")
        if len(self.objects) > 10:
            lines.append(f"           and {len(self.objects) - 10} more")
        return "\n".join(lines)


def accept_transform(
    request: Mapping[str, Any], models: ModelStore, runtime: Runtime | None = None
) -> AcceptedTransform:
    """Check a CreateTransformJob document, and decide where it runs and which S3 it means; changes nothing.

    Args:
        request: as boto3's ``create_transform_job`` takes it, with the member ``Launcher`` or without.
        models: the home's.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
    Raises:
        BadInputError: it cannot be run as it was written.
    """
    spec = check_transform_request(request)
    model = models.load(spec.model_name).model_spec
    for name, value in (("ContentType", spec.content_type), ("Accept", spec.accept)):
        checked_header(name, value or "")
    if runtime is None:
        name = default_runtime() if spec.runtime == "auto" else spec.runtime
        runtime = choose_runtime(name, image_uri=model.image_uri, subject="a transform job")
    if spec.s3 is None:
        spec = replace(spec, s3=s3_needed_for([spec.input_uri, spec.output_uri]))
    return AcceptedTransform(request, replace(spec, runtime=runtime.name), model, runtime)


def plan_transform(job: AcceptedTransform, store: TransformStore) -> TransformPlan:
    """Work out what would be done, and check that it could; writes nothing but a copy of a manifest.

    Raises:
        BadInputError: something about the job cannot be done as it was asked for.
    """
    spec = job.spec
    store.check_writable()
    store.check_unused(spec.job_name)
    check_model_data(job.model)
    folder = store.folder(spec.job_name)
    objects = find_inputs(spec, folder.work_path / "manifest")
    recorded_storage(spec.output_uri, spec.s3).check_writable(spec.output_uri)
    if not spec.resume:
        _check_outputs_apart(spec)
    hosts = host_plans(spec, job.model, folder, store.home, min(spec.instance_count, len(objects)))
    for host in hosts:
        job.runtime.check(host.container)
    return TransformPlan(spec, tuple(objects), hosts, job.runtime.describe_image(hosts[0].container))


def _check_outputs_apart(spec: TransformJobSpec) -> None:
    """Refuse an output path inside the input folder of this machine: the next job would read the results as data."""
    given, output = spec.input_uri, spec.output_uri
    if not (given.startswith("file://") and output.startswith("file://")):
        return
    source, target = Path(given.removeprefix("file://")), Path(output.removeprefix("file://"))
    if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
        raise OutputPathError(
            f"the output path {output} lies inside the input {given}.",
            "Write results somewhere else, or the next job would read them as data.",
        )


def host_plans(
    spec: TransformJobSpec, model: ModelSpec, folder: JobFolder, home: Path, count: int
) -> tuple[HostPlan, ...]:
    """Return the containers of a job; pure.

    Args:
        count: how many; an instance without objects would only idle.
    """
    names = [f"algo-{number}" for number in range(1, count + 1)]
    return tuple(
        plan_host(
            model,
            folder,
            home=home,
            kind=TransformStore(home).kind.folder,
            host=name,
            environment=batch_variables(spec),
            # Without a way out they share a network, because each would get the first address of its own.
            hosts=names if model.enable_network_isolation else (),
        )
        for name in names
    )


def batch_variables(spec: TransformJobSpec) -> dict[str, str]:
    """Return the variables by which a container knows that it serves a transform job; a limit only if it was asked."""
    variables = {"SAGEMAKER_BATCH": "true"}
    if spec.max_payload_mb is not None:
        variables["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(spec.max_payload_mb)
    if spec.batch_strategy is not None:
        single = spec.batch_strategy == "SingleRecord"
        variables["SAGEMAKER_BATCH_STRATEGY"] = "SINGLE_RECORD" if single else "MULTI_RECORD"
    if spec.max_concurrent_transforms:
        variables["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(spec.max_concurrent_transforms)
    return {**variables, **spec.environment}


def submit_transform(
    request: Mapping[str, Any],
    store: TransformStore,
    models: ModelStore,
    runtime: Runtime | None = None,
    *,
    warnings: Sequence[str] = (),
) -> JobFolder:
    """Check a CreateTransformJob document and record it as a job: from here on it cannot be lost.

    Args:
        warnings: of the caller's, for the record.
    Raises:
        BadInputError: the job cannot be run; nothing has been recorded.
    """
    job = accept_transform(request, models, runtime)
    try:
        plan_transform(job, store)
    except ChannelError as error:
        raise ChannelError(f"transform job '{job.spec.job_name}': {error.message}", error.hint) from error
    record = TransformRecord(
        spec=job.spec.to_dict(),
        created=time.time(),
        request=dict(job.request),
        warnings=list(warnings),
        model=job.model.to_dict(),
    )
    return store.create(job.spec.job_name, record)
