"""The names of ``sagemaker.huggingface.processing`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_processors import HuggingFaceProcessor

__all__ = ["HuggingFaceProcessor"]
