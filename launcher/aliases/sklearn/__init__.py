"""The names of ``sagemaker.sklearn`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import SKLearnModel
from launcher.sdk.framework_predictors import SKLearnPredictor
from launcher.sdk.framework_processors import SKLearnProcessor
from launcher.sdk.frameworks import SKLearn

__all__ = ["SKLearn", "SKLearnModel", "SKLearnPredictor", "SKLearnProcessor"]
