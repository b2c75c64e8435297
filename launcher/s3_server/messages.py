"""A request and an answer of the S3 API, and what their headers mean."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote

from launcher.s3_server.body import Body
from launcher.s3_server.checksums import ALGORITHMS
from launcher.s3_server.documents import REGION, document, leaf, read_tags, timestamp
from launcher.s3_server.errors import S3Error
from launcher.s3_server.store import StoredObject
from launcher.s3_server.wire import http_date

ENCRYPTION_HEADERS = ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id")
# Given with an object and handed back with it; the rest of what a client may say about one is metadata.
KEPT_HEADERS = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Expires",
    *ENCRYPTION_HEADERS,
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
)
# What a copy has from its own request and never from its source.
OWN_HEADERS = (*ENCRYPTION_HEADERS, "x-amz-storage-class", "x-amz-website-redirect-location")
STORAGE_CLASSES = frozenset({
    "DEEP_ARCHIVE", "EXPRESS_ONEZONE", "FSX_OPENZFS", "GLACIER", "GLACIER_IR", "INTELLIGENT_TIERING", "ONEZONE_IA",
    "OUTPOSTS", "REDUCED_REDUNDANCY", "SNOW", "STANDARD", "STANDARD_IA",
})  # fmt: skip
_REGION = r"[a-z]{2,4}(?:-[a-z]+){1,3}-[0-9]+"
# S3's hosts below a domain of AWS's: with or without a bucket, in the older and the newer form.
_S3_HOST = re.compile(rf"(?:(.+)\.)?s3(?:-fips|-accelerate|-external-1|-{_REGION})?(?:\.dualstack)?(?:\.{_REGION})?")
_NONE: Mapping[str, str] = MappingProxyType({})
_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
_MAX_METADATA_BYTES = 2048
_OF_FRAMING = re.compile(r"\baws-chunked\b\s*(,|$)")  # how a body is sent is not how the content is encoded
# Ignoring one of these would be a promise that is not kept.
_REFUSED_HEADERS = (
    ("x-amz-server-side-encryption-customer-", "encryption with the customer's keys"),
    ("x-amz-copy-source-server-side-encryption-customer-", "encryption with the customer's keys"),
    ("x-amz-object-lock-", "locking objects"),
    ("x-amz-write-offset-bytes", "appending to objects"),
)
_REFUSED_CONDITIONS = ("x-amz-if-match-last-modified-time", "x-amz-if-match-size")


class Request:
    """What a client asks; ``headers`` are case-insensitive, ``url`` is how it addressed the server, ``cleanup``
    is run when it was answered.
    """

    def __init__(
        self,
        method: str,
        bucket: str,
        key: str,
        query: dict[str, str],
        headers: Mapping[str, str],
        body: Body,
        url: str,
        cleanup: ExitStack,
    ) -> None:
        self.method = method
        self.bucket = bucket
        self.key = key
        self.query = query
        self.headers = headers
        self.body = body
        self.url = url
        self.cleanup = cleanup

    def number(self, name: str, default: int, lowest: int = 0, highest: int = 1000) -> int:
        """Return a number of the query, cut to ``highest``.

        Raises:
            S3Error: InvalidArgument.
        """
        return numeral(self.query.get(name, ""), name, default, highest, lowest)


class Response:
    """What is answered: ``body``, or ``length`` bytes of ``file`` from ``offset`` on, or ``parts`` as they come.

    ``parts`` is closed in any case; what it raises must be an ``OSError``, which ends the connection. ``endless`` parts
    go on for as long as somebody reads: a server that is to end ends them, and they yield at least each second, if
    only nothing.
    """

    def __init__(
        self,
        status: int = 200,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        file: BinaryIO | None = None,
        offset: int = 0,
        length: int = 0,
        parts: Iterator[bytes] | None = None,
        *,
        endless: bool = False,
    ) -> None:
        self.status = status
        self.headers = {} if headers is None else headers
        self.body = body
        self.file = file
        self.offset = offset
        self.length = length
        self.parts = parts
        self.endless = endless


def split_target(target: str, host: str, names: Sequence[str] = ()) -> tuple[str, str, dict[str, str]]:
    """Return bucket, key and query of a request line's target; ``bucket.localhost`` as host names a bucket as well.

    Args:
        names: as ``check_host`` has them.
    Raises:
        S3Error: InvalidURI.
    """
    path, _, query = target.partition("?")
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    try:
        path = unquote(path, errors="strict")
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI.", target[:200]) from None
    if bucket := bucket_of_host(host, names):
        return bucket, path[1:], dict(pairs)
    bucket, _, key = path[1:].partition("/")
    return bucket, key, dict(pairs)


def bucket_of_host(host: str, names: Sequence[str] = ()) -> str:
    """Return the bucket that a ``Host`` header names, empty where it names none.

    Args:
        names: as ``check_host`` has them; S3's own hosts are below those that begin with a dot, as AWS's domains.
    """
    name = (host.rpartition(":")[0] or host).lower()
    endings = [ending for ending in names if ending.startswith(".") and name.endswith(ending)]
    if endings:  # as it comes through a proxy in front of this server
        match = _S3_HOST.fullmatch(name.removesuffix(max(endings, key=len)))
        return (match[1] or "") if match else ""
    if not name.endswith(".localhost"):
        return ""
    bucket = name.removesuffix(".localhost").removesuffix(".s3")
    return "" if bucket == "s3" else bucket


def copy_source(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return bucket and key that ``x-amz-copy-source`` names.

    Raises:
        S3Error: InvalidArgument, or NoSuchVersion: there is but one.
    """
    path, _, version = headers["x-amz-copy-source"].partition("?versionId=")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    if version not in ("", "null"):
        raise S3Error("NoSuchVersion", "The specified version does not exist.")
    return bucket, key


