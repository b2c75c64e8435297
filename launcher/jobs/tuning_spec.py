"""What a hyperparameter tuning job is, in SageMaker's words, and what became of each of its training jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from launcher.jobs.spec import dataclass_of

INTEGER, CONTINUOUS, CATEGORICAL = "Integer", "Continuous", "Categorical"


@dataclass(frozen=True)
class ParameterRange:
    """The values that one hyperparameter may have.

    Attributes:
        kind: ``Integer``, ``Continuous`` or ``Categorical``.
        scaling: ``Linear``, ``Logarithmic`` or ``ReverseLogarithmic``: how values are spread over a range of numbers.
        asked_scaling: the scaling type of the request, ``Auto`` among them.
        low, high: the ends of a range of numbers, both in it.
        values: of a categorical range, as a training job gets them.
    """

    name: str
    kind: str
    scaling: str = "Linear"
    asked_scaling: str = "Auto"
    low: float = 0.0
    high: float = 0.0
    values: tuple[str, ...] = ()

    def text(self, value: float | str) -> str:
        """Return a value as a training job gets it."""
        return value if isinstance(value, str) else str(int(value)) if self.kind == INTEGER else repr(float(value))


@dataclass(frozen=True)
class Objective:
    """What is tuned for.

    Attributes:
        kind: ``Maximize`` or ``Minimize``.
    """

    metric: str
    kind: str

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.kind == "Maximize" else -1


@dataclass(frozen=True)
class TuningDefinition:
    """What the training jobs of a tuning job are made of; a tuning job may have several definitions.

    Attributes:
        name: empty for the only definition.
        request: the CreateTrainingJob document of each training job, without its name and the tuned hyperparameters.
    """

    name: str
    objective: Objective
    ranges: tuple[ParameterRange, ...]
    request: Mapping[str, Any]


@dataclass(frozen=True)
class TuningJobSpec:
    """Everything that a tuning job was asked to do; ``requests.tuning`` makes it of a checked request.

    Attributes:
        strategy: ``Bayesian``, ``Random``, ``Grid`` or ``Hyperband``.
        max_jobs: training jobs in all.
        max_runtime_seconds: of the whole tuning job; 0 sets no limit.
        seed: of every value that is drawn.
        early_stopping: whether the median rule stops training jobs.
        min_resource, max_resource: Hyperband's, in objective values that a training job emits.
        target: the tuning job is over once an objective is as good; None for no target.
        max_not_improving: the tuning job is over after so many jobs in a row that did not improve it; 0 for no limit.
        warm_start: ``IdenticalDataAndAlgorithm`` or ``TransferLearning``; empty without parents.
        parents: tuning jobs whose results are taken into account.
        runtime: of the training jobs.
    """

    job_name: str
    strategy: str
    definitions: tuple[TuningDefinition, ...]
    max_jobs: int
    max_parallel_jobs: int
    runtime: str
    seed: int = 0
    max_runtime_seconds: int = 0
    early_stopping: bool = False
    min_resource: int = 1
    max_resource: int = 0
    target: float | None = None
    max_not_improving: int = 0
    warm_start: str = ""
    parents: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TuningJobSpec:
        """Rebuild the spec from what ``to_dict`` returned, in this version or another.

        Raises:
            TypeError, KeyError, ValueError: it is no spec.
        """
        given = dict(values)
        given["definitions"] = tuple(_definition(entry) for entry in given["definitions"])
        given["parents"] = tuple(given.get("parents", ()))
        return dataclass_of(cls, given)


def _definition(values: Mapping[str, Any]) -> TuningDefinition:
    ranges = tuple(
        dataclass_of(ParameterRange, {**entry, "values": tuple(entry.get("values", ()))}) for entry in values["ranges"]
    )
    objective = dataclass_of(Objective, values["objective"])
    return TuningDefinition(values["name"], objective, ranges, dict(values["request"]))


@dataclass
class Trial:
    """One training job of a tuning job; written before the job is made, so that a crash loses none.

    Attributes:
        number: the first is 1.
        job: the name of its training job.
        definition: the place of its definition.
        values: numbers, and texts of categorical ranges, by hyperparameter.
        stopping: why it was asked to stop early; empty where it was not.
        status: how the training job ended; empty while it has not.
        objective: the objective's last value; None where none was emitted.
        epochs: how many values of the objective were emitted.
        judged: at how many values the rules that stop training jobs have last looked at it.
        failure: why it failed, empty where it did not.
    """

    number: int
    job: str
    definition: int = 0
    values: dict[str, float | str] = field(default_factory=dict)
    stopping: str = ""
    status: str = ""
    objective: float | None = None
    epochs: int = 0
    judged: int = 0
    failure: str = ""

    @property
    def ended(self) -> bool:
        """Whether its training job has ended, and the tuning job knows how."""
        return bool(self.status)

    @property
    def counts(self) -> bool:
        """Whether its objective is a result: it ended with a value, and did not fail."""
        return self.objective is not None and self.status in ("Completed", "Stopped")
