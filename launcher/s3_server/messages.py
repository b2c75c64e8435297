"""A request and an answer of the S3 API, and what their headers mean."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.header import Header
from email.utils import formatdate, parsedate
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote

from launcher.errors import StorageError
from launcher.s3_server.body import Body
from launcher.s3_server.checksums import ALGORITHMS
from launcher.s3_server.documents import read_tags
from launcher.s3_server.store import StoredObject
from launcher.settings import REGION

# Given with an object and handed back with it; the rest of what a client may say about one is metadata.
KEPT_HEADERS = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Expires",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
)
_MAX_METADATA_BYTES = 2048
_PRESIGNED_MAX_SECONDS = 604_800
# Ignoring one of these would be a promise that is not kept.
_REFUSED_HEADERS = (
    ("x-amz-server-side-encryption-customer-", "encryption with the customer's keys"),
    ("x-amz-copy-source-server-side-encryption-customer-", "encryption with the customer's keys"),
    ("x-amz-object-lock-", "locking objects"),
)


@dataclass
class Request:
    """What a client asks; ``headers`` are case-insensitive, ``url`` is how it addressed the server, ``cleanup``
    is run when it was answered.
    """

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Body
    url: str
    cleanup: ExitStack = field(default_factory=ExitStack)

    def number(self, name: str, default: int, lowest: int = 0, highest: int = 1000) -> int:
        """Return a number of the query, cut to ``highest``.

        Raises:
            StorageError: InvalidArgument.
        """
        text = self.query.get(name, "") or str(default)
        if not text.isdecimal() or not lowest <= int(text) <= 2**31 - 1:
            raise StorageError("InvalidArgument", f"Provided {name} not an integer or within integer range")
        return min(int(text), highest)


@dataclass
class Response:
    """What is answered: ``body``, or ``length`` bytes of ``file`` from ``offset`` on."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: BinaryIO | None = None
    offset: int = 0
    length: int = 0


def split_target(target: str, host: str) -> tuple[str, str, dict[str, str]]:
    """Return bucket, key and query of a request line's target; ``bucket.localhost`` as host names a bucket as well.

    Raises:
        StorageError: InvalidURI.
    """
    path, _, query = target.partition("?")
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    try:
        path = unquote(path, errors="strict")
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise StorageError("InvalidURI", "Couldn't parse the specified URI.", target[:200]) from None
    name = host.rpartition(":")[0] or host
    if name.endswith(".localhost"):
        bucket, key = name.removesuffix(".localhost").removesuffix(".s3"), path[1:]
        if bucket != "s3":
            return bucket, key, dict(pairs)
    bucket, _, key = path[1:].partition("/")
    return bucket, key, dict(pairs)


