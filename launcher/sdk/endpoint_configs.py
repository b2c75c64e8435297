"""Configurations of endpoints, as the SDK's calls make them: one that changes another, tags, names."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError

if TYPE_CHECKING:
    from launcher.sdk.serving_place import ServingHere


def updated_config(
    serving: ServingHere,
    endpoint_name: str,
    initial_instance_count: int | None,
    instance_type: str | None,
    model_name: str | None,
    tags: Any,
    data_capture: Mapping[str, Any] | None,
) -> str:
    """Make a configuration that differs from an endpoint's in what is given, and return its name.

    Args:
        serving: where the endpoint is.
    Raises:
        BadInputError: several variants leave open whose the values are.
    """
    request = copy.deepcopy(serving.config_of(endpoint_name))
    changes = {
        "InitialInstanceCount": initial_instance_count,
        "InstanceType": instance_type,
        "ModelName": model_name,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    variants = request["ProductionVariants"]
    if changes and len(variants) > 1:
        raise BadInputError(
            f"endpoint '{endpoint_name}' has {len(variants)} variants: it is open which one is to change.",
            "Make a configuration with CreateEndpointConfig, and update the endpoint with that.",
        )
    if changes:
        variants[0] |= changes
        if "InstanceType" in changes:
            variants[0].pop("ServerlessConfig", None)
    if data_capture is not None:
        request["DataCaptureConfig"] = dict(data_capture)
    if tags:
        request["Tags"] = tag_members(tags)
    request["EndpointConfigName"] = next_name(endpoint_name)
    serving.ask("CreateEndpointConfig", **request)
    return str(request["EndpointConfigName"])


def tag_members(tags: Any) -> list[dict[str, str]]:
    """Return tags as a request has them: a mapping, or a list of ``{"Key": ..., "Value": ...}``."""
    if isinstance(tags, Mapping):
        return [{"Key": str(key), "Value": str(value)} for key, value in tags.items()]
    if isinstance(tags, Sequence) and not isinstance(tags, str):
        return [dict(tag) for tag in tags]
    raise BadInputError(f"tags={tags!r:.60} are none.", 'For example: [{"Key": "team", "Value": "rl"}]')


def next_name(name: str) -> str:
    """Return a name that begins with another and is not used."""
    return f"{name[:50]}-{uuid.uuid4().hex[:12]}"
