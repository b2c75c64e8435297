"""The names of ``sagemaker.xgboost`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import XGBoostModel
from launcher.sdk.framework_predictors import XGBoostPredictor
from launcher.sdk.framework_processors import XGBoostProcessor
from launcher.sdk.frameworks import XGBoost

__all__ = ["XGBoost", "XGBoostModel", "XGBoostPredictor", "XGBoostProcessor"]
