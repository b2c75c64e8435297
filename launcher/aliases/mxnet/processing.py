"""The names of ``sagemaker.mxnet.processing`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_processors import MXNetProcessor

__all__ = ["MXNetProcessor"]
