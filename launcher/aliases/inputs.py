"""The names of ``sagemaker.inputs`` of the SDK that have a counterpart here."""

from launcher.sdk.inputs import ShuffleConfig, TrainingInput

__all__ = ["ShuffleConfig", "TrainingInput"]
