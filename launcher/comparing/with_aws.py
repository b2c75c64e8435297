"""What a training job meets on Amazon SageMaker that it does not meet here, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from launcher.errors import BadInputError
from launcher.jobs.spec import hyperparameter_text
from launcher.requests.for_aws import aws_document, check_for_aws
from launcher.requests.members import not_carried
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import LOCAL_INSTANCE_TYPES
from launcher.settings import ACCOUNT_ID

_OWN = {
    "SpotInterruptions": "interruptions come when this plan says",
    "Faults": "these happen to the hosts on purpose",
    "Debug": "the program waits for a debugger",
}


class Difference(NamedTuple):
    """One thing that is otherwise on AWS.

    Attributes:
        subject: the member of the request, or a word for what is no member.
        here: what it is on this machine.
        there: what it is on AWS.
    """

    subject: str
    here: str
    there: str


def differences_on_aws(request: Mapping[str, Any]) -> list[Difference]:
    """Return what differs between a training job here and the same document on AWS.

    Args:
        request: of a training job, checked, with the launcher's own member or without.
    """
    return [*_of_members(request), *_of_places(request), *_of_every_job(request)]


def refusal_of_aws(request: Mapping[str, Any]) -> str:
    """Return the first thing that AWS would refuse about a document as it stands; empty where there is none."""
    own = {name: member for name, member in request.items() if name != OWN_MEMBER}
    try:
        check_for_aws(aws_document(own))
    except BadInputError as error:
        return str(error)
    return ""


def _of_members(request: Mapping[str, Any]) -> Iterator[Difference]:
    algorithm, resources = request.get("AlgorithmSpecification", {}), request.get("ResourceConfig", {})
    if not algorithm.get("TrainingImage"):
        pushed = "an image has to be named: launcher push REGISTRY_URI"
        yield Difference("AlgorithmSpecification.TrainingImage", "the bundled image, or your own Python", pushed)
    kinds = {resources.get("InstanceType", "local"), *(group["InstanceType"] for group in _groups(request))}
    for kind in sorted(kinds if not _groups(request) else kinds - {"local"}):
        if kind in LOCAL_INSTANCE_TYPES:
            yield Difference(
                "ResourceConfig.InstanceType", "this machine", "a type has to be named, such as ml.m5.large"
            )
        else:
            yield Difference("ResourceConfig.InstanceType", f"as much of {kind} as this machine has", f"{kind}, billed")
    if not request.get("RoleArn") or f":{ACCOUNT_ID}:" in request["RoleArn"]:
        yield Difference("RoleArn", "kept, and asked for nothing", "a role of yours has to be named")
    for text in not_carried(request):
        name, _, value = text.partition("=")
        yield Difference(name, "has no effect", f"{value} counts")
    for member, meaning in _OWN.items():
        if request.get(OWN_MEMBER, {}).get(member):
            yield Difference(f"{OWN_MEMBER}.{member}", meaning, "does not go there: leave it out")


def _of_places(request: Mapping[str, Any]) -> Iterator[Difference]:
    for channel in request.get("InputDataConfig", ()):
        uri = channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri", "")
        if uri.startswith("file://"):
            there = "uploaded by its content, unless it is there; a copy that the job may write to"
            yield Difference(f"channel '{channel['ChannelName']}'", "read in its place, and read-only", there)
    archive = hyperparameter_text(request.get("HyperParameters", {}), "sagemaker_submit_directory") or ""
    places = {
        "OutputDataConfig.S3OutputPath": request["OutputDataConfig"]["S3OutputPath"],
        "CheckpointConfig.S3Uri": request.get("CheckpointConfig", {}).get("S3Uri", ""),
        "the source archive": archive,
    }
    for subject, uri in places.items():
        if uri.startswith("file://"):
            yield Difference(subject, "a folder of this machine", "has to be in S3: --bucket BUCKET")


def _of_every_job(request: Mapping[str, Any]) -> Iterator[Difference]:
    algorithm = request.get("AlgorithmSpecification", {})
    yield Difference("user", "you", "root")
    yield Difference(
        "/opt/ml/output/intermediate",
        "copied out while the job runs",
        "lost, but for the bundled image, which adds it to its output data",
    )
    yield Difference("logs", "a file, as they are printed", "CloudWatch, some seconds later")
    if algorithm.get("MetricDefinitions"):
        yield Difference("metrics", "every value that the log held", "a mean for each minute")
    if request.get("EnableManagedSpotTraining"):
        yield Difference("spot", "interrupted where a plan says so", "interrupted when AWS needs the machine")
    if request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds"):
        yield Difference("warm pool", "a process that waits", "a machine that waits, and is billed")


def _groups(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(request.get("ResourceConfig", {}).get("InstanceGroups", ()))
