"""The names of ``sagemaker.model_monitor`` of the SDK that have a counterpart here."""

from launcher.sdk.data_capture import DataCaptureConfig

__all__ = ["DataCaptureConfig"]
