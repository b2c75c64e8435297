"""The names of ``sagemaker.s3`` of the SDK that have a counterpart here."""

from launcher.sdk.s3 import S3Downloader, S3Uploader, parse_s3_url, s3_path_join

__all__ = ["S3Downloader", "S3Uploader", "parse_s3_url", "s3_path_join"]
