"""CreateProcessingJob: the document as boto3 takes it, checked, and turned into what the launcher runs and back."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from launcher.errors import BadInputError, SourceError
from launcher.jobs.processing_record import ProcessingRecord
from launcher.jobs.processing_spec import (
    BUNDLED_IMAGE,
    CODE_PATH,
    ENTRYPOINT_PATH,
    PROCESSING,
    ProcessingInput,
    ProcessingJobSpec,
    ProcessingOutput,
)
from launcher.jobs.record import utc
from launcher.jobs.spec import Channel
from launcher.jobs.states import Status
from launcher.requests.members import refuse_unsupported
from launcher.requests.models import is_local_uri
from launcher.requests.processing_members import PROCESSING_MEMBERS
from launcher.requests.shapes import OWN_MEMBER, operation_shape
from launcher.requests.tags import tag_pairs
from launcher.requests.training import (
    DEFAULT_MAX_RUN_SECONDS,
    LOCAL_INSTANCE_TYPES,
    check_encodable,
    request_uri,
    s3_member,
    s3_of,
)
from launcher.requests.validation import Exceptions, check
from launcher.settings import local_arn

OPERATION = "CreateProcessingJob"
EXCEPTIONS: Exceptions = {
    "S3Uri": is_local_uri,
    "ProcessingInstanceType": lambda value: value in LOCAL_INSTANCE_TYPES,
}


def check_processing_request(request: Mapping[str, Any]) -> ProcessingJobSpec:
    """Check a CreateProcessingJob document, and return the job that it asks for.

    Args:
        request: as boto3's ``create_processing_job(**request)`` takes it, with our own member ``Launcher`` or without.
    Raises:
        RequestError: a limit of the service model is broken; the message is AWS's.
        UnsupportedOptionError: a member asks for something that is not emulated.
        BadInputError: a rule that the service model does not hold is broken.
    """
    check(request, operation_shape(OPERATION), exceptions=EXCEPTIONS)
    check_encodable(request)
    refuse_unsupported(request, PROCESSING_MEMBERS)
    rest = copy.deepcopy(dict(request))
    application = rest.pop("AppSpecification")
    cluster = rest.pop("ProcessingResources")["ClusterConfig"]
    outputs = rest.pop("ProcessingOutputConfig", {})
    network, stopping = rest.pop("NetworkConfig", {}), rest.pop("StoppingCondition", {})
    own = rest.pop(OWN_MEMBER, {})
    image = application["ImageUri"]
    spec = ProcessingJobSpec(
        job_name=rest.pop("ProcessingJobName"),
        runtime=own.get("Runtime", "auto"),
        image_uri=None if image == BUNDLED_IMAGE else image,
        role=rest.pop("RoleArn"),
        inputs=_inputs(rest.pop("ProcessingInputs", [])),
        outputs=_outputs(outputs.pop("Outputs", [])),
        instance_type=cluster.pop("InstanceType", "local"),
        instance_count=cluster.pop("InstanceCount", 1),
        volume_size_gb=cluster.pop("VolumeSizeInGB"),
        environment=rest.pop("Environment", {}),
        max_run_seconds=stopping.pop("MaxRuntimeInSeconds", DEFAULT_MAX_RUN_SECONDS),
        container_entry_point=tuple(application.pop("ContainerEntrypoint", ())),
        container_arguments=tuple(application.pop("ContainerArguments", ())),
        enable_network_isolation=network.pop("EnableNetworkIsolation", False),
        tags=tag_pairs(rest.pop("Tags", [])),
        s3=s3_of(own.get("S3")),
        without_effect={
            **rest,
            **{
                name: members
                for name, members in (
                    ("ProcessingOutputConfig", outputs),
                    ("ClusterConfig", cluster),
                    ("NetworkConfig", network),
                )
                if members
            },
        },
    )
    _check_rules(spec)
    return spec


def processing_request(spec: ProcessingJobSpec) -> dict[str, Any]:
    """Return the document that asks for a job: the one it was made of, with AWS's defaults filled in."""
    request: dict[str, Any] = copy.deepcopy(dict(spec.without_effect))
    cluster = request.pop("ClusterConfig", {})
    application: dict[str, Any] = {"ImageUri": spec.image_uri or BUNDLED_IMAGE}
    if spec.container_entry_point:
        application["ContainerEntrypoint"] = list(spec.container_entry_point)
    if spec.container_arguments:
        application["ContainerArguments"] = list(spec.container_arguments)
    request |= {
        "ProcessingJobName": spec.job_name,
        "RoleArn": spec.role,
        "AppSpecification": application,
        "ProcessingResources": {
            "ClusterConfig": {
                **cluster,
                "InstanceType": spec.instance_type,
                "InstanceCount": spec.instance_count,
                "VolumeSizeInGB": spec.volume_size_gb,
            }
        },
        "Environment": dict(spec.environment),
        "StoppingCondition": {"MaxRuntimeInSeconds": spec.max_run_seconds},
        "Tags": [{"Key": key, "Value": value} for key, value in spec.tags],
    }
    request.setdefault("NetworkConfig", {})["EnableNetworkIsolation"] = spec.enable_network_isolation
    if spec.inputs:
        request["ProcessingInputs"] = [_input_member(given) for given in spec.inputs]
    if spec.outputs or "ProcessingOutputConfig" in request:
        request.setdefault("ProcessingOutputConfig", {})["Outputs"] = [
            {**output.asked, "OutputName": output.name, "AppManaged": output.app_managed} for output in spec.outputs
        ]
    own = {"Runtime": spec.runtime, "S3": None if spec.s3 is None else s3_member(spec.s3)}
    request[OWN_MEMBER] = {name: value for name, value in own.items() if value is not None}
    return request


