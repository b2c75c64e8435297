"""The listings of the S3 API: buckets, objects in both forms, versions of which there is one, uploads."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from launcher.errors import StorageError
from launcher.s3_server.documents import document, leaf, owner, tag, timestamp, url_encoded
from launcher.s3_server.messages import Request, Response
from launcher.s3_server.multipart import Uploads
from launcher.s3_server.store import ObjectStore, StoredObject
from launcher.settings import REGION


def list_buckets(store: ObjectStore, request: Request) -> Response:
    """ListBuckets."""
    prefix = request.query.get("prefix", "")
    buckets = (
        tag("Bucket", leaf("Name", name), leaf("CreationDate", timestamp(created)), leaf("BucketRegion", REGION))
        for name, created in store.list_buckets()
        if name.startswith(prefix)
    )
    return Response(body=document("ListAllMyBucketsResult", owner(), tag("Buckets", *buckets)))


def list_objects(store: ObjectStore, request: Request) -> Response:
    """ListObjects and ListObjectsV2."""
    query, second = request.query, request.query.get("list-type") == "2"
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    encoded = _encoder(request)
    token = query.get("continuation-token")
    start = query.get("start-after" if second else "marker", "")
    after = _from_token(token) if second and token is not None else start
    limit = request.number("max-keys", 1000)
    page = store.list_page(request.bucket, prefix, delimiter=delimiter, after=after, limit=limit)
    following = page.next_after if limit else None
    with_owner = not second or query.get("fetch-owner") == "true"
    contents = [
        tag(
            "Contents",
            leaf("Key", encoded(one.key)),
            leaf("LastModified", timestamp(one.modified)),
            leaf("ETag", f'"{one.etag}"'),
            *(leaf("ChecksumAlgorithm", name) for name in one.checksums if name != "type"),
            leaf("ChecksumType", one.checksums.get("type")),
            leaf("Size", one.size),
            leaf("StorageClass", storage_class(one)),
            owner() if with_owner else "",
        )
        for one in page.objects
    ]
    if second:
        place = [
            leaf("KeyCount", len(page.objects) + len(page.prefixes)),
            leaf("ContinuationToken", token),
            leaf("NextContinuationToken", _token(following) if following is not None else None),
            leaf("StartAfter", encoded(start) if start else None),
        ]
    else:
        shown = encoded(following) if following is not None and delimiter else None
        place = [leaf("Marker", encoded(start)), leaf("NextMarker", shown)]
    body = document(
        "ListBucketResult",
        leaf("Name", request.bucket),
        leaf("Prefix", encoded(prefix)),
        leaf("Delimiter", encoded(delimiter) if delimiter else None),
        leaf("MaxKeys", limit),
        leaf("EncodingType", query.get("encoding-type")),
        leaf("IsTruncated", str(following is not None).lower()),
        *place,
        *contents,
        *(tag("CommonPrefixes", leaf("Prefix", encoded(one))) for one in page.prefixes),
    )
    return Response(body=body)


def list_versions(store: ObjectStore, request: Request) -> Response:
    """ListObjectVersions: each object has the one version ``null``."""
    query, encoded = request.query, _encoder(request)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = request.number("max-keys", 1000)
    marker = query.get("key-marker", "")
    page = store.list_page(request.bucket, prefix, delimiter=delimiter, after=marker, limit=limit)
    following = page.next_after if limit else None
    versions = (
        tag(
            "Version",
            leaf("Key", encoded(one.key)),
            leaf("VersionId", "null"),
            leaf("IsLatest", "true"),
            leaf("LastModified", timestamp(one.modified)),
            leaf("ETag", f'"{one.etag}"'),
            leaf("Size", one.size),
            owner(),
            leaf("StorageClass", storage_class(one)),
        )
        for one in page.objects
    )
    body = document(
        "ListVersionsResult",
        leaf("Name", request.bucket),
        leaf("Prefix", encoded(prefix)),
        leaf("Delimiter", encoded(delimiter) if delimiter else None),
        leaf("KeyMarker", encoded(marker)),
        leaf("MaxKeys", limit),
        leaf("EncodingType", query.get("encoding-type")),
        leaf("IsTruncated", str(following is not None).lower()),
        leaf("NextKeyMarker", encoded(following) if following is not None else None),
        leaf("NextVersionIdMarker", "null" if following is not None else None),
        *versions,
        *(tag("CommonPrefixes", leaf("Prefix", encoded(one))) for one in page.prefixes),
    )
    return Response(body=body)


def list_uploads(store: ObjectStore, request: Request) -> Response:
    """ListMultipartUploads."""
    query, encoded = request.query, _encoder(request)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = request.number("max-uploads", 1000)
    key_marker, id_marker = query.get("key-marker", ""), query.get("upload-id-marker", "")
    uploads = Uploads(store).under_way(request.bucket, prefix)
    if id_marker:
        place = [(one.key, one.id) for one in uploads]
        begin = place.index((key_marker, id_marker)) + 1 if (key_marker, id_marker) in place else len(uploads)
        uploads = uploads[begin:]
    elif key_marker:
        uploads = [one for one in uploads if one.key.encode() > key_marker.encode()]
    prefixes = []
    if delimiter:
        rest = []
        for one in uploads:
            cut = one.key.find(delimiter, len(prefix))
            if cut < 0:
                rest.append(one)
            elif (common := one.key[: cut + len(delimiter)]) not in prefixes:
                prefixes.append(common)
        uploads = rest
    page = uploads[:limit]
    more = bool(limit) and len(uploads) > limit
    body = document(
        "ListMultipartUploadsResult",
        leaf("Bucket", request.bucket),
        leaf("KeyMarker", encoded(key_marker)),
        leaf("UploadIdMarker", id_marker),
        leaf("NextKeyMarker", encoded(page[-1].key) if more else None),
        leaf("NextUploadIdMarker", page[-1].id if more else None),
        leaf("Prefix", encoded(prefix)),
        leaf("Delimiter", encoded(delimiter) if delimiter else None),
        leaf("MaxUploads", limit),
        leaf("EncodingType", query.get("encoding-type")),
        leaf("IsTruncated", str(more).lower()),
        *(
            tag(
                "Upload",
                leaf("Key", encoded(one.key)),
                leaf("UploadId", one.id),
                owner("Initiator"),
                owner(),
                leaf("StorageClass", "STANDARD"),
                leaf("Initiated", timestamp(one.created)),
                leaf("ChecksumAlgorithm", one.details["checksum_algorithm"] or None),
                leaf("ChecksumType", one.details["checksum_type"] or None),
            )
            for one in page
        ),
        *(tag("CommonPrefixes", leaf("Prefix", encoded(one))) for one in prefixes),
    )
    return Response(body=body)


def storage_class(found: StoredObject) -> str:
    """Return the class that the client gave; nothing here depends on it."""
    return found.headers.get("x-amz-storage-class", "STANDARD")


def _encoder(request: Request) -> Callable[[str], str]:
    kind = request.query.get("encoding-type")
    if kind not in (None, "url"):
        raise StorageError("InvalidArgument", "Invalid Encoding Method specified in Request")
    return url_encoded if kind else str


def _token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise StorageError("InvalidArgument", "The continuation token provided is incorrect") from None
