"""The names of ``sagemaker.local`` of the SDK that have a counterpart here."""

from launcher.sdk.session import LocalSession

__all__ = ["LocalSession"]
