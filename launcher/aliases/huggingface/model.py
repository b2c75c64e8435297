"""The names of ``sagemaker.huggingface.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import HuggingFaceModel
from launcher.sdk.framework_predictors import HuggingFacePredictor

__all__ = ["HuggingFaceModel", "HuggingFacePredictor"]
