"""Write ``launcher/requests/shapes.json``: what SageMaker's service model says of the operations that matter here.

    python .ci/make_shapes.py            after a new botocore, or with another operation in OPERATIONS

The file holds names, types, required members and limits; no documentation. The launcher reads it in place of botocore,
which takes hundreds of times as long to load the whole model.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
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
INPUT_ONLY = ("Search",)
"""Their answers hold the shapes of everything that SageMaker has."""

_KEPT = ("type", "min", "max", "pattern", "enum")


def service_model() -> dict[str, Any]:
    """Return SageMaker's model as the installed botocore ships it."""
    path = Path(botocore.__file__).parent / "data" / "sagemaker" / "2017-07-24" / "service-2.json.gz"
    with gzip.open(path) as file:
        model: dict[str, Any] = json.load(file)
    return model


def reduced(model: Mapping[str, Any], operations: tuple[str, ...] = OPERATIONS) -> dict[str, Any]:
    """Return the operations and every shape below them, without what only people read."""
    chosen = {
        name: {
            side: model["operations"][name][side]["shape"]
            for side in ("input", "output")
            if side in model["operations"][name] and (side == "input" or name not in INPUT_ONLY)
        }
        for name in operations
    }
    shapes: dict[str, Any] = {}
    waiting = [shape for sides in chosen.values() for shape in sides.values()]
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


def as_text(values: Mapping[str, Any]) -> str:
    """Return JSON with a shape a line, so that a new botocore shows as a readable difference."""
    lines = [f'"{part}": {json.dumps(values[part])}' for part in ("botocore", "not_described")]
    for part in ("operations", "shapes"):
        entries = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in values[part].items())
        lines.append(f'"{part}": {{\n{entries}\n}}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    TARGET.write_text(as_text(reduced(service_model())), encoding="utf-8")
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes of botocore {botocore.__version__}")
