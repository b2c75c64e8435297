"""The names of ``sagemaker.mxnet`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import MXNetModel, MXNetPredictor
from launcher.sdk.frameworks import MXNet

__all__ = ["MXNet", "MXNetModel", "MXNetPredictor"]
