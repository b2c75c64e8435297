"""The names of ``sagemaker.estimator`` of the SDK that have a counterpart here."""

from launcher.sdk.estimator import Estimator
from launcher.sdk.frameworks import Framework

__all__ = ["Estimator", "Framework"]
