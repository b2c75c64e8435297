"""Documents of endpoints and their configurations as boto3 takes them: checked, and described again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.errors import RequestError
from launcher.jobs.endpoint_record import EndpointConfigRecord, EndpointRecord
from launcher.jobs.endpoint_spec import EndpointConfigSpec, VariantSpec
from launcher.jobs.record import utc
from launcher.requests.endpoint_members import CONFIG_MEMBERS, ENDPOINT_MEMBERS, WEIGHTS_MEMBERS
from launcher.requests.members import refuse_unsupported
from launcher.requests.models import is_local_uri
from launcher.requests.shapes import OWN_MEMBER, operation_shape
from launcher.requests.tags import tag_pairs
from launcher.requests.training import LOCAL_INSTANCE_TYPES, check_encodable, request_uri, s3_member, s3_of
from launcher.requests.validation import Exceptions, check
from launcher.settings import local_arn

EXCEPTIONS: Exceptions = {
    "DestinationS3Uri": is_local_uri,
    "ProductionVariantInstanceType": lambda value: value in LOCAL_INSTANCE_TYPES,
}


@dataclass(frozen=True)
class EndpointRequest:
    """What CreateEndpoint or UpdateEndpoint asks for.

    Attributes:
        runtime: as the request names it, or ``auto``.
    """

    endpoint_name: str
    config_name: str
    runtime: str
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class WeightsRequest:
    """What UpdateEndpointWeightsAndCapacities asks for; variants that it does not name stay as they are.

    Attributes:
        weights: by variant.
        instance_counts: by variant.
    """

    endpoint_name: str
    variants: tuple[str, ...]
    weights: Mapping[str, float]
    instance_counts: Mapping[str, int]


def check_config_request(request: Mapping[str, Any]) -> EndpointConfigSpec:
    """Check a CreateEndpointConfig document, and return the configuration that it describes.

    Args:
        request: as boto3's ``create_endpoint_config(**request)`` takes it, with our own member or without.
    Raises:
        RequestError: a limit of the service model is broken; the message is AWS's.
        UnsupportedOptionError: a member asks for something that is not emulated.
        BadInputError: a rule that the service model does not hold is broken.
    """
    check(request, operation_shape("CreateEndpointConfig"), exceptions=EXCEPTIONS)
    check_encodable(request)
    refuse_unsupported(request, CONFIG_MEMBERS)
    rest = copy.deepcopy(dict(request))
    own = rest.pop(OWN_MEMBER, {})
    variants = tuple(
        _variant(dict(variant), position) for position, variant in enumerate(rest.pop("ProductionVariants"))
    )
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise RequestError(
            "two production variants have one name.", "Name each by itself.", members=("ProductionVariants",)
        )
    if not any(variant.weight for variant in variants):
        raise RequestError(
            "no production variant has a weight above 0, so none would answer.",
            "Give one an InitialVariantWeight.",
            members=("ProductionVariants",),
        )
    capture, asynchronous = rest.pop("DataCaptureConfig", {}), rest.pop("AsyncInferenceConfig", {})
    if capture:
        capture["DestinationS3Uri"] = request_uri(capture["DestinationS3Uri"], "DataCaptureConfig.DestinationS3Uri")
    output = asynchronous.get("OutputConfig", {})
    for name in ("S3OutputPath", "S3FailurePath"):
        if name in output:
            output[name] = request_uri(output[name], f"AsyncInferenceConfig.OutputConfig.{name}")
    return EndpointConfigSpec(
        config_name=rest.pop("EndpointConfigName"),
        variants=variants,
        capture=capture,
        asynchronous=asynchronous,
        enable_network_isolation=rest.pop("EnableNetworkIsolation", False),
        role=rest.pop("ExecutionRoleArn", ""),
        tags=tag_pairs(rest.pop("Tags", [])),
        s3=s3_of(own.get("S3")),
        without_effect=rest,
    )


def config_warnings(spec: EndpointConfigSpec) -> list[str]:
    """Return what is otherwise than a configuration asks for."""
    return [
        f"variant '{variant.name}' is serverless on AWS; here it is one container, which is always up"
        for variant in spec.variants
        if "ServerlessConfig" in variant.without_effect
    ]


def check_endpoint_request(request: Mapping[str, Any], operation: str = "CreateEndpoint") -> EndpointRequest:
    """Check a CreateEndpoint or UpdateEndpoint document.

    Raises:
        RequestError, UnsupportedOptionError: as of ``check_config_request``.
    """
    own = request.get(OWN_MEMBER, {})
    named = {name: value for name, value in request.items() if operation == "CreateEndpoint" or name != OWN_MEMBER}
    check(named, operation_shape(operation))
    check_encodable(request)
    refuse_unsupported(request, ENDPOINT_MEMBERS)
    return EndpointRequest(
        request["EndpointName"],
        request["EndpointConfigName"],
        own.get("Runtime", "auto"),
        tag_pairs(request.get("Tags", [])),
    )


def check_weights_request(request: Mapping[str, Any]) -> WeightsRequest:
    """Check an UpdateEndpointWeightsAndCapacities document by itself.

    Raises:
        RequestError: a limit is broken.
        UnsupportedOptionError: a member asks for something that is not emulated.
    """
    check(request, operation_shape("UpdateEndpointWeightsAndCapacities"))
    check_encodable(request)
    refuse_unsupported(request, WEIGHTS_MEMBERS)
    members = request["DesiredWeightsAndCapacities"]
    names = tuple(member["VariantName"] for member in members)
    if len(set(names)) < len(names):
        raise _weights_error("a production variant is named twice.", "Name each variant once.")
    weights = {member["VariantName"]: float(member["DesiredWeight"]) for member in members if "DesiredWeight" in member}
    counts = {
        member["VariantName"]: member["DesiredInstanceCount"] for member in members if "DesiredInstanceCount" in member
    }
    for name, count in counts.items():
        if count < 1:
            raise _weights_error(
                f"variant {name!r} would have no container.", "Give it a weight of 0, and one container."
            )
    return WeightsRequest(request["EndpointName"], names, weights, counts)


def check_weights(asked: WeightsRequest, config: EndpointConfigSpec) -> None:
    """Check what is asked for against the endpoint's present configuration.

    Raises:
        RequestError: it has no such variant, or no variant would answer.
    """
    weights = {variant.name: variant.weight for variant in config.variants}
    missing = [name for name in asked.variants if name not in weights]
    if missing:
        names = ", ".join(f'"{name}"' for name in missing)
        raise _weights_error(
            f'The variant name(s) {names} is/are not present within endpoint configuration "{config.config_name}".',
            f"It has: {', '.join(weights)}.",
        )
    if not any((weights | dict(asked.weights)).values()):
        raise _weights_error("no variant would have a weight above 0, so none would answer.", "Leave one a weight.")


def _weights_error(message: str, hint: str) -> RequestError:
    return RequestError(message, hint, members=("DesiredWeightsAndCapacities",))


def config_request(spec: EndpointConfigSpec) -> dict[str, Any]:
    """Return the document that describes a configuration: the one it was made of, with defaults filled in."""
    request: dict[str, Any] = copy.deepcopy(dict(spec.without_effect))
    request |= {
        "EndpointConfigName": spec.config_name,
        "ProductionVariants": [_variant_request(variant) for variant in spec.variants],
        "EnableNetworkIsolation": spec.enable_network_isolation,
        "Tags": [{"Key": key, "Value": value} for key, value in spec.tags],
    }
    for name, value in (
        ("DataCaptureConfig", dict(spec.capture)),
        ("AsyncInferenceConfig", dict(spec.asynchronous)),
        ("ExecutionRoleArn", spec.role),
    ):
        if value:
            request[name] = copy.deepcopy(value)
    if spec.s3 is not None:
        request[OWN_MEMBER] = {"S3": s3_member(spec.s3)}
    return request


def describe_config(record: EndpointConfigRecord) -> dict[str, Any]:
    """Return a record in the shape of DescribeEndpointConfig's answer."""
    spec = record.config_spec
    answer = config_request(spec)
    for member in ("Tags", OWN_MEMBER):
        answer.pop(member, None)
    return {
        **answer,
        "EndpointConfigArn": local_arn("endpoint-config", spec.config_name),
        "CreationTime": utc(record.created),
    }


