"""The names of ``sagemaker.xgboost.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import XGBoostModel
from launcher.sdk.framework_predictors import XGBoostPredictor

__all__ = ["XGBoostModel", "XGBoostPredictor"]
