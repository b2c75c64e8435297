"""The names of ``sagemaker.image_uris`` of the SDK that have a counterpart here."""

from launcher.sdk.image_uris import retrieve

__all__ = ["retrieve"]
