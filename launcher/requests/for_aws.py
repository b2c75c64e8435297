"""A document for AWS itself: without what is the launcher's own, and with nothing AWS would refuse.

Quotas, permissions and what is in an account are AWS's to say. Everything that the document itself shows is said here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.errors import BadInputError, ImageError, RequestError, SourceError, UnsupportedOptionError
from launcher.jobs.processing_spec import BUNDLED_IMAGE
from launcher.jobs.spec import hyperparameter_text
from launcher.requests.endpoints import check_config_request, check_endpoint_request
from launcher.requests.models import check_model_request
from launcher.requests.processing import check_processing_request
from launcher.requests.shapes import OWN_MEMBER, operation_shape, shape
from launcher.requests.training import (
    EXCEPTIONS,
    LOCAL_INSTANCE_TYPES,
    OPERATION,
    check_channels,
    check_encodable,
    check_groups_of_hosts,
    check_metric_definition,
    check_times,
)
from launcher.requests.transform import check_transform_request
from launcher.requests.tuning import check_tuning_request
from launcher.requests.validation import check
from launcher.settings import ACCOUNT_ID

# Of the launcher's own member: what would be lost. The rest says where a job runs here.
_OWN_EFFECTS = {
    "SpotInterruptions": ("spot_interruptions", "AWS itself interrupts spot jobs."),
    "Faults": ("faults", "AWS runs no faults on purpose."),
    "Debug": ("debug", "A debugger waits for jobs of this machine alone."),
    "Resume": ("resume", "A transform job of AWS writes all of its outputs."),
}
# What the SDK leaves out of a request when it has no value.
_WITHOUT_VALUE: tuple[Any, ...] = ([], {}, False, "", None)
_LEFT_OUT = (
    *("HyperParameters", "Environment", "Tags", "InputDataConfig", "EnableNetworkIsolation"),
    *("EnableManagedSpotTraining", "EnableInterContainerTrafficEncryption"),
)
_HOW_TO_PUSH = "Name an image that AWS can pull, image_uri=...; the bundled one: launcher push REGISTRY_URI"
# What the rules for documents of this machine say holds there as well.
_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "CreateModel": check_model_request,
    "CreateTransformJob": check_transform_request,
    "CreateProcessingJob": check_processing_request,
    "CreateHyperParameterTuningJob": check_tuning_request,
    "CreateEndpointConfig": check_config_request,
    "CreateEndpoint": check_endpoint_request,
    "UpdateEndpoint": lambda document: check_endpoint_request(document, "UpdateEndpoint"),
}
_WRITTEN = re.compile(
    r"(.*\.)?((S3OutputPath|S3FailurePath|DestinationS3Uri)"
    r"|(CheckpointConfig|TensorBoardOutputConfig|DebugHookConfig|ProfilerConfig|S3Output)\.S3Uri)"
)
# Members whose names are the user's.
_FREE = ("Environment", "HyperParameters", "StaticHyperParameters", "Tags", OWN_MEMBER)


@dataclass(frozen=True)
class Text:
    """A text of a document.

    Attributes:
        path: with dots and positions: ``ProcessingInputs[0].S3Input.S3Uri``.
        holder: what has it as its member ``name``.
    """

    path: str
    value: str
    holder: Any
    name: str | int

    @property
    def is_written(self) -> bool:
        """Whether it is a place that is written."""
        return _WRITTEN.fullmatch(self.path) is not None

    @property
    def is_local_input(self) -> bool:
        """Whether it is a file or folder of this machine that is read."""
        return self.name in ("S3Uri", "ModelDataUrl") and self.value.startswith("file://") and not self.is_written


def aws_document(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without the launcher's own member, and without members that say nothing.

    Raises:
        UnsupportedOptionError: the launcher's own member asks for something that AWS does not do.
    """
    document = copy.deepcopy(dict(request))
    own = document.pop(OWN_MEMBER, {})
    for member, (option, why) in _OWN_EFFECTS.items():
        if own.get(member):
            raise UnsupportedOptionError(f"{option} does not go to AWS: {why}", f"Leave {option} out.")
    for name in _LEFT_OUT:
        if name in document and document[name] in _WITHOUT_VALUE:
            del document[name]
    if document.get("AlgorithmSpecification", {}).get("MetricDefinitions") == []:
        del document["AlgorithmSpecification"]["MetricDefinitions"]
    return document