def describe_processing(record: ProcessingRecord) -> dict[str, Any]:
    """Return a record in the shape of DescribeProcessingJob's answer: the request as it was accepted, and the state."""
    spec = record.processing_spec
    answer = processing_request(spec)
    for member in ("Tags", OWN_MEMBER):
        answer.pop(member)
    if record.request:  # its image may have given way to this machine's Python
        answer["AppSpecification"] = copy.deepcopy(record.request["AppSpecification"])
    answer |= {
        "ProcessingJobArn": local_arn("processing-job", spec.job_name),
        "ProcessingJobStatus": str(Status(record.status)),
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
    }
    for member, text in (("ExitMessage", record.exit_message), ("FailureReason", record.failure_reason)):
        if text:
            answer[member] = text
    for member, moment in (("ProcessingStartTime", record.started), ("ProcessingEndTime", record.ended)):
        if moment is not None:
            answer[member] = utc(moment)
    return answer


def summarize_processing(record: ProcessingRecord) -> dict[str, Any]:
    """Return a record in the shape of an entry of ListProcessingJobs."""
    name = str(record.spec["job_name"])
    return {
        "ProcessingJobName": name,
        "ProcessingJobArn": local_arn("processing-job", name),
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
        "ProcessingJobStatus": str(record.status),
        **({"ProcessingEndTime": utc(record.ended)} if record.ended is not None else {}),
        **({"FailureReason": record.failure_reason} if record.failure_reason else {}),
        **({"ExitMessage": record.exit_message} if record.exit_message else {}),
    }


def _inputs(members: list[dict[str, Any]]) -> tuple[ProcessingInput, ...]:
    inputs: dict[str, ProcessingInput] = {}
    for position, given in enumerate(members):
        place, member = f"ProcessingInputs[{position}]", copy.deepcopy(given)
        name, app_managed = member.pop("InputName"), member.pop("AppManaged", False)
        source = member.pop("S3Input", None)
        if source is None:
            raise BadInputError(f"{place} '{name}' names no data.", "Give S3Input with S3Uri and LocalPath.")
        _check_name(name, inputs, place, "input")
        inputs[name] = ProcessingInput(
            channel=Channel(
                name=name,
                uri=request_uri(source.pop("S3Uri"), f"{place}.S3Input.S3Uri"),
                s3_data_type=source.pop("S3DataType"),
                input_mode=source.pop("S3InputMode", "File"),
                distribution=source.pop("S3DataDistributionType", "FullyReplicated"),
                compression=source.pop("S3CompressionType", "None"),
            ),
            local_path=_local_path(source.pop("LocalPath", ""), f"{place}.S3Input.LocalPath", app_managed),
            app_managed=app_managed,
            without_effect=member,
        )
    return tuple(inputs.values())


def _input_member(given: ProcessingInput) -> dict[str, Any]:
    source = {
        "S3Uri": given.channel.uri,
        "S3DataType": given.channel.s3_data_type,
        "S3InputMode": given.channel.input_mode,
        "S3DataDistributionType": given.channel.distribution,
        "S3CompressionType": given.channel.compression,
    }
    if given.local_path:
        source["LocalPath"] = given.local_path
    return {
        **copy.deepcopy(dict(given.without_effect)),
        "InputName": given.channel.name,
        "AppManaged": given.app_managed,
        "S3Input": source,
    }


