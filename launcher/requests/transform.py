"""CreateTransformJob: the document as boto3 takes it, checked, and turned into what the launcher runs and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from launcher.errors import BadInputError, RequestError
from launcher.jobs.record import utc
from launcher.jobs.states import Status
from launcher.jobs.transform_record import TransformRecord
from launcher.jobs.transform_spec import DEFAULT_RETRIES, DEFAULT_TIMEOUT_SECONDS, TransformJobSpec
from launcher.requests import json_path
from launcher.requests.members import refuse_unsupported
from launcher.requests.models import is_local_uri
from launcher.requests.serving_members import TRANSFORM_MEMBERS
from launcher.requests.shapes import OWN_MEMBER, operation_shape
from launcher.requests.tags import tag_pairs
from launcher.requests.training import LOCAL_INSTANCE_TYPES, check_encodable, request_uri, s3_member, s3_of
from launcher.requests.validation import Exceptions, check
from launcher.settings import local_arn

OPERATION = "CreateTransformJob"
MAX_PAYLOAD_MB = 100
"""SageMaker's limit of MaxPayloadInMB, and of its product with MaxConcurrentTransforms."""

CSV_TYPES = frozenset({"text/csv"})
JSON_TYPES = frozenset({"application/json", "application/jsonlines"})
EXCEPTIONS: Exceptions = {
    "S3Uri": is_local_uri,
    "TransformInstanceType": lambda value: value in LOCAL_INSTANCE_TYPES,
}


def check_transform_request(request: Mapping[str, Any]) -> TransformJobSpec:
    """Check a CreateTransformJob document, and return the job that it asks for.

    Args:
        request: as boto3's ``create_transform_job(**request)`` takes it, with our own member ``Launcher`` or without.
    Raises:
        RequestError: a limit of the service model is broken; the message is AWS's.
        UnsupportedOptionError: a member asks for something that is not emulated.
        BadInputError: a rule that the service model does not hold is broken.
    """
    check(request, operation_shape(OPERATION), exceptions=EXCEPTIONS)
    check_encodable(request)
    refuse_unsupported(request, TRANSFORM_MEMBERS)
    rest = copy.deepcopy(dict(request))
    given, output = rest["TransformInput"], rest["TransformOutput"]
    source = given["DataSource"].pop("S3DataSource")
    if not given["DataSource"]:
        del given["DataSource"]
    resources = rest.pop("TransformResources")
    client, processing = rest.pop("ModelClientConfig", {}), rest.pop("DataProcessing", {})
    own = rest.pop(OWN_MEMBER, {})
    spec = TransformJobSpec(
        job_name=rest.pop("TransformJobName"),
        model_name=rest.pop("ModelName"),
        runtime=own.get("Runtime", "auto"),
        input_uri=request_uri(source.pop("S3Uri"), "TransformInput.DataSource.S3DataSource.S3Uri"),
        s3_data_type=source.pop("S3DataType"),
        content_type=given.pop("ContentType", None),
        compression=given.pop("CompressionType", "None"),
        split_type=given.pop("SplitType", "None"),
        output_uri=request_uri(output.pop("S3OutputPath"), "TransformOutput.S3OutputPath"),
        accept=output.pop("Accept", None),
        assemble_with=output.pop("AssembleWith", "None"),
        instance_type=resources.pop("InstanceType"),
        instance_count=resources.pop("InstanceCount"),
        max_concurrent_transforms=rest.pop("MaxConcurrentTransforms", None),
        max_payload_mb=rest.pop("MaxPayloadInMB", None),
        batch_strategy=rest.pop("BatchStrategy", None),
        invocations_timeout_seconds=client.pop("InvocationsTimeoutInSeconds", DEFAULT_TIMEOUT_SECONDS),
        invocations_max_retries=client.pop("InvocationsMaxRetries", DEFAULT_RETRIES),
        environment=rest.pop("Environment", {}),
        input_filter=processing.pop("InputFilter", "$"),
        output_filter=processing.pop("OutputFilter", "$"),
        join_source=processing.pop("JoinSource", "None"),
        tags=tag_pairs(rest.pop("Tags", [])),
        resume=own.get("Resume", False),
        s3=s3_of(own.get("S3")),
        without_effect={
            **{name: value for name, value in rest.items() if not name.startswith("Transform")},
            **{
                name: members
                for name, members in (
                    ("TransformInput", given),
                    ("TransformOutput", output),
                    ("TransformResources", resources),
                )
                if members
            },
        },
    )
    _check_rules(spec)
    return spec


def transform_request(spec: TransformJobSpec) -> dict[str, Any]:
    """Return the document that asks for a job: the one it was made of, with AWS's defaults filled in."""
    request: dict[str, Any] = copy.deepcopy(dict(spec.without_effect))
    given = request.setdefault("TransformInput", {})
    given.setdefault("DataSource", {})["S3DataSource"] = {"S3DataType": spec.s3_data_type, "S3Uri": spec.input_uri}
    given |= {"CompressionType": spec.compression, "SplitType": spec.split_type}
    output = request.setdefault("TransformOutput", {})
    output |= {"S3OutputPath": spec.output_uri, "AssembleWith": spec.assemble_with}
    output.setdefault("KmsKeyId", "")
    request.setdefault("TransformResources", {}).update(
        InstanceType=spec.instance_type, InstanceCount=spec.instance_count
    )
    request |= {
        "TransformJobName": spec.job_name,
        "ModelName": spec.model_name,
        "ModelClientConfig": {
            "InvocationsTimeoutInSeconds": spec.invocations_timeout_seconds,
            "InvocationsMaxRetries": spec.invocations_max_retries,
        },
        "Environment": dict(spec.environment),
        "DataProcessing": {
            "InputFilter": spec.input_filter,
            "OutputFilter": spec.output_filter,
            "JoinSource": spec.join_source,
        },
        "Tags": [{"Key": key, "Value": value} for key, value in spec.tags],
    }
    for holder, name, value in (
        (given, "ContentType", spec.content_type),
        (output, "Accept", spec.accept),
        (request, "MaxConcurrentTransforms", spec.max_concurrent_transforms),
        (request, "MaxPayloadInMB", spec.max_payload_mb),
        (request, "BatchStrategy", spec.batch_strategy),
    ):
        if value is not None:
            holder[name] = value
    own = {
        "Runtime": spec.runtime,
        "S3": None if spec.s3 is None else s3_member(spec.s3),
        "Resume": spec.resume or None,
    }
    request[OWN_MEMBER] = {name: value for name, value in own.items() if value is not None}
    return request


