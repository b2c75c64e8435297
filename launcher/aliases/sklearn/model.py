"""The names of ``sagemaker.sklearn.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import SKLearnModel
from launcher.sdk.framework_predictors import SKLearnPredictor

__all__ = ["SKLearnModel", "SKLearnPredictor"]
