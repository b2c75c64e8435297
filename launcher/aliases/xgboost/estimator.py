"""The names of ``sagemaker.xgboost.estimator`` of the SDK that have a counterpart here."""

from launcher.sdk.frameworks import XGBoost

__all__ = ["XGBoost"]
