"""The names of ``sagemaker.estimator`` of the SDK that have a counterpart here."""

from launcher.sdk.estimator import Estimator

__all__ = ["Estimator"]