def _outputs(members: list[dict[str, Any]]) -> tuple[ProcessingOutput, ...]:
    outputs: dict[str, ProcessingOutput] = {}
    for position, member in enumerate(members):
        place = f"ProcessingOutputConfig.Outputs[{position}]"
        name, app_managed = member["OutputName"], member.get("AppManaged", False)
        target = member.get("S3Output")
        if target is None:
            raise BadInputError(f"{place} '{name}' names no place.", "Give S3Output with S3Uri and LocalPath.")
        _check_name(name, outputs, place, "output")
        outputs[name] = ProcessingOutput(
            name=name,
            uri=request_uri(target["S3Uri"], f"{place}.S3Output.S3Uri").rstrip("/"),
            local_path=_local_path(target.get("LocalPath", ""), f"{place}.S3Output.LocalPath", app_managed),
            continuous=target["S3UploadMode"] == "Continuous",
            app_managed=app_managed,
            asked=member,
        )
    return tuple(outputs.values())


def _check_name(name: str, others: Iterable[str], place: str, noun: str) -> None:
    if name in others:
        raise BadInputError(f"{place}: there are two {noun}s '{name}'.", f"Give each {noun} a name of its own.")
    if not name or name in (".", "..") or "/" in name or not name.isprintable():
        raise BadInputError(f"{place}: {name!r} cannot name an {noun}.", "Use letters, digits, '-' and '_'.")


def _local_path(path: str, member: str, app_managed: bool) -> str:
    """Return the path without a ``/`` at its end; SageMaker wants it below ``/opt/ml/processing``."""
    if app_managed and not path:
        return ""
    cleaned = str(PurePosixPath(path)) if path else ""
    if not cleaned.startswith(f"{PROCESSING}/") or ".." in path.split("/") or not path.isprintable():
        raise BadInputError(
            f"{member}={path!r} does not begin with {PROCESSING}/, or leaves it.", f"For example: {PROCESSING}/input"
        )
    return cleaned


def _check_mode(given: ProcessingInput, paths: Mapping[str, str]) -> None:
    """Refuse what an input cannot be at the same time.

    Args:
        paths: who has which LocalPath.
    Raises:
        BadInputError: the message names the input.
    """
    name, path = given.channel.name, given.local_path
    if given.channel.compression != "None" and not given.channel.is_stream:
        raise BadInputError(
            f"the input '{name}': {given.channel.compression} can only be used when Pipe mode is specified as the "
            "S3InputMode.",
            "Set S3InputMode to Pipe, or leave S3CompressionType out.",
        )
    if not given.channel.is_stream or given.app_managed:
        return
    if given.copied or str(PurePosixPath(path).parent) in (CODE_PATH, ENTRYPOINT_PATH):
        raise BadInputError(
            f"the input '{name}' is a stream, and {path} is the place of a program.", f"For example: {PROCESSING}/data"
        )
    for other_path, other in paths.items():
        stem, _, number = other_path.rpartition("_")
        if stem == path and number.isdecimal():
            raise BadInputError(
                f"'{other}' has the place of a pipe of the input '{name}', {other_path}.", "Rename one of the two."
            )
        if other_path.startswith(f"{path}/"):
            raise BadInputError(
                f"'{other}' lies inside the input '{name}', which is a stream and no folder: {other_path}.",
                "Give it a folder of its own.",
            )


def _check_rules(spec: ProcessingJobSpec) -> None:
    """Check what the service model does not say, and AWS, or a job, needs all the same."""
    if not (spec.image_uri or spec.container_entry_point):
        raise SourceError(
            f"the image {BUNDLED_IMAGE} has no program of its own for a processing job.",
            "Give AppSpecification.ContainerEntrypoint, or name an image of your own.",
        )
    if spec.image_uri is not None and not spec.image_uri.strip():
        raise BadInputError("AppSpecification.ImageUri names no image.", f"Name one, or {BUNDLED_IMAGE}.")
    paths: dict[str, str] = {}
    places = [(given.channel.name, given.local_path, given.app_managed) for given in spec.inputs]
    for name, path, app_managed in [*places, *((out.name, out.local_path, out.app_managed) for out in spec.outputs)]:
        if app_managed:
            continue
        if path in paths:
            raise BadInputError(
                f"'{paths[path]}' and '{name}' have the same LocalPath {path}.", "Give each a folder of its own."
            )
        paths[path] = name
    for given in spec.inputs:
        _check_mode(given, paths)
    programs = [given.local_path for given in spec.inputs if given.copied]
    for output in spec.outputs:
        if any(output.local_path.startswith(f"{path}/") for path in programs):
            raise BadInputError(
                f"the output '{output.name}' lies inside the program's own folder: {output.local_path}.",
                f"For example: {PROCESSING}/output",
            )
    for name, value in spec.environment.items():
        if not name or "\0" in value:
            raise BadInputError(
                f"Environment: the variable {name!r} has no name, or a NUL.", "Leave it out; no process can have it."
            )