def summarize_config(record: EndpointConfigRecord) -> dict[str, Any]:
    """Return a record in the shape of an entry of ListEndpointConfigs."""
    name = str(record.spec["config_name"])
    return {
        "EndpointConfigName": name,
        "EndpointConfigArn": local_arn("endpoint-config", name),
        "CreationTime": utc(record.created),
    }


def describe_endpoint(record: EndpointRecord) -> dict[str, Any]:
    """Return a record in the shape of DescribeEndpoint's answer."""
    deployment = record.current
    answer: dict[str, Any] = {
        "EndpointName": record.name,
        "EndpointArn": local_arn("endpoint", record.name),
        "EndpointConfigName": deployment.config.config_name,
        "ProductionVariants": [
            {
                "VariantName": variant.name,
                "DeployedImages": [
                    {"SpecifiedImage": image, "ResolvedImage": image}
                    for image in [deployment.models[variant.name].image_uri or ""]
                    if image
                ],
                "CurrentWeight": variant.weight,
                "DesiredWeight": variant.weight,
                "CurrentInstanceCount": variant.instance_count,
                "DesiredInstanceCount": variant.instance_count,
            }
            for variant in deployment.config.variants
        ],
        "EndpointStatus": record.status,
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
    }
    if capture := deployment.config.capture:
        on = capture.get("EnableCapture", True)
        answer["DataCaptureConfig"] = {
            "EnableCapture": on,
            "CaptureStatus": "Started" if on else "Stopped",
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
            "KmsKeyId": capture.get("KmsKeyId", ""),
        }
    if deployment.config.asynchronous:
        answer["AsyncInferenceConfig"] = dict(deployment.config.asynchronous)
    if record.failure_reason:
        answer["FailureReason"] = record.failure_reason
    return answer


