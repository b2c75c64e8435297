"""The names of ``sagemaker.transformer`` of the SDK that have a counterpart here."""

from launcher.sdk.transformer import Transformer

__all__ = ["Transformer"]
