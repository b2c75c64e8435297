"""The names of ``sagemaker.tensorflow.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import TensorFlowModel
from launcher.sdk.framework_predictors import TensorFlowPredictor

__all__ = ["TensorFlowModel", "TensorFlowPredictor"]
