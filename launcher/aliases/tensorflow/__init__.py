"""The names of ``sagemaker.tensorflow`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import TensorFlowModel
from launcher.sdk.framework_predictors import TensorFlowPredictor
from launcher.sdk.framework_processors import TensorFlowProcessor
from launcher.sdk.frameworks import TensorFlow

__all__ = ["TensorFlow", "TensorFlowModel", "TensorFlowPredictor", "TensorFlowProcessor"]
