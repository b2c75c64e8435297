"""What an endpoint is: its configuration, and a deployment, which is that with the models as they were."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from launcher.jobs.model_spec import ModelSpec
from launcher.jobs.spec import dataclass_of

_CONTAINERS = 6  # characters of an identity


@dataclass(frozen=True)
class VariantSpec:
    """A production variant.

    Attributes:
        weight: its share of the requests, against the sum of all weights.
        health_check_seconds: for a container's first answer to ``/ping``; None takes SageMaker's limit.
        without_effect: members of the request that ask for nothing here, as they were given.
    """

    name: str
    model_name: str
    instance_count: int = 1
    weight: float = 1.0
    instance_type: str | None = None
    health_check_seconds: int | None = None
    without_effect: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EndpointConfigSpec:
    """An endpoint configuration as CreateEndpointConfig describes it.

    Attributes:
        capture: DataCaptureConfig, as it was given; empty where there is none.
        asynchronous: AsyncInferenceConfig, the same.
        s3: which S3 its ``s3://`` URIs mean, as ``S3Settings.to_dict`` writes it; None where it has none.
    """

    config_name: str
    variants: tuple[VariantSpec, ...]
    capture: Mapping[str, Any] = field(default_factory=dict)
    asynchronous: Mapping[str, Any] = field(default_factory=dict)
    enable_network_isolation: bool = False
    role: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    s3: Mapping[str, Any] | None = None
    without_effect: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EndpointConfigSpec:
        """Rebuild the spec from what ``to_dict`` returned, in this version or another.

        Raises:
            TypeError, ValueError, KeyError: it is no spec.
        """
        given = dict(values)
        given["variants"] = tuple(dataclass_of(VariantSpec, dict(variant)) for variant in given["variants"])
        return dataclass_of(cls, given)


@dataclass(frozen=True)
class Deployment:
    """What answers for an endpoint, or is to: nothing of it changes when its models and configuration are deleted.

    Attributes:
        identity: tells it from other deployments of the endpoint.
        models: by the name of the variant.
    """

    identity: str
    config: EndpointConfigSpec
    models: Mapping[str, ModelSpec]

    @classmethod
    def new(cls, config: EndpointConfigSpec, models: Mapping[str, ModelSpec]) -> Deployment:
        """Return a deployment with containers of its own."""
        return cls(uuid.uuid4().hex[:12], config, models)

    @property
    def containers(self) -> str:
        """Part of its containers' names; deployments that differ in nothing but weights share them."""
        return self.identity[:_CONTAINERS]

    def resized(self, weights: Mapping[str, float], counts: Mapping[str, int]) -> Deployment:
        """Return a deployment with other weights and numbers of containers, by variant, and all else as it is.

        Where no number differs it keeps the containers.
        """
        variants = tuple(
            replace(
                variant,
                weight=weights.get(variant.name, variant.weight),
                instance_count=counts.get(variant.name, variant.instance_count),
            )
            for variant in self.config.variants
        )
        deployment = Deployment.new(replace(self.config, variants=variants), self.models)
        before = [variant.instance_count for variant in self.config.variants]
        if [variant.instance_count for variant in variants] != before:
            return deployment
        return replace(deployment, identity=self.containers + deployment.identity[_CONTAINERS:])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` takes them back."""
        return {
            "identity": self.identity,
            "config": self.config.to_dict(),
            "models": {name: model.to_dict() for name, model in self.models.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Deployment:
        """Rebuild what ``to_dict`` returned.

        Raises:
            TypeError, ValueError, KeyError: it is no deployment.
        """
        models = {name: ModelSpec.from_dict(model) for name, model in values["models"].items()}
        return cls(str(values["identity"]), EndpointConfigSpec.from_dict(values["config"]), models)
