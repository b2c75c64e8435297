"""The names of ``sagemaker.tuner`` of the SDK that have a counterpart here."""

from launcher.sdk.analytics import HyperparameterTuningJobAnalytics
from launcher.sdk.parameters import CategoricalParameter, ContinuousParameter, IntegerParameter, ParameterRange
from launcher.sdk.tuner import (
    HyperbandStrategyConfig,
    HyperparameterTuner,
    StrategyConfig,
    TuningJobCompletionCriteriaConfig,
    WarmStartConfig,
    WarmStartTypes,
)

__all__ = [
    "CategoricalParameter",
    "ContinuousParameter",
    "HyperbandStrategyConfig",
    "HyperparameterTuner",
    "HyperparameterTuningJobAnalytics",
    "IntegerParameter",
    "ParameterRange",
    "StrategyConfig",
    "TuningJobCompletionCriteriaConfig",
    "WarmStartConfig",
    "WarmStartTypes",
]
