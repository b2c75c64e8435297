"""The names of ``sagemaker.sklearn.processing`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_processors import SKLearnProcessor

__all__ = ["SKLearnProcessor"]
