"""The names of ``sagemaker.instance_group`` of the SDK that have a counterpart here."""

from launcher.sdk.instance_group import InstanceGroup

__all__ = ["InstanceGroup"]
