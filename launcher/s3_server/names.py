"""What S3 takes for the name of a bucket and for a key, and its errors for those that are not there."""

from __future__ import annotations

import ipaddress
import re

from launcher.s3_server.errors import S3Error

MAX_KEY_BYTES = 1024
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket_name(name: str) -> str:
    """Return ``name`` if S3 would take it for a new bucket.

    Raises:
        S3Error: InvalidBucketName.
    """
    problem = ""
    if not _BUCKET_NAME.fullmatch(name) or ".." in name:
        problem = "Use 3 to 63 lower-case letters, digits, '.' and '-', beginning and ending with a letter or digit."
    elif name.startswith(_RESERVED_STARTS) or name.endswith(_RESERVED_ENDS):
        problem = f"S3 reserves names that begin or end with {', '.join(_RESERVED_STARTS + _RESERVED_ENDS)}."
    elif _is_address(name):
        problem = "A bucket's name must not look like an IP address."
    if problem:
        raise S3Error("InvalidBucketName", "The specified bucket is not valid.", f"s3://{name}", problem)
    return name


def check_key(bucket: str, key: str) -> bytes:
    """Return ``key`` in UTF-8 if S3 would take it.

    Raises:
        S3Error: KeyTooLongError, or InvalidURI for an empty key, one that is not Unicode, and one with more
            ``..`` than there are folders before them, which S3 refuses too.
    """
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        encoded = b""
    depth = 0
    for part in key.split("/") if ".." in key else ():
        depth += (part != "..") - (part == "..")
        if depth < 0:
            encoded = b""
    if not encoded:
        raise S3Error(
            "InvalidURI",
            "Couldn't parse the specified URI.",
            f"s3://{bucket}/{key!r}",
            "A key is Unicode text, is not empty, and does not lead out of its bucket with '..'.",
        )
    if len(encoded) > MAX_KEY_BYTES:
        raise S3Error(
            "KeyTooLongError", "Your key is too long", f"s3://{bucket}/{key[:60]}...", f"{len(encoded)} of 1024 bytes."
        )
    return encoded


def no_such_key(bucket: str, key: str) -> S3Error:
    """Return S3's error for a key that is not there."""
    parent = key.rpartition("/")[0]
    return S3Error(
        "NoSuchKey",
        "The specified key does not exist.",
        f"s3://{bucket}/{key}",
        f"Keys are case-sensitive; list them with: launcher storage ls s3://{bucket}/{parent + '/' if parent else ''}",
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True
