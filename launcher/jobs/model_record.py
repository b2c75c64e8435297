"""What is recorded of a model."""

from __future__ import annotations

from launcher.jobs.model_spec import ModelSpec
from launcher.jobs.record import Record


class ModelRecord(Record):
    """A model; its spec is that of a ``ModelSpec``."""

    @property
    def model_spec(self) -> ModelSpec:
        """The spec as it was accepted."""
        return ModelSpec.from_dict(self.spec)

    def check_spec(self) -> None:
        """Refuse a spec that is no model's."""
        if not isinstance(self.model_spec.model_name, str):
            raise ValueError("'spec' names no model")
