"""What a user of this library can do wrong. Every message says what happened, where, and what to do."""

from collections.abc import Sequence
from typing import Protocol


class FaultReport(Protocol):
    """All that is wrong with a table; ``str()`` gives a line per problem. See ``data.validation``."""

    @property
    def problems(self) -> Sequence[object]:
        """None when the table is good."""


class BatchRLError(Exception):
    """An input that the library refuses."""


class PresetError(BatchRLError):
    """A preset, or a hyperparameter that overrides one of its values, is wrong."""


class DatasetError(BatchRLError):
    """Logged data are missing, malformed or inconsistent.

    ``report`` has all that is wrong with them, where a check of a whole table found it.
    """

    def __init__(self, message: str, *, report: FaultReport | None = None) -> None:
        super().__init__(message)
        self.report = report


class TrainingError(BatchRLError):
    """Learning went wrong, by its data or by the values of its preset."""


class EvaluationError(BatchRLError):
    """A policy earns less than its preset asks for."""


class CheckpointError(BatchRLError):
    """A folder does not hold a checkpoint that this library wrote, or it does not fit its use."""


class EnvironmentUseError(BatchRLError):
    """An environment is used in a way that it cannot serve."""
