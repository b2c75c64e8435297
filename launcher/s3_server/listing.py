"""The listings of the S3 API: buckets, objects in both forms, versions of which there is one, uploads."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence

from launcher.s3_server.documents import REGION, document, flag, leaf, owner, tag, timestamp, url_encoded
from launcher.s3_server.errors import S3Error
from launcher.s3_server.messages import Request, Response
from launcher.s3_server.multipart import Uploads
from launcher.s3_server.store import Listing, ObjectStore, StoredObject


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
    query, second, encoded = request.query, request.query.get("list-type") == "2", _encoder(request)
    token = query.get("continuation-token")
    start = query.get("start-after" if second else "marker", "")
    after = _from_token(token) if second and token is not None else start
    page, limit = _page(store, request, after)
    with_owner = not second or query.get("fetch-owner") == "true"
    if second:
        place = [
            leaf("KeyCount", len(page.objects) + len(page.prefixes)),
            leaf("ContinuationToken", token),
            leaf("NextContinuationToken", None if page.next_after is None else _token(page.next_after)),
            leaf("StartAfter", encoded(start) if start else None),
        ]
    else:
        shown = encoded(page.next_after) if page.next_after is not None and query.get("delimiter") else None
        place = [leaf("Marker", encoded(start)), leaf("NextMarker", shown)]
    contents = (tag("Contents", *_about(stored, encoded), owner() if with_owner else "") for stored in page.objects)
    return _listing("ListBucketResult", request, page, limit, [*place, *contents])


def list_versions(store: ObjectStore, request: Request) -> Response:
    """ListObjectVersions: each object has the one version ``null``."""
    encoded, marker = _encoder(request), request.query.get("key-marker", "")
    page, limit = _page(store, request, marker)
    place = [leaf("KeyMarker", encoded(marker))]
    if page.next_after is not None:
        place += [leaf("NextKeyMarker", encoded(page.next_after)), leaf("NextVersionIdMarker", "null")]
    of_version = (leaf("VersionId", "null"), leaf("IsLatest", "true"), owner())
    versions = (tag("Version", *_about(stored, encoded), *of_version) for stored in page.objects)
    return _listing("ListVersionsResult", request, page, limit, [*place, *versions])


def _page(store: ObjectStore, request: Request, after: str) -> tuple[Listing, int]:
    """Return the objects of the page, and its limit; with a limit of 0 there is no next page."""
    query, limit = request.query, request.number("max-keys", 1000)
    delimiter = query.get("delimiter", "")
    page = store.list_page(request.bucket, query.get("prefix", ""), delimiter=delimiter, after=after, limit=limit)
    return (page if limit else page._replace(next_after=None)), limit


def _about(stored: StoredObject, encoded: Callable[[str], str]) -> list[str]:
    return [
        leaf("Key", encoded(stored.key)),
        leaf("LastModified", timestamp(stored.modified)),
        leaf("ETag", f'"{stored.etag}"'),
        *(leaf("ChecksumAlgorithm", name) for name in stored.checksums if name != "type"),
        leaf("ChecksumType", stored.checksums.get("type")),
        leaf("Size", stored.size),
        leaf("StorageClass", storage_class(stored.headers)),
    ]


def _listing(name: str, request: Request, page: Listing, limit: int, inside: Sequence[str]) -> Response:
    query, encoded = request.query, _encoder(request)
    body = document(
        name,
        leaf("Name", request.bucket),
        leaf("MaxKeys", limit),
        flag("IsTruncated", page.next_after is not None),
        *_question(query, encoded, prefix_as_it_is=name == "ListBucketResult" and query.get("list-type") != "2"),
        *inside,
        *(tag("CommonPrefixes", leaf("Prefix", encoded(prefix))) for prefix in page.prefixes),
    )
    return Response(body=body)


def _question(query: Mapping[str, str], encoded: Callable[[str], str], *, prefix_as_it_is: bool = False) -> list[str]:
    """Return the parameters of the request that a listing repeats; clients decode no prefix of the first form."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    return [
        leaf("Prefix", prefix if prefix_as_it_is else encoded(prefix)),
        leaf("Delimiter", encoded(delimiter) if delimiter else None),
        leaf("EncodingType", query.get("encoding-type")),
    ]


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
        leaf("MaxUploads", limit),
        flag("IsTruncated", truncated),
        *_question(query, encoded),
        *(
            tag(
                "Upload",
                leaf("Key", encoded(upload.key)),
                leaf("UploadId", upload.id),
                owner("Initiator"),
                owner(),
                leaf("StorageClass", storage_class(upload.details["headers"])),
                leaf("Initiated", timestamp(upload.created)),
                leaf("ChecksumAlgorithm", upload.details["checksum_algorithm"] or None),
                leaf("ChecksumType", upload.details["checksum_type"] or None),
            )
            for upload in page
        ),
        *(tag("CommonPrefixes", leaf("Prefix", encoded(common))) for common in prefixes),
    )
    return Response(body=body)


def storage_class(headers: Mapping[str, str]) -> str:
    """Return the class that the client gave with an object; nothing here depends on it."""
    return headers.get("x-amz-storage-class", "STANDARD")


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