def object_details(headers: Mapping[str, str], default_encryption: Mapping[str, str] = _NONE) -> dict[str, Any]:
    """Return what a request says about the object that it puts: ``content_type`` and the details of a stored object.

    Args:
        default_encryption: the headers that count where the request asks for no encryption of its own.
    Raises:
        S3Error: MetadataTooLarge, InvalidTag, InvalidStorageClass, NotImplemented and others.
    """
    for name in headers:
        for start, feature in _REFUSED_HEADERS:
            if name.lower().startswith(start):
                raise S3Error("NotImplemented", f"The embedded S3 does not support {feature}: {name}.")
    metadata = {
        name.lower().removeprefix("x-amz-meta-"): _as_text(value)
        for name, value in headers.items()
        if name.lower().startswith("x-amz-meta-")
    }
    if sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items()) > _MAX_METADATA_BYTES:
        raise S3Error("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    stored = {name: _as_text(headers[name]) for name in KEPT_HEADERS if headers.get(name)}
    if stored.get("x-amz-storage-class", "STANDARD") not in STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", "The storage class you specified is not valid")
    encryption = stored.get("x-amz-server-side-encryption")
    if encryption is not None and encryption not in _ENCRYPTIONS:
        raise S3Error("InvalidEncryptionAlgorithmError", "The encryption request you specified is not valid.")
    if "x-amz-server-side-encryption-aws-kms-key-id" in stored and encryption in (None, "AES256"):
        raise S3Error("InvalidArgument", "Server Side Encryption with AWS KMS managed key requires HTTP header"
                      " x-amz-server-side-encryption : aws:kms")  # fmt: skip
    if encryption is None:
        stored |= default_encryption
    if encoding := _OF_FRAMING.sub("", stored.pop("Content-Encoding", "")).strip(", "):
        stored["Content-Encoding"] = encoding
    return {
        "content_type": headers.get("Content-Type", ""),
        "metadata": metadata,
        "headers": stored,
        "tags": read_tags(parse_qsl(headers.get("x-amz-tagging", ""), keep_blank_values=True)),
    }


def object_headers(stored: StoredObject, with_checksums: bool) -> dict[str, str]:
    """Return the headers that come with an object."""
    headers = {
        "ETag": f'"{stored.etag}"',
        "Last-Modified": http_date(stored.modified),
        "Accept-Ranges": "bytes",
        "Content-Type": stored.content_type,
        **{name: _as_header(value) for name, value in stored.headers.items()},
        **{f"x-amz-meta-{name}": _as_header(value) for name, value in stored.metadata.items()},
    }
    if stored.tags:
        headers["x-amz-tagging-count"] = str(len(stored.tags))
    return headers | (checksum_headers(stored.checksums) if with_checksums else {})


def encryption_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what an answer says of the encryption that was asked for."""
    return {name: headers[name] for name in ENCRYPTION_HEADERS if name in headers}


def checksum_headers(checksums: Mapping[str, str]) -> dict[str, str]:
    """Return checksums, and their type, as headers."""
    headers = {f"x-amz-checksum-{name.lower()}": checksums[name] for name in ALGORITHMS if name in checksums}
    return headers | ({"x-amz-checksum-type": checksums["type"]} if "type" in checksums else {})


def checksum_leaves(checksums: Mapping[str, str]) -> list[str]:
    """Return checksums, and their type, as elements."""
    leaves = [leaf(f"Checksum{name}", checksums[name]) for name in ALGORITHMS if name in checksums]
    return [*leaves, leaf("ChecksumType", checksums.get("type"))]


def copy_result(name: str, modified: float, etag: str, checksums: Mapping[str, str]) -> bytes:
    """Return the answer to a copy of an object, or to a part."""
    return document(
        name, leaf("LastModified", timestamp(modified)), leaf("ETag", f'"{etag}"'), *checksum_leaves(checksums)
    )


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Return first byte and length that a ``Range`` header asks for, None where it is to be ignored.

    Raises:
        S3Error: InvalidRange: nothing of it lies within the object.
    """
    match = re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", header.strip())
    if not match or match[0] == "bytes=-":
        return None
    if not match[1]:
        first, last = max(0, size - _bounded(match[2])), size - 1
        empty = _bounded(match[2]) == 0 or size == 0
    else:
        first, last = _bounded(match[1]), min(_bounded(match[2] or str(size)), size - 1)
        if match[2] and _bounded(match[2]) < first:
            return None
        empty = first >= size
    if empty:
        raise S3Error("InvalidRange", "The requested range is not satisfiable")
    return first, last - first + 1


def numeral(text: str, name: str, default: int, highest: int, lowest: int = 0) -> int:
    """Return the number that ``name`` was given as, cut to ``highest``.

    Raises:
        S3Error: InvalidArgument.
    """
    digits = text or str(default)
    if not re.fullmatch(r"[0-9]{1,12}", digits) or not lowest <= int(digits) <= 2**31 - 1:
        raise S3Error("InvalidArgument", f"Provided {name} not an integer or within integer range")
    return min(int(digits), highest)


def check_read(headers: Mapping[str, str], stored: StoredObject, start: str = "") -> None:
    """Check the conditions of a read; ``start`` is ``x-amz-copy-source-`` for those of a copy.

    Raises:
        S3Error: PreconditionFailed, or NotModified.
    """
    modified = int(stored.modified)
    match, none_match = headers.get(f"{start}If-Match"), headers.get(f"{start}If-None-Match")
    unchanged = _seconds(headers.get(f"{start}If-Unmodified-Since"))
    changed = _seconds(headers.get(f"{start}If-Modified-Since"))
    if match is not None:
        if not _names(match, stored.etag):
            raise precondition_failed("If-Match")
    elif unchanged is not None and modified > unchanged:
        raise precondition_failed("If-Unmodified-Since")
    if none_match is not None:
        stale = _names(none_match, stored.etag)
    else:
        stale = changed is not None and modified <= changed
    if stale:
        shown = ("ETag", "Last-Modified", "Cache-Control", "Expires")
        headers_of_object = object_headers(stored, with_checksums=False)
        unchanged_headers = {name: headers_of_object[name] for name in shown if name in headers_of_object}
        raise (
            precondition_failed("If-None-Match")
            if start
            else S3Error("NotModified", "Not Modified", headers=unchanged_headers)
        )


def check_write(headers: Mapping[str, str], stored: StoredObject | None) -> None:
    """Check ``If-Match`` and ``If-None-Match`` of a write.

    Raises:
        S3Error: PreconditionFailed, NoSuchKey, NotImplemented.
    """
    match, none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise S3Error("NotImplemented", "A header you provided implies functionality that is not implemented")
        if stored is not None:
            raise precondition_failed("If-None-Match")
    if match is not None:
        if stored is None:
            raise S3Error("NoSuchKey", "The specified key does not exist.")
        if not _names(match, stored.etag):
            raise precondition_failed("If-Match")


def check_delete(headers: Mapping[str, str]) -> None:
    """Refuse conditions that only directory buckets of S3 know: without them more would be deleted than is meant.

    Raises:
        S3Error: NotImplemented.
    """
    if names := [name for name in _REFUSED_CONDITIONS if name in headers]:
        raise S3Error("NotImplemented", f"The embedded S3 does not support conditions on {names[0]}.")


def precondition_failed(condition: str) -> S3Error:
    """Return S3's error for a condition that does not hold."""
    return S3Error("PreconditionFailed", f"At least one of the pre-conditions you specified did not hold: {condition}")


def location_headers() -> dict[str, str]:
    """Return what HeadBucket says."""
    return {"x-amz-bucket-region": REGION}


def _names(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return "*" in tags or etag in tags


def _seconds(header: str | None) -> int | None:
    """Return the time that a header names, None where it names none and is to be ignored."""
    from email.utils import parsedate  # slow to load, and few requests have a condition

    try:
        fields = parsedate(header) if header else None
        return calendar.timegm(fields) if fields else None
    except (ValueError, OverflowError, TypeError):
        return None


def _bounded(digits: str) -> int:
    """Return a number of any length, cut to one that no object is as large as."""
    return int(digits) if len(digits) <= 18 else 10**18


def _as_text(value: str) -> str:
    """Return a header as text: HTTP hands bytes over as Latin-1, clients mean UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _as_header(value: str) -> str:
    if value.isascii():
        return value
    from email.header import Header  # slow to load, and few values need it

    return Header(value, "utf-8", maxlinelen=100_000).encode()