def check_for_aws(document: Mapping[str, Any]) -> None:
    """Refuse a document that AWS would refuse.

    Args:
        document: from ``aws_document``; inputs may still be folders of this machine, which are uploaded before.
    Raises:
        RequestError: a limit of the service model is broken; the message is AWS's.
        BadInputError: a rule beside it is broken, or something of it means this machine.
    """
    check(document, operation_shape(OPERATION), exceptions=EXCEPTIONS)  # which are named below
    check_encodable(document)
    check_times(document.get("StoppingCondition", {}), document.get("EnableManagedSpotTraining", False))
    algorithm, resources = document.get("AlgorithmSpecification", {}), document.get("ResourceConfig", {})
    if "ServerlessJobConfig" not in document:
        for member in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
            if member not in document:
                raise RequestError(
                    f"{member} is missing.", "AWS asks for it.", aws_message=f"{member} is required", members=(member,)
                )
        if not algorithm.get("TrainingImage") and not algorithm.get("AlgorithmName"):
            raise ImageError("no image is named, and AWS has none of its own for this job.", _HOW_TO_PUSH)
        missing = [name for name in ("InstanceType", "InstanceCount") if name not in resources]
        if missing and not resources.get("InstanceGroups"):
            raise BadInputError(f"ResourceConfig.{missing[0]} is missing.", "AWS asks for it, or for InstanceGroups.")
    check_groups_of_hosts(resources)
    for definition in algorithm.get("MetricDefinitions", ()):
        check_metric_definition(definition["Name"], definition["Regex"])
    check_channels(document)
    check_texts(document)
    archive = hyperparameter_text(document.get("HyperParameters", {}), "sagemaker_submit_directory") or ""
    if archive.startswith("file://"):
        raise SourceError(
            f"the hyperparameter sagemaker_submit_directory is {archive}, which AWS cannot read.",
            "Give the folder as source_dir, which is uploaded; or the s3:// URI of an archive that is there.",
        )


def check_kind_for_aws(operation: str, document: Mapping[str, Any]) -> None:
    """Refuse a document of another operation than CreateTrainingJob that AWS would refuse.

    Args:
        operation: one whose documents the classes of the SDK make, such as ``CreateTransformJob``.
        document: from ``aws_document``; inputs may still be folders of this machine.
    Raises:
        BadInputError: as ``check_for_aws``.
    """
    for member, name in (("PrimaryContainer", "Image"), ("AppSpecification", "ImageUri")):
        if member in document and document[member].get(name, BUNDLED_IMAGE) == BUNDLED_IMAGE:
            raise ImageError(f"{member}: no image is named, and AWS has none of its own for this.", _HOW_TO_PUSH)
    _CHECKS[operation](document)
    check_texts(document)


def check_texts(document: Mapping[str, Any]) -> None:
    """Refuse a document that names this machine where only AWS can be meant.

    Raises:
        BadInputError: an instance type, a place that is written, or a role is of this machine.
    """
    for text in texts_of(document):
        path, value, name = text.path, text.value, text.name
        if name == "InstanceType" and value in LOCAL_INSTANCE_TYPES:
            raise BadInputError(
                f"{path}='{value}' is this machine.", 'Name a type of AWS, for example instance_type="ml.m5.large".'
            )
        if text.is_written and not value.startswith("s3://"):
            raise BadInputError(f"{path} is {value}, which AWS cannot write to.", "Give an s3:// URI of a bucket.")
        if name in ("RoleArn", "ExecutionRoleArn") and f":{ACCOUNT_ID}:" in value:
            raise BadInputError(
                f"{path} is {value}, a role of the local account.",
                "Name the ARN of a role of yours that SageMaker may take on: role=...",
            )


def texts_of(value: Any, path: str = "") -> Iterator[Text]:
    """Yield every text of a document, but those whose names and values are the user's own."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for name, member in entries:
        place = f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}" if path else name
        if isinstance(member, str):
            yield Text(place, member, value, name)
        elif isinstance(member, dict | list) and name not in _FREE:
            yield from texts_of(member, place)


def as_request(operation: str, description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that would make what a Describe operation has answered.

    Args:
        operation: the one that makes it, such as ``CreateTransformJob``.
    """
    members = shape(operation_shape(operation))["members"]
    return {name: copy.deepcopy(value) for name, value in description.items() if name in members}
