"""The names of ``sagemaker.pytorch.processing`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_processors import PyTorchProcessor

__all__ = ["PyTorchProcessor"]
