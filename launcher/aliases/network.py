"""The names of ``sagemaker.network`` of the SDK that have a counterpart here."""

from launcher.sdk.processing_inputs import NetworkConfig

__all__ = ["NetworkConfig"]
