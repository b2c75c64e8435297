"""The ranges of hyperparameters that are tuned, with the SDK's names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from launcher.errors import HyperparameterError
from launcher.sdk.inputs import without_numpy


class ParameterRange:
    """A range of numbers.

    Args:
        min_value: the least value.
        max_value: the greatest value.
        scaling_type: ``Auto``, ``Linear``, ``Logarithmic`` or ``ReverseLogarithmic``.
    """

    __all_types__ = ("Continuous", "Categorical", "Integer")
    kind = ""

    def __init__(self, min_value: float, max_value: float, scaling_type: str = "Auto") -> None:
        self.min_value: Any = without_numpy(min_value)
        self.max_value: Any = without_numpy(max_value)
        self.scaling_type = scaling_type

    def is_valid(self, value: Any) -> bool:
        """Return whether the range holds a value."""
        return bool(self.min_value <= value <= self.max_value)

    def as_tuning_range(self, name: str) -> dict[str, Any]:
        """Return the member of CreateHyperParameterTuningJob that asks for this range."""
        return {
            "Name": name,
            "MinValue": str(self.min_value),
            "MaxValue": str(self.max_value),
            "ScalingType": self.scaling_type,
        }

    @classmethod
    def cast_to_type(cls, value: Any) -> Any:
        """Return a value as this kind of range has it."""
        return float(value)

    @property
    def sample(self) -> Any:
        """Some value of the range, for checks before any job. The launcher's own."""
        return self.min_value


class ContinuousParameter(ParameterRange):
    """A range of numbers with fractions."""

    kind = __name__ = "Continuous"


class IntegerParameter(ParameterRange):
    """A range of whole numbers."""

    kind = __name__ = "Integer"

    @classmethod
    def cast_to_type(cls, value: Any) -> int:
        """Return a value as this kind of range has it."""
        return int(value)


class CategoricalParameter(ParameterRange):
    """Listed values.

    Args:
        values: what may be chosen; text is made of what is none, as in the SDK.
    Raises:
        HyperparameterError: no value.
    """

    kind = __name__ = "Categorical"

    def __init__(self, values: Sequence[Any] | str | float) -> None:
        listed = list(values) if isinstance(values, list | tuple) else [values]
        if not listed:
            raise HyperparameterError("CategoricalParameter([]) lists no value.", "List at least one.")
        self.values = [str(without_numpy(value)) for value in listed]

    def is_valid(self, value: Any) -> bool:
        """Return whether a value is listed."""
        return value in self.values

    def as_tuning_range(self, name: str) -> dict[str, Any]:
        """Return the member of CreateHyperParameterTuningJob that asks for this range."""
        return {"Name": name, "Values": list(self.values)}

    def as_json_range(self, name: str) -> dict[str, Any]:
        """Return the same with each value as JSON, as a script gets its hyperparameters."""
        return {"Name": name, "Values": [json.dumps(value) for value in self.values]}

    @classmethod
    def cast_to_type(cls, value: Any) -> str:
        """Return a value as this kind of range has it."""
        return str(value)

    @property
    def sample(self) -> str:
        """Some value of the range, for checks before any job. The launcher's own."""
        return self.values[0]
