"""The names of ``sagemaker.tensorflow.processing`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_processors import TensorFlowProcessor

__all__ = ["TensorFlowProcessor"]
