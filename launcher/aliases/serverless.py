"""The names of ``sagemaker.serverless`` of the SDK that have a counterpart here."""

from launcher.sdk.serverless import ServerlessInferenceConfig

__all__ = ["ServerlessInferenceConfig"]
