"""The names of ``sagemaker.xgboost.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import XGBoostModel, XGBoostPredictor

__all__ = ["XGBoostModel", "XGBoostPredictor"]
