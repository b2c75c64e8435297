"""What a user of this library can do wrong. Every message says what happened, where, and what to do."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class FaultReport(Protocol):
    """All that is wrong with a table; ``str()`` gives a line per problem. See ``data.validation``."""

    @property
    def problems(self) -> Sequence[object]:
        """None when the table is good."""


class BatchRLError(Exception):
    """Something that the library cannot do; the classes below say what.

    Attributes:
        exit_code: of the job that ends by it: 2 where it was given what it cannot work with, else 1.
    """

    exit_code = 1


class PresetError(BatchRLError):
    """A preset, or a hyperparameter that overrides one of its values, is wrong."""

    exit_code = 2


class DatasetError(BatchRLError):
    """Logged data are missing, malformed or inconsistent.

    ``report`` has all that is wrong with them, where a check of a whole table found it.
    """

    exit_code = 2

    def __init__(self, message: str, *, report: FaultReport | None = None) -> None:
        super().__init__(message)
        self.report = report


class TrainingError(BatchRLError):
    """Learning went wrong, by its data or by the values of its preset."""


class EvaluationError(BatchRLError):
    """A policy earns less than its preset asks for."""


class CheckpointError(BatchRLError):
    """A folder does not hold a checkpoint that this library wrote, or it does not fit its use."""

    exit_code = 2


class EnvironmentUseError(BatchRLError):
    """An environment is used in a way that it cannot serve."""


def install_command(extra: str) -> str:
    """Return the command that gives this interpreter the packages of an extra, for a shell.

    The image has its packages from its build, so this is for jobs of the process runtime. Their search path has the
    folder with the versions that this project is tested with.
    """
    constraints = next((path for entry in sys.path if (path := Path(entry, "constraints.txt")).is_file()), None)
    constraint = ["--constraint", str(constraints)] if constraints else []
    return shlex.join([sys.executable, "-m", "pip", "install", *constraint, f"sagemaker-launcher[{extra}]"])