def describe_transform(record: TransformRecord) -> dict[str, Any]:
    """Return a record in the shape of DescribeTransformJob's answer: the request as it was accepted, and the state."""
    spec = record.transform_spec
    answer = transform_request(spec)
    for member in ("Tags", OWN_MEMBER):
        answer.pop(member, None)
    answer |= {
        "TransformJobArn": local_arn("transform-job", spec.job_name),
        "TransformJobStatus": str(Status(record.status)),
        "CreationTime": utc(record.created),
    }
    if record.failure_reason:
        answer["FailureReason"] = record.failure_reason
    if record.started is not None:
        answer["TransformStartTime"] = utc(record.started)
    if record.ended is not None:
        answer["TransformEndTime"] = utc(record.ended)
    return answer


def summarize_transform(record: TransformRecord) -> dict[str, Any]:
    """Return a record in the shape of an entry of ListTransformJobs."""
    name = str(record.spec["job_name"])
    return {
        "TransformJobName": name,
        "TransformJobArn": local_arn("transform-job", name),
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
        "TransformJobStatus": str(record.status),
        **({"TransformEndTime": utc(record.ended)} if record.ended is not None else {}),
        **({"FailureReason": record.failure_reason} if record.failure_reason else {}),
    }


def media_type(content_type: str | None) -> str:
    """Return a content type without its parameters, such as ``text/csv`` of ``text/csv; charset=utf-8``."""
    return (content_type or "").partition(";")[0].strip().lower()


def _check_rules(spec: TransformJobSpec) -> None:
    """Check what the service model does not say, and AWS, or a job, needs all the same."""
    payload, concurrency = spec.max_payload_mb, spec.max_concurrent_transforms
    if payload is not None and payload > MAX_PAYLOAD_MB:
        raise RequestError(
            f"MaxPayloadInMB={payload} is more than {MAX_PAYLOAD_MB}.",
            f"Give 1 to {MAX_PAYLOAD_MB}, or 0 for no limit.",
            members=("MaxPayloadInMB",),
        )
    if payload and concurrency and payload * concurrency > MAX_PAYLOAD_MB:
        raise RequestError(
            f"MaxPayloadInMB={payload} times MaxConcurrentTransforms={concurrency} is {payload * concurrency}, "
            f"more than {MAX_PAYLOAD_MB}.",
            "Make one of them smaller.",
            members=("MaxPayloadInMB", "MaxConcurrentTransforms"),
        )
    if payload == 0 and spec.processes_data and spec.batch_strategy != "SingleRecord":
        raise RequestError(
            "MaxPayloadInMB=0 sends each object as one stream, which DataProcessing cannot filter or join.",
            "Give a limit, or BatchStrategy=SingleRecord.",
            members=("MaxPayloadInMB",),
        )
    json_path.parse(spec.input_filter)
    json_path.parse(spec.output_filter)
    if spec.processes_data:
        _check_data_processing(spec)
    for name, value in spec.environment.items():
        if not name or "\0" in value:
            raise BadInputError(
                f"Environment: the variable {name!r} has no name, or a NUL.", "Leave it out; no process can have it."
            )


def _check_data_processing(spec: TransformJobSpec) -> None:
    """Check what SageMaker wants of a job that filters or joins records: it has to read them."""
    kind = media_type(spec.content_type)
    if kind not in CSV_TYPES | JSON_TYPES:
        raise BadInputError(
            f"DataProcessing needs to read the records, and ContentType is {spec.content_type!r}.",
            "Give text/csv, application/jsonlines or application/json.",
        )
    if spec.combines and media_type(spec.accept) != kind:
        raise BadInputError(
            f"DataProcessing joins or filters answers, and Accept is {spec.accept!r} where ContentType is "
            f"{spec.content_type!r}.",
            "Give Accept the same type as ContentType.",
        )
    if spec.split_type not in ("None", "Line"):
        raise BadInputError(f"DataProcessing reads CSV and JSON, and SplitType is {spec.split_type}.", "Use Line.")
    if kind != "application/json" and (spec.split_type, spec.assemble_with) != ("Line", "Line"):
        raise BadInputError(
            f"DataProcessing of {kind} needs SplitType=Line and AssembleWith=Line; they are {spec.split_type} and "
            f"{spec.assemble_with}.",
            "Set both to Line.",
        )
    if kind == "application/json" and spec.split_type != spec.assemble_with:
        raise BadInputError(
            f"DataProcessing needs SplitType and AssembleWith to be the same; they are {spec.split_type} and "
            f"{spec.assemble_with}.",
            "Set both to Line, or leave both out.",
        )
