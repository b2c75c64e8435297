"""The names of ``sagemaker.predictor_async`` of the SDK that have a counterpart here."""

from launcher.sdk.async_inference import AsyncPredictor

__all__ = ["AsyncPredictor"]
