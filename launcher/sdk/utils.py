"""The functions of ``sagemaker.utils`` that programs use: names with a time in them, and parts of names."""

from __future__ import annotations

import re
import secrets
import time

_STAMPED = re.compile(r"(.+)-(\d{4}(?:-\d{2}){5}-\d{3}|\d{6}-\d{4}).*")


def name_from_base(base: str, max_length: int = 63, short: bool = False) -> str:
    """Return ``base``, cut to the length, and the time."""
    stamp = sagemaker_short_timestamp() if short else sagemaker_timestamp()
    return f"{base[: max_length - len(stamp) - 1]}-{stamp}"


def name_from_image(image: str, max_length: int = 63) -> str:
    """Return the name of an image without registry and tag, and the time."""
    return name_from_base(base_name_from_image(image), max_length)


def unique_name_from_base(base: str, max_length: int = 63) -> str:
    """Return ``base``, cut to the length, seconds since 1970, and four digits drawn at random."""
    end = f"-{int(time.time())}-{secrets.token_hex(2)}"
    return f"{base[: max_length - len(end)]}{end}"


def base_name_from_image(image: str, default_base_name: str | None = None) -> str:
    """Return the name of an image without registry and tag."""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0] or default_base_name or image


def base_from_name(name: str) -> str:
    """Return what ``name_from_base`` made a name of; a name without a time as it is."""
    match = _STAMPED.fullmatch(name)
    return match.group(1) if match else name


def sagemaker_timestamp() -> str:
    """Return the time in UTC, to the millisecond, as names have it."""
    now = time.time()
    return time.strftime("%Y-%m-%d-%H-%M-%S-", time.gmtime(now)) + f"{int(now * 1000) % 1000:03d}"


def sagemaker_short_timestamp() -> str:
    """Return the local time to the minute, as short names have it."""
    return time.strftime("%y%m%d-%H%M")


def get_short_version(framework_version: str) -> str:
    """Return the first two numbers of a version."""
    return ".".join(framework_version.split(".")[:2])