def copy_source(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return bucket and key that ``x-amz-copy-source`` names.

    Raises:
        StorageError: InvalidArgument, or NoSuchVersion: there is but one.
    """
    path, _, version = headers["x-amz-copy-source"].partition("?versionId=")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise StorageError(
            "InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"
        )
    if version not in ("", "null"):
        raise StorageError("NoSuchVersion", "The specified version does not exist.")
    return bucket, key


def check_not_expired(query: Mapping[str, str], now: float | None = None) -> None:
    """Refuse a presigned URL whose time is over; its signature is not looked at.

    Raises:
        StorageError: AccessDenied, or AuthorizationQueryParametersError for a time that is none.
    """
    moment = time.time() if now is None else now
    try:
        if "X-Amz-Expires" in query:
            seconds = int(query["X-Amz-Expires"])
            begin = calendar.timegm(time.strptime(query.get("X-Amz-Date", ""), "%Y%m%dT%H%M%SZ"))
            if not 0 <= seconds <= _PRESIGNED_MAX_SECONDS:
                raise ValueError
            end = begin + seconds
        elif "Expires" in query and "Signature" in query:
            end = int(query["Expires"])
        else:
            return
    except ValueError:
        raise StorageError(
            "AuthorizationQueryParametersError", "X-Amz-Date or X-Amz-Expires of the presigned URL is not valid"
        ) from None
    if end < moment:
        raise StorageError("AccessDenied", "Request has expired")


def object_details(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what a request says about the object that it puts: ``content_type`` and the details of a stored object.

    Raises:
        StorageError: MetadataTooLarge, InvalidTag, NotImplemented.
    """
    for name in headers:
        for start, what in _REFUSED_HEADERS:
            if name.lower().startswith(start):
                raise StorageError("NotImplemented", f"The embedded S3 does not do {what}: {name}.")
    metadata = {
        name.lower().removeprefix("x-amz-meta-"): _as_text(value)
        for name, value in headers.items()
        if name.lower().startswith("x-amz-meta-")
    }
    if sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items()) > _MAX_METADATA_BYTES:
        raise StorageError("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    kept = {name: _as_text(headers[name]) for name in KEPT_HEADERS if headers.get(name)}
    encodings = [part.strip() for part in kept.pop("Content-Encoding", "").split(",")]
    if encoding := ",".join(part for part in encodings if part and part != "aws-chunked"):
        kept["Content-Encoding"] = encoding
    return {
        "content_type": headers.get("Content-Type", ""),
        "metadata": metadata,
        "headers": kept,
        "tags": read_tags(parse_qsl(headers.get("x-amz-tagging", ""), keep_blank_values=True)),
    }


def object_headers(found: StoredObject, with_checksums: bool) -> dict[str, str]:
    """Return the headers that come with an object."""
    headers = {
        "ETag": f'"{found.etag}"',
        "Last-Modified": formatdate(found.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": found.content_type,
        **{name: _as_header(value) for name, value in found.headers.items()},
        **{f"x-amz-meta-{name}": _as_header(value) for name, value in found.metadata.items()},
    }
    if found.tags:
        headers["x-amz-tagging-count"] = str(len(found.tags))
    return headers | (checksum_headers(found.checksums) if with_checksums else {})


def checksum_headers(checksums: Mapping[str, str]) -> dict[str, str]:
    """Return checksums, and their type, as headers."""
    headers = {f"x-amz-checksum-{name.lower()}": checksums[name] for name in ALGORITHMS if name in checksums}
    return headers | ({"x-amz-checksum-type": checksums["type"]} if "type" in checksums else {})


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Return first byte and length that a ``Range`` header asks for, None where it is to be ignored.

    Raises:
        StorageError: InvalidRange: nothing of it lies within the object.
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if not found or found[0] == "bytes=-":
        return None
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
        empty = int(found[2]) == 0 or size == 0
    else:
        first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
        if found[2] and int(found[2]) < first:
            return None
        empty = first >= size
    if empty:
        raise StorageError("InvalidRange", "The requested range is not satisfiable")
    return first, last - first + 1


def check_read(headers: Mapping[str, str], found: StoredObject, start: str = "") -> None:
    """Hold the conditions of a read; ``start`` is ``x-amz-copy-source-`` for those of a copy.

    Raises:
        StorageError: PreconditionFailed, or NotModified.
    """
    modified = int(found.modified)
    match, none_match = headers.get(f"{start}If-Match"), headers.get(f"{start}If-None-Match")
    unchanged = _seconds(headers.get(f"{start}If-Unmodified-Since"))
    changed = _seconds(headers.get(f"{start}If-Modified-Since"))
    if match is not None:
        if not _names(match, found.etag):
            raise precondition_failed("If-Match")
    elif unchanged is not None and modified > unchanged:
        raise precondition_failed("If-Unmodified-Since")
    if none_match is not None:
        stale = _names(none_match, found.etag)
    else:
        stale = changed is not None and modified <= changed
    if stale:
        raise precondition_failed("If-None-Match") if start else StorageError("NotModified", "Not Modified")


def check_write(headers: Mapping[str, str], found: StoredObject | None) -> None:
    """Hold ``If-Match`` and ``If-None-Match`` of a write.

    Raises:
        StorageError: PreconditionFailed, NoSuchKey, NotImplemented.
    """
    match, none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise StorageError("NotImplemented", "A header you provided implies functionality that is not implemented")
        if found is not None:
            raise precondition_failed("If-None-Match")
    if match is not None:
        if found is None:
            raise StorageError("NoSuchKey", "The specified key does not exist.")
        if not _names(match, found.etag):
            raise precondition_failed("If-Match")


def precondition_failed(condition: str) -> StorageError:
    """Return S3's error for a condition that does not hold."""
    return StorageError(
        "PreconditionFailed", f"At least one of the pre-conditions you specified did not hold: {condition}"
    )


def location_headers() -> dict[str, str]:
    """Return what HeadBucket says."""
    return {"x-amz-bucket-region": REGION}


def _names(header: str, etag: str) -> bool:
    tags = [one.strip().removeprefix("W/").strip('"') for one in header.split(",")]
    return "*" in tags or etag in tags


def _seconds(header: str | None) -> int | None:
    fields = parsedate(header) if header else None
    return calendar.timegm(fields) if fields else None


def _as_text(value: str) -> str:
    """Return a header as text: HTTP hands bytes over as Latin-1, clients mean UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _as_header(value: str) -> str:
    return value if value.isascii() else Header(value, "utf-8", maxlinelen=100_000).encode()
