"""The names of ``sagemaker.mxnet.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import MXNetModel, MXNetPredictor

__all__ = ["MXNetModel", "MXNetPredictor"]
