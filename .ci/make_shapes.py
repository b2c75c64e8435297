"""Write ``launcher/requests/shapes.json``: what SageMaker's service model says of the operations that matter here.

    python .ci/make_shapes.py            after a new botocore, or with another operation in a table

``shapes-logs.json`` and its like say the same of other services; their names begin with the service. The files hold
names, types, required members and limits; no documentation. The launcher reads them in place of botocore, which takes
hundreds of times as long to load a whole model.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import botocore

TARGET = Path(__file__).resolve().parents[1] / "launcher" / "requests" / "shapes.json"
OPERATIONS = (
    "CreateTrainingJob",
    "DescribeTrainingJob",
    "ListTrainingJobs",
    "StopTrainingJob",
    "UpdateTrainingJob",
    "DeleteTrainingJob",
    "CreateHyperParameterTuningJob",
    "DescribeHyperParameterTuningJob",
    "ListHyperParameterTuningJobs",
    "StopHyperParameterTuningJob",
    "DeleteHyperParameterTuningJob",
    "ListTrainingJobsForHyperParameterTuningJob",
    "CreateModel",
    "DescribeModel",
    "ListModels",
    "DeleteModel",
    "CreateTransformJob",
    "DescribeTransformJob",
    "ListTransformJobs",
    "StopTransformJob",
    "CreateProcessingJob",
    "DescribeProcessingJob",
    "ListProcessingJobs",
    "StopProcessingJob",
    "DeleteProcessingJob",
    "CreateEndpointConfig",
    "DescribeEndpointConfig",
    "ListEndpointConfigs",
    "DeleteEndpointConfig",
    "CreateEndpoint",
    "DescribeEndpoint",
    "ListEndpoints",
    "UpdateEndpoint",
    "UpdateEndpointWeightsAndCapacities",
    "DeleteEndpoint",
    "AddTags",
    "ListTags",
    "DeleteTags",
    "Search",
)
BESIDE = {
    "logs": ("DescribeLogGroups", "DescribeLogStreams", "FilterLogEvents", "GetLogEvents"),
    "cloudwatch": ("GetMetricData", "GetMetricStatistics", "ListMetrics"),
    "batch": (
        "CreateJobQueue",
        "CreateSchedulingPolicy",
        "CreateServiceEnvironment",
        "DeleteJobQueue",
        "DeleteSchedulingPolicy",
        "DeleteServiceEnvironment",
        "DescribeJobQueues",
        "DescribeSchedulingPolicies",
        "DescribeServiceEnvironments",
        "DescribeServiceJob",
        "ListSchedulingPolicies",
        "ListServiceJobs",
        "ListTagsForResource",
        "SubmitServiceJob",
        "TagResource",
        "TerminateServiceJob",
        "UntagResource",
        "UpdateJobQueue",
        "UpdateSchedulingPolicy",
        "UpdateServiceEnvironment",
        "UpdateServiceJob",
    ),
}
"""Other services, of which a few operations are answered here, by botocore's names."""
INPUT_ONLY = ("Search",)
"""Their answers hold the shapes of everything that SageMaker has."""

OF_RESULTS = ("TrainingJob", "HyperParameterTuningJobSearchEntity", "Endpoint")
"""What Search finds."""

_KEPT = ("type", "min", "max", "pattern", "enum")


def service_model(service: str = "sagemaker") -> dict[str, Any]:
    """Return a service's newest model as the installed botocore ships it."""
    folder = Path(botocore.__file__).parent / "data" / service
    with gzip.open(max(folder.glob("*/service-2.json.gz"))) as file:
        model: dict[str, Any] = json.load(file)
    return model


def reduced(
    model: Mapping[str, Any], operations: tuple[str, ...] = OPERATIONS, besides: Sequence[str] = OF_RESULTS
) -> dict[str, Any]:
    """Return the operations and every shape below them, and of other shapes, without what only people read."""
    chosen = {
        name: {
            side: model["operations"][name][side]["shape"]
            for side in ("input", "output")
            if side in model["operations"][name] and (side == "input" or name not in INPUT_ONLY)
        }
        for name in operations
    }
    shapes: dict[str, Any] = {}
    waiting = [*besides, *(shape for sides in chosen.values() for shape in sides.values())]
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shapes[name] = _reduced_shape(model["shapes"][name])
            waiting += _names_below(shapes[name])
    return {
        "botocore": botocore.__version__,
        "not_described": sorted(set(model["operations"]) - set(chosen)),
        "operations": chosen,
        "shapes": dict(sorted(shapes.items())),
    }


def _reduced_shape(shape: Mapping[str, Any]) -> dict[str, Any]:
    reduced = {key: shape[key] for key in _KEPT if key in shape}
    if shape.get("required"):
        reduced["required"] = shape["required"]
    if "members" in shape:
        reduced["members"] = {name: member["shape"] for name, member in shape["members"].items()}
    for key in ("member", "key", "value"):
        if key in shape:
            reduced[key] = shape[key]["shape"]
    return reduced


def _names_below(shape: Mapping[str, Any]) -> Iterator[str]:
    yield from shape.get("members", {}).values()
    yield from (shape[key] for key in ("member", "key", "value") if key in shape)


def with_service(values: Mapping[str, Any], service: str) -> dict[str, Any]:
    """Return what ``reduced`` returned, with the service before every name: ``logs:GetLogEvents``."""

    def renamed(shape: Mapping[str, Any]) -> dict[str, Any]:
        changed = {key: f"{service}:{shape[key]}" for key in ("member", "key", "value") if key in shape}
        if "members" in shape:
            changed["members"] = {name: f"{service}:{inner}" for name, inner in shape["members"].items()}
        return {**shape, **changed}

    return {
        "botocore": values["botocore"],
        "not_described": values["not_described"],
        "operations": {
            f"{service}:{name}": {side: f"{service}:{shape}" for side, shape in sides.items()}
            for name, sides in values["operations"].items()
        },
        "shapes": {f"{service}:{name}": renamed(shape) for name, shape in values["shapes"].items()},
    }


def as_text(values: Mapping[str, Any]) -> str:
    """Return JSON with a shape a line, so that a new botocore shows as a readable difference."""
    lines = [f'"{part}": {json.dumps(values[part])}' for part in ("botocore", "not_described")]
    for part in ("operations", "shapes"):
        entries = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in values[part].items())
        lines.append(f'"{part}": {{\n{entries}\n}}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def files() -> dict[Path, str]:
    """Return every file that is generated, with its text."""
    texts = {TARGET: as_text(reduced(service_model()))}
    for service, operations in BESIDE.items():
        values = with_service(reduced(service_model(service), operations, ()), service)
        texts[TARGET.with_name(f"shapes-{service}.json")] = as_text(values)
    return texts


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(f"{path}: {len(text):,} bytes of botocore {botocore.__version__}")
