"""The names of ``sagemaker.mxnet`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import MXNetModel
from launcher.sdk.framework_predictors import MXNetPredictor
from launcher.sdk.framework_processors import MXNetProcessor
from launcher.sdk.frameworks import MXNet

__all__ = ["MXNet", "MXNetModel", "MXNetPredictor", "MXNetProcessor"]
