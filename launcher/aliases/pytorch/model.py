"""The names of ``sagemaker.pytorch.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import PyTorchModel
from launcher.sdk.framework_predictors import PyTorchPredictor

__all__ = ["PyTorchModel", "PyTorchPredictor"]
