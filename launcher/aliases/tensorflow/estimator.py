"""The names of ``sagemaker.tensorflow.estimator`` of the SDK that have a counterpart here."""

from launcher.sdk.frameworks import TensorFlow

__all__ = ["TensorFlow"]
