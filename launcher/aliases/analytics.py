"""The names of ``sagemaker.analytics`` of the SDK that have a counterpart here."""

from launcher.sdk.analytics import TrainingJobAnalytics

__all__ = ["TrainingJobAnalytics"]
