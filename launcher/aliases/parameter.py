"""The names of ``sagemaker.parameter`` of the SDK that have a counterpart here."""

from launcher.sdk.parameters import CategoricalParameter, ContinuousParameter, IntegerParameter, ParameterRange

__all__ = ["CategoricalParameter", "ContinuousParameter", "IntegerParameter", "ParameterRange"]
