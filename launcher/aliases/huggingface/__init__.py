"""The names of ``sagemaker.huggingface`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import HuggingFaceModel
from launcher.sdk.framework_predictors import HuggingFacePredictor
from launcher.sdk.framework_processors import HuggingFaceProcessor
from launcher.sdk.frameworks import HuggingFace

__all__ = ["HuggingFace", "HuggingFaceModel", "HuggingFacePredictor", "HuggingFaceProcessor"]
