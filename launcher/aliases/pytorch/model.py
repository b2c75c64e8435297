"""The names of ``sagemaker.pytorch.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import PyTorchModel, PyTorchPredictor

__all__ = ["PyTorchModel", "PyTorchPredictor"]
