"""What is recorded of a transform job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from launcher.jobs.model_spec import ModelSpec
from launcher.jobs.record import DrivenRecord
from launcher.jobs.transform_spec import TransformJobSpec


@dataclass
class TransformRecord(DrivenRecord):
    """A transform job.

    Attributes:
        model: the spec of its model, as it was when the job was submitted: deleting a model ends no job.
        parameters: how the container is asked, when that was decided: concurrency, payload, strategy.
        done: what was counted when it ended: objects, failed, skipped, records and bytes_out of all drivers, and
            requests, retried and bytes_in of the last one.
    """

    model: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    done: dict[str, Any] = field(default_factory=dict)

    @property
    def transform_spec(self) -> TransformJobSpec:
        """The spec as it was submitted."""
        return TransformJobSpec.from_dict(self.spec)

    @property
    def model_spec(self) -> ModelSpec:
        """The model that answers."""
        return ModelSpec.from_dict(self.model)

    def check_spec(self) -> None:
        """Refuse a spec that is no transform job's."""
        spec = self.transform_spec
        if not isinstance(spec.job_name, str) or not isinstance(spec.runtime, str):
            raise ValueError("'spec' names no job and runtime")
        if self.model:
            self.model_spec  # noqa: B018 - reads it
