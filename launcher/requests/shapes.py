"""What the service models say of a request: the generated ``shapes*.json``, and the shapes of our own member."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Shape = Mapping[str, Any]

OWN_MEMBER = "Launcher"
"""The one member of a request that is the launcher's own; without it, boto3 takes the request."""

_OWN_SHAPES: Mapping[str, Shape] = {
    "LauncherMember": {
        "type": "structure",
        "members": {
            "Runtime": "LauncherRuntime",
            "S3": "LauncherS3",
            "Estimator": "LauncherEstimator",
            "WritableChannels": "LauncherTexts",
            "SpotInterruptions": "LauncherTexts",
            "Faults": "LauncherTexts",
            "TuningJobArn": "LauncherText",  # of the tuning job that made it
            "Debug": "LauncherFlag",
        },
    },
    "LauncherTuningMember": {
        "type": "structure",
        "members": {
            "Runtime": "LauncherRuntime",
            "S3": "LauncherS3",
            "Estimator": "LauncherEstimator",
            "SpotInterruptions": "LauncherTexts",
        },
    },
    "LauncherS3": {
        "type": "structure",
        "required": ["Kind"],
        "members": {
            "Kind": "LauncherS3Kind",
            "EndpointUrl": "LauncherText",
            "Region": "LauncherWord",
            "Profile": "LauncherText",
            "AwsNames": "LauncherAwsNames",
        },
    },
    "LauncherAwsNames": {"type": "string", "enum": ["local"]},
    "LauncherS3Kind": {"type": "string", "enum": ["embedded", "endpoint", "aws"]},
    # What an estimator was given and no member of AWS says; attach() gives it back.
    "LauncherEstimator": {
        "type": "structure",
        "members": {
            "SourceDir": "LauncherText",
            "EntryPoint": "LauncherText",
            "Dependencies": "LauncherTexts",
            "CodeLocation": "LauncherText",
            "BaseJobName": "LauncherText",
            "ModelChannelName": "LauncherText",
            "Toolkit": "LauncherWord",
            "ToolkitVersion": "LauncherText",
            "Framework": "LauncherWord",
            "FrameworkVersion": "LauncherText",
            "PyVersion": "LauncherText",
            "BaseFramework": "LauncherText",
        },
    },
    # Beside the request of a transform job or an endpoint: what only this machine knows of.
    "LauncherModelMember": {"type": "structure", "members": {"S3": "LauncherS3"}},
    "LauncherTransformMember": {
        "type": "structure",
        "members": {"Runtime": "LauncherWord", "S3": "LauncherS3", "Resume": "LauncherFlag"},
    },
    "LauncherProcessingMember": {"type": "structure", "members": {"Runtime": "LauncherWord", "S3": "LauncherS3"}},
    "LauncherEndpointMember": {"type": "structure", "members": {"Runtime": "LauncherWord", "S3": "LauncherS3"}},
    "LauncherFlag": {"type": "boolean"},
    "LauncherWord": {"type": "string", "min": 1, "max": 64, "pattern": r"[A-Za-z0-9._-]+"},
    # A word, or one with the machine that has such a runtime: docker+ssh://user@box.
    "LauncherRuntime": {
        "type": "string",
        "min": 1,
        "max": 512,
        "pattern": r"[A-Za-z0-9._-]+|([A-Za-z0-9._-]+\+)?ssh://[!-~]+",
    },
    "LauncherText": {"type": "string", "min": 1, "max": 4096},
    "LauncherTexts": {"type": "list", "member": "LauncherText", "max": 1000},
}
_OWN_MEMBERS: Mapping[str, str] = {
    "CreateTrainingJob": "LauncherMember",
    "CreateHyperParameterTuningJob": "LauncherTuningMember",
    "CreateModel": "LauncherModelMember",
    "CreateTransformJob": "LauncherTransformMember",
    "CreateProcessingJob": "LauncherProcessingMember",
    "CreateEndpointConfig": "LauncherEndpointMember",
    "CreateEndpoint": "LauncherEndpointMember",
}
# What Java's patterns have and Python's have not: Unicode's classes, of which the characters of \p{Z} are listed, and a
# range of characters that Java writes as pairs.
_CLASSES = {
    r"\uD800\uDC00-\uDBFF\uDFFF": "\U00010000-\U0010ffff",
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Alnum}": "A-Za-z0-9",
    r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}


@cache
def _model(service: str = "") -> Mapping[str, Any]:
    file = f"shapes-{service}.json" if service else "shapes.json"
    model: dict[str, Any] = json.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    if service:
        return model
    model["shapes"].update(_OWN_SHAPES)
    for operation, own in _OWN_MEMBERS.items():
        model["shapes"][model["operations"][operation]["input"]]["members"][OWN_MEMBER] = own
    return model


@cache
def shape(name: str) -> Shape:
    """Return a shape by its name: ``type``, limits, and the names of the shapes below it.

    A name of another service than SageMaker begins with it, ``logs:NextToken``; so does that of an operation.
    """
    shape: Shape = _model(name.rpartition(":")[0])["shapes"][name]
    return shape


def operation_shape(operation: str, side: str = "input") -> str:
    """Return the name of the shape that an operation takes (``input``) or answers (``output``)."""
    name: str = _model(operation.rpartition(":")[0])["operations"][operation][side]
    return name


def is_described(operation: str) -> bool:
    """Return whether the shapes of an operation are here."""
    return operation in _model()["operations"]


def is_of_sagemaker(operation: str) -> bool:
    """Return whether SageMaker has an operation of that name."""
    return is_described(operation) or operation in _model()["not_described"]


def member_shape(operation: str, path: str) -> str:
    """Return the name of the shape at a dotted path, such as ``InputDataConfig[].ChannelName``, of an operation."""
    name = operation_shape(operation)
    for step in path.split("."):
        name = shape(name)["members"][step.removesuffix("[]")]
        if step.endswith("[]"):
            name = shape(name)["member"]
    return name


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern of the model as Python's; it has to match the whole text."""
    for java, python in _CLASSES.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern)