def _variant(member: dict[str, Any], position: int) -> VariantSpec:
    place = f"ProductionVariants[{position}]"
    if "ModelName" not in member:
        raise RequestError(
            f"{place} names no model.", "Inference components are not emulated: give ModelName.", members=(place,)
        )
    serverless = "ServerlessConfig" in member
    if not serverless and "InstanceType" not in member:
        raise RequestError(f"{place} has no InstanceType.", 'For example: "ml.m5.large", or "local".', members=(place,))
    instance_type = member.pop("InstanceType", None)
    return VariantSpec(
        name=member.pop("VariantName"),
        model_name=member.pop("ModelName"),
        instance_count=member.pop("InitialInstanceCount", 1),
        weight=float(member.pop("InitialVariantWeight", 1.0)),
        instance_type=instance_type,
        health_check_seconds=member.pop("ContainerStartupHealthCheckTimeoutInSeconds", None),
        without_effect=member,
    )


def _variant_request(variant: VariantSpec) -> dict[str, Any]:
    request: dict[str, Any] = copy.deepcopy(dict(variant.without_effect))
    request |= {
        "VariantName": variant.name,
        "ModelName": variant.model_name,
        "InitialInstanceCount": variant.instance_count,
        "InitialVariantWeight": variant.weight,
    }
    if variant.instance_type is not None:
        request["InstanceType"] = variant.instance_type
    if variant.health_check_seconds is not None:
        request["ContainerStartupHealthCheckTimeoutInSeconds"] = variant.health_check_seconds
    return request
