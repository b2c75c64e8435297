"""The names of ``sagemaker.huggingface.estimator`` of the SDK that have a counterpart here."""

from launcher.sdk.frameworks import HuggingFace

__all__ = ["HuggingFace"]
