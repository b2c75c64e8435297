"""A CreateTrainingJob document for AWS itself: without what is the launcher's own, and with nothing AWS would refuse.

Quotas, permissions and what is in an account are AWS's to say. Everything that the document itself shows is said here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from launcher.errors import BadInputError, ImageError, RequestError, SourceError, UnsupportedOptionError
from launcher.jobs.spec import hyperparameter_text
from launcher.requests.shapes import OWN_MEMBER, operation_shape
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
from launcher.requests.validation import check
from launcher.settings import ACCOUNT_ID

# Of the launcher's own member: what would be lost. The rest says where a job runs here.
_OWN_EFFECTS = {
    "SpotInterruptions": ("spot_interruptions", "AWS itself interrupts spot jobs."),
    "Faults": ("faults", "AWS runs no faults on purpose."),
    "Debug": ("debug", "A debugger waits for jobs of this machine alone."),
}
# What the SDK leaves out of a request when it has no value.
_WITHOUT_VALUE: tuple[Any, ...] = ([], {}, False, "", None)
_LEFT_OUT = (
    *("HyperParameters", "Environment", "Tags", "InputDataConfig", "EnableNetworkIsolation"),
    *("EnableManagedSpotTraining", "EnableInterContainerTrafficEncryption"),
)
_HOW_TO_PUSH = "Name an image that AWS can pull, image_uri=...; the bundled one: launcher push REGISTRY_URI"


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
    check_groups_of_hosts(resources)
    for place, kind in _instance_types(resources):
        if kind in LOCAL_INSTANCE_TYPES:
            raise BadInputError(
                f"{place}='{kind}' is this machine.", 'Name a type of AWS, for example instance_type="ml.m5.large".'
            )
    for definition in algorithm.get("MetricDefinitions", ()):
        check_metric_definition(definition["Name"], definition["Regex"])
    check_channels(document)
    for place, uri in _written(document):
        if not uri.startswith("s3://"):
            raise BadInputError(f"{place} is {uri}, which AWS cannot write to.", "Give an s3:// URI of a bucket.")
    archive = hyperparameter_text(document.get("HyperParameters", {}), "sagemaker_submit_directory") or ""
    if archive.startswith("file://"):
        raise SourceError(
            f"the hyperparameter sagemaker_submit_directory is {archive}, which AWS cannot read.",
            "Give the folder as source_dir, which is uploaded; or the s3:// URI of an archive that is there.",
        )
    if f":{ACCOUNT_ID}:" in document["RoleArn"]:
        raise BadInputError(
            f"RoleArn is {document['RoleArn']}, a role of the local account.",
            "Name the ARN of a role of yours that SageMaker may take on: role=...",
        )


def _instance_types(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "InstanceType" in resources:
        yield "ResourceConfig.InstanceType", resources["InstanceType"]
    for group in resources.get("InstanceGroups", ()):
        yield f"ResourceConfig.InstanceGroups: '{group['InstanceGroupName']}'", group["InstanceType"]


def _written(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "OutputDataConfig.S3OutputPath", document["OutputDataConfig"]["S3OutputPath"]
    for member in ("CheckpointConfig", "TensorBoardOutputConfig", "DebugHookConfig", "ProfilerConfig"):
        for name in ("S3Uri", "S3OutputPath"):
            if name in document.get(member, {}):
                yield f"{member}.{name}", document[member][name]
