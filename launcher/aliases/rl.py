"""The names of ``sagemaker.rl`` of the SDK that have a counterpart here."""

from launcher.sdk.rl import RLEstimator, RLFramework, RLToolkit

__all__ = ["RLEstimator", "RLFramework", "RLToolkit"]
