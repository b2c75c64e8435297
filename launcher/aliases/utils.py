"""The names of ``sagemaker.utils`` of the SDK that have a counterpart here."""

from launcher.sdk.utils import (
    base_from_name,
    base_name_from_image,
    get_short_version,
    name_from_base,
    name_from_image,
    sagemaker_short_timestamp,
    sagemaker_timestamp,
    unique_name_from_base,
)

__all__ = [
    "base_from_name",
    "base_name_from_image",
    "get_short_version",
    "name_from_base",
    "name_from_image",
    "sagemaker_short_timestamp",
    "sagemaker_timestamp",
    "unique_name_from_base",
]
