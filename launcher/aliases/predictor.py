"""The names of ``sagemaker.predictor`` of the SDK that have a counterpart here."""

from launcher.sdk.predictor import Predictor

__all__ = ["Predictor"]
