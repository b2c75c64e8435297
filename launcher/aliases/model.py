"""The names of ``sagemaker.model`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_models import FrameworkModel
from launcher.sdk.model import Model

__all__ = ["FrameworkModel", "Model"]
