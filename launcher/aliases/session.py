"""The names of ``sagemaker.session`` of the SDK that have a counterpart here."""

from launcher.sdk.session import Session, get_execution_role

__all__ = ["Session", "get_execution_role"]
