"""The names of ``sagemaker.s3_utils`` of the SDK that have a counterpart here."""

from launcher.sdk.s3 import is_s3_url, parse_s3_url, s3_path_join

__all__ = ["is_s3_url", "parse_s3_url", "s3_path_join"]
