"""The names of ``sagemaker.xgboost.processing`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_processors import XGBoostProcessor

__all__ = ["XGBoostProcessor"]
