"""The names of ``sagemaker.pytorch`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import PyTorchModel
from launcher.sdk.framework_predictors import PyTorchPredictor
from launcher.sdk.framework_processors import PyTorchProcessor
from launcher.sdk.frameworks import PyTorch

__all__ = ["PyTorch", "PyTorchModel", "PyTorchPredictor", "PyTorchProcessor"]
