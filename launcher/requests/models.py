"""CreateModel: the document as boto3 takes it, checked, and turned into a model and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from launcher.errors import BadInputError, RequestError, UnsupportedOptionError
from launcher.jobs.model_record import ModelRecord
from launcher.jobs.model_spec import ModelForm, ModelSpec
from launcher.jobs.record import utc
from launcher.requests.members import refuse_unsupported
from launcher.requests.serving_members import MODEL_MEMBERS
from launcher.requests.shapes import OWN_MEMBER, operation_shape
from launcher.requests.tags import tag_pairs
from launcher.requests.training import check_encodable, request_uri, s3_member, s3_of
from launcher.requests.validation import Exceptions, check
from launcher.settings import LOCAL_ROLE_ARN, local_arn

OPERATION = "CreateModel"


def is_local_uri(value: str) -> bool:
    """Return whether a URI names a folder of this machine, which AWS refuses and this machine takes."""
    return value.startswith("file://") and len(value) <= 4096


EXCEPTIONS: Exceptions = {"Url": is_local_uri, "S3ModelUri": is_local_uri}


def check_model_request(request: Mapping[str, Any]) -> ModelSpec:
    """Check a CreateModel document, and return the model that it describes.

    Args:
        request: as boto3's ``create_model(**request)`` takes it, with our own member ``Launcher`` or without.
    Raises:
        RequestError: a limit of the service model is broken; the message is AWS's.
        UnsupportedOptionError: a member asks for something that is not emulated.
        BadInputError: a rule that the service model does not hold is broken.
    """
    check(request, operation_shape(OPERATION), exceptions=EXCEPTIONS)
    check_encodable(request)
    refuse_unsupported(request, MODEL_MEMBERS)
    rest = copy.deepcopy(dict(request))
    primary, listed = rest.pop("PrimaryContainer", None), rest.pop("Containers", [])
    if primary is not None and listed:
        raise RequestError(
            "both PrimaryContainer and Containers are given.", "Give one of them.", members=("PrimaryContainer",)
        )
    if len(listed) > 1:
        raise UnsupportedOptionError(
            f"Containers: an inference pipeline of {len(listed)} containers is not emulated.",
            "Give one container, in PrimaryContainer.",
        )
    if primary is None and not listed:
        raise RequestError(
            "the model has no container.",
            "Give PrimaryContainer; without Image it is the bundled image.",
            members=("PrimaryContainer",),
        )
    container: dict[str, Any] = listed[0] if listed else primary
    place = "Containers[0]" if listed else "PrimaryContainer"
    uri, form = _model_data(container, place)
    own = rest.pop(OWN_MEMBER, {})
    environment = container.pop("Environment", {})
    _check_environment(environment, place)
    return ModelSpec(
        model_name=rest.pop("ModelName"),
        image_uri=container.pop("Image", None),
        model_uri=uri,
        model_form=form,
        environment=environment,
        role=rest.pop("ExecutionRoleArn", ""),
        container_hostname=container.pop("ContainerHostname", None),
        enable_network_isolation=rest.pop("EnableNetworkIsolation", False),
        tags=tag_pairs(rest.pop("Tags", [])),
        in_list=bool(listed),
        s3=s3_of(own.get("S3")),
        without_effect=rest,
        container_without_effect=container,
    )


def model_request(spec: ModelSpec) -> dict[str, Any]:
    """Return the document that describes a model: the one it was made of, with defaults filled in."""
    request: dict[str, Any] = copy.deepcopy(dict(spec.without_effect))
    container: dict[str, Any] = copy.deepcopy(dict(spec.container_without_effect))
    container["Environment"] = dict(spec.environment)
    container.setdefault("Mode", "SingleModel")
    for name, value in (("Image", spec.image_uri), ("ContainerHostname", spec.container_hostname)):
        if value is not None:
            container[name] = value
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    if source is not None:
        source["S3Uri"] = spec.model_uri
    elif spec.model_uri is not None:
        container["ModelDataUrl"] = spec.model_uri
    request |= {
        "ModelName": spec.model_name,
        "EnableNetworkIsolation": spec.enable_network_isolation,
        "Tags": [{"Key": key, "Value": value} for key, value in spec.tags],
    }
    request |= {"Containers": [container]} if spec.in_list else {"PrimaryContainer": container}
    if spec.role:
        request["ExecutionRoleArn"] = spec.role
    if spec.s3 is not None:
        request[OWN_MEMBER] = {"S3": s3_member(spec.s3)}
    return request


def describe_model(record: ModelRecord) -> dict[str, Any]:
    """Return a record in the shape of DescribeModel's answer."""
    spec = record.model_spec
    answer = model_request(spec)
    for member in ("Tags", OWN_MEMBER):
        answer.pop(member, None)
    return {
        **answer,
        "ExecutionRoleArn": spec.role or LOCAL_ROLE_ARN,
        "ModelArn": local_arn("model", spec.model_name),
        "CreationTime": utc(record.created),
    }


def summarize_model(record: ModelRecord) -> dict[str, Any]:
    """Return a record in the shape of an entry of ListModels."""
    name = str(record.spec["model_name"])
    return {"ModelName": name, "ModelArn": local_arn("model", name), "CreationTime": utc(record.created)}


def _model_data(container: dict[str, Any], place: str) -> tuple[str | None, ModelForm]:
    """Take what a container says of its model; return where it lies and what it is."""
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    uri = container.pop("ModelDataUrl", None)
    if source is not None and uri is not None:
        raise RequestError(
            f"both {place}.ModelDataUrl and {place}.ModelDataSource are given.",
            "Give one of them.",
            members=(f"{place}.ModelDataUrl",),
        )
    if source is None:
        if uri is None:
            return None, "nothing"
        # SageMaker downloads an archive or nothing: version 3 of its SDK passes an empty prefix, and relies on that.
        return _checked(uri, f"{place}.ModelDataUrl"), "archive" if uri.endswith(".tar.gz") else "nothing"
    member = f"{place}.ModelDataSource.S3DataSource"
    uri = _checked(source.pop("S3Uri"), f"{member}.S3Uri")
    compressed, is_object = source["CompressionType"] == "Gzip", source["S3DataType"] == "S3Object"
    if compressed:
        if not is_object:
            raise BadInputError(
                f"{member}: CompressionType=Gzip needs S3DataType=S3Object.", "Name the one archive that is meant."
            )
        return uri, "archive"
    return uri, "file" if is_object else "folder"


def _checked(uri: str, member: str) -> str:
    if uri.startswith("https://"):
        raise UnsupportedOptionError(f"{member}='{uri:.80}' is not emulated.", "Write s3://BUCKET/KEY or file:///path.")
    return request_uri(uri, member)


def _check_environment(environment: Mapping[str, str], place: str) -> None:
    for name, value in environment.items():
        if not name or "\0" in value:
            raise BadInputError(
                f"{place}.Environment: the variable {name!r} has no name, or a NUL.",
                "Leave it out; no process can have it.",
            )
