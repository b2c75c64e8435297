"""The names of ``sagemaker.analytics`` of the SDK that have a counterpart here."""

from launcher.sdk.analytics import HyperparameterTuningJobAnalytics, TrainingJobAnalytics

__all__ = ["HyperparameterTuningJobAnalytics", "TrainingJobAnalytics"]
