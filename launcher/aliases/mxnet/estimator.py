"""The names of ``sagemaker.mxnet.estimator`` of the SDK that have a counterpart here."""

from launcher.sdk.frameworks import MXNet

__all__ = ["MXNet"]
