"""The names of ``sagemaker.local.local_session`` of the SDK that have a counterpart here."""

from launcher.sdk.session import LocalSession

__all__ = ["LocalSession"]
