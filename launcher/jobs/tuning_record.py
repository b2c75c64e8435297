"""What is recorded of a hyperparameter tuning job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from launcher.jobs.record import DrivenRecord, object_of
from launcher.jobs.spec import dataclass_of
from launcher.jobs.tuning_spec import Trial, TuningJobSpec


@dataclass
class TuningRecord(DrivenRecord):
    """A hyperparameter tuning job.

    Attributes:
        trials: a training job each, in the order in which their values were chosen.
        completed_by: which criterion ended it before its last training job; empty where none did.
    """

    trials: list[Trial] = field(default_factory=list)
    completed_by: str = ""

    @property
    def tuning_spec(self) -> TuningJobSpec:
        """The spec as it was submitted."""
        return TuningJobSpec.from_dict(self.spec)

    @property
    def results_uri(self) -> str:
        """The prefix that the results of its training jobs are below."""
        return str(self.tuning_spec.definitions[0].request["OutputDataConfig"]["S3OutputPath"])

    def check_spec(self) -> None:
        """Refuse a spec that is no tuning job's."""
        spec = self.tuning_spec
        if not isinstance(spec.job_name, str) or not isinstance(spec.runtime, str):
            raise ValueError("'spec' names no job and runtime")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with every field that a newer version had written.

        Raises:
            ValueError: status or stop reason stands in no table.
        """
        return {**super().to_dict(), "trials": [vars(trial) for trial in self.trials]}

    @classmethod
    def _decode(cls, own: dict[str, Any]) -> None:
        super()._decode(own)
        try:
            own["trials"] = [dataclass_of(Trial, object_of(entry, "a trial")) for entry in own.get("trials", ())]
        except TypeError as error:
            raise ValueError(f"a trial cannot be read: {error}") from error
