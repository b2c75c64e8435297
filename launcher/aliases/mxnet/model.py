"""The names of ``sagemaker.mxnet.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import MXNetModel
from launcher.sdk.framework_predictors import MXNetPredictor

__all__ = ["MXNetModel", "MXNetPredictor"]
