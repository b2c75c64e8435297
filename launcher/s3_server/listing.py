"""The listings of the S3 API: buckets, objects in both forms, versions of which there is one, uploads."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from launcher.s3_server.documents import REGION, document, leaf, owner, tag, timestamp, url_encoded
from launcher.s3_server.errors import S3Error
from launcher.s3_server.messages import Request, Response
from launcher.s3_server.multipart import Uploads
from launcher.s3_server.store import ObjectStore, StoredObject


def list_buckets(store: ObjectStore, request: Request) -> Response:
    """ListBuckets."""
    prefix, region = request.query.get("prefix", ""), request.query.get("bucket-region", REGION)
    token = request.query.get("continuation-token")
    after = "" if token is None else _from_token(token)
    limit = request.number("max-buckets", 10_000, 1, 10_000)
    rows = [row for row in store.list_buckets() if row[0].startswith(prefix) and row[0] > after and region == REGION]
    buckets = (
        tag("Bucket", leaf("Name", name), leaf("CreationDate", timestamp(created)), leaf("BucketRegion", REGION))
        for name, created in rows[:limit]
    )
    body = document(
        "ListAllMyBucketsResult",
        owner(),
        tag("Buckets", *buckets),
        leaf("ContinuationToken", _token(rows[limit - 1][0]) if len(rows) > limit else None),
        leaf("Prefix", prefix or None),
    )
    return Response(body=body)


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
            leaf("Key", encoded(stored.key)),
            leaf("LastModified", timestamp(stored.modified)),
            leaf("ETag", f'"{stored.etag}"'),
            *(leaf("ChecksumAlgorithm", name) for name in stored.checksums if name != "type"),
            leaf("ChecksumType", stored.checksums.get("type")),
            leaf("Size", stored.size),
            leaf("StorageClass", storage_class(stored)),
            owner() if with_owner else "",
        )
        for stored in page.objects
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
        *(tag("CommonPrefixes", leaf("Prefix", encoded(common))) for common in page.prefixes),
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
            leaf("Key", encoded(stored.key)),
            leaf("VersionId", "null"),
            leaf("IsLatest", "true"),
            leaf("LastModified", timestamp(stored.modified)),
            leaf("ETag", f'"{stored.etag}"'),
            leaf("Size", stored.size),
            owner(),
            leaf("StorageClass", storage_class(stored)),
        )
        for stored in page.objects
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
        *(tag("CommonPrefixes", leaf("Prefix", encoded(common))) for common in page.prefixes),
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
        place = [(upload.key, upload.id) for upload in uploads]
        begin = place.index((key_marker, id_marker)) + 1 if (key_marker, id_marker) in place else len(uploads)
        uploads = uploads[begin:]
    elif key_marker:
        uploads = [upload for upload in uploads if upload.key.encode() > key_marker.encode()]
    prefixes = []
    if delimiter:
        rest = []
        for upload in uploads:
            cut = upload.key.find(delimiter, len(prefix))
            if cut < 0:
                rest.append(upload)
            elif (common := upload.key[: cut + len(delimiter)]) not in prefixes:
                prefixes.append(common)
        uploads = rest
    page = uploads[:limit]
    truncated = bool(limit) and len(uploads) > limit
    body = document(
        "ListMultipartUploadsResult",
        leaf("Bucket", request.bucket),
        leaf("KeyMarker", encoded(key_marker)),
        leaf("UploadIdMarker", id_marker),
        leaf("NextKeyMarker", encoded(page[-1].key) if truncated else None),
        leaf("NextUploadIdMarker", page[-1].id if truncated else None),
        leaf("Prefix", encoded(prefix)),
        leaf("Delimiter", encoded(delimiter) if delimiter else None),
        leaf("MaxUploads", limit),
        leaf("EncodingType", query.get("encoding-type")),
        leaf("IsTruncated", str(truncated).lower()),
        *(
            tag(
                "Upload",
                leaf("Key", encoded(upload.key)),
                leaf("UploadId", upload.id),
                owner("Initiator"),
                owner(),
                leaf("StorageClass", upload.details["headers"].get("x-amz-storage-class", "STANDARD")),
                leaf("Initiated", timestamp(upload.created)),
                leaf("ChecksumAlgorithm", upload.details["checksum_algorithm"] or None),
                leaf("ChecksumType", upload.details["checksum_type"] or None),
            )
            for upload in page
        ),
        *(tag("CommonPrefixes", leaf("Prefix", encoded(common))) for common in prefixes),
    )
    return Response(body=body)


def storage_class(stored: StoredObject) -> str:
    """Return the class that the client gave; nothing here depends on it."""
    return stored.headers.get("x-amz-storage-class", "STANDARD")


def _encoder(request: Request) -> Callable[[str], str]:
    kind = request.query.get("encoding-type")
    if kind not in (None, "url"):
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")
    return url_encoded if kind else str


def _token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect") from None
