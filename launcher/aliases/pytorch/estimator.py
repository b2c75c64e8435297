"""The names of ``sagemaker.pytorch.estimator`` of the SDK that have a counterpart here."""

from launcher.sdk.frameworks import PyTorch

__all__ = ["PyTorch"]
