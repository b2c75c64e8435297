"""The names of ``sagemaker.sklearn.estimator`` of the SDK that have a counterpart here."""

from launcher.sdk.frameworks import SKLearn

__all__ = ["SKLearn"]
