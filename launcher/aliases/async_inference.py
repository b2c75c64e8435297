"""The names of ``sagemaker.async_inference`` of the SDK that have a counterpart here."""

from launcher.sdk.async_inference import AsyncInferenceConfig, AsyncInferenceResponse, WaiterConfig

__all__ = ["AsyncInferenceConfig", "AsyncInferenceResponse", "WaiterConfig"]
