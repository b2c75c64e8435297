"""The operations of the S3 API on buckets and objects, over the embedded store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from launcher.s3_server import listing as listing
from launcher.s3_server.access import check_not_expired
from launcher.s3_server.body import MAX_CONTENT_BYTES, too_large
from launcher.s3_server.checksums import ALGORITHMS, checksum_of_file
from launcher.s3_server.documents import REGION, document, flag, leaf, parsed, read_tags, tag
from launcher.s3_server.errors import S3Error
from launcher.s3_server.messages import (
    OWN_HEADERS,
    Request,
    Response,
    byte_range,
    check_delete,
    check_read,
    check_write,
    checksum_headers,
    checksum_leaves,
    copy_result,
    copy_source,
    encryption_headers,
    location_headers,
    numeral,
    object_details,
    object_headers,
)
from launcher.s3_server.moto_bridge import MotoBridge
from launcher.s3_server.store import ObjectStore, StoredObject
from launcher.s3_server.uploads import MultipartApi

_RESPONSE_HEADERS = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}
# What else S3 does to a bucket, or to an object, by the name that it has in the query.
FOREIGN_OF_BUCKETS = frozenset({
    "accelerate", "acl", "analytics", "cors", "encryption", "intelligent-tiering", "inventory", "lifecycle", "logging",
    "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock",
    "replication", "requestPayment", "tagging", "website",
})  # fmt: skip
FOREIGN_OF_OBJECTS = frozenset({"acl", "legal-hold", "retention"})
_REFUSED = frozenset({"restore", "select", "torrent", "session", "renameObject", "metadataTable", "encryption"})
_DELETE_CONDITIONS = (("LastModifiedTime", "x-amz-if-match-last-modified-time"), ("Size", "x-amz-if-match-size"))
_Operation = Callable[[Request], Response]


class S3Api:
    """Answers requests.

    Args:
        foreign: answers the other requests, such as those about a bucket's settings.
    """

    def __init__(self, store: ObjectStore, foreign: MotoBridge) -> None:
        self._store = store
        self._foreign = foreign
        multipart = MultipartApi(store, foreign)
        self._of_buckets: dict[tuple[str, str], _Operation] = {
            ("GET", ""): functools.partial(listing.list_objects, store),
            ("GET", "location"): self._get_location,
            ("GET", "uploads"): functools.partial(listing.list_uploads, store),
            ("GET", "versioning"): self._get_versioning,
            ("GET", "versions"): functools.partial(listing.list_versions, store),
            ("PUT", ""): self._create_bucket,
            ("PUT", "versioning"): self._put_versioning,
            ("HEAD", ""): self._head_bucket,
            ("DELETE", ""): self._delete_bucket,
            ("POST", ""): self._post_form,
            ("POST", "delete"): self._delete_objects,
        }
        self._of_objects: dict[tuple[str, str], _Operation] = {
            ("GET", ""): self._get_object,
            ("GET", "attributes"): self._get_attributes,
            ("GET", "tagging"): self._get_tagging,
            ("GET", "uploadId"): multipart.list_parts,
            ("HEAD", ""): self._get_object,
            ("PUT", ""): self._put_object,
            ("PUT", "tagging"): self._put_tagging,
            ("PUT", "uploadId"): multipart.upload_part,
            ("POST", "uploads"): multipart.create,
            ("POST", "uploadId"): multipart.complete,
            ("DELETE", ""): self._delete_object,
            ("DELETE", "tagging"): self._delete_tagging,
            ("DELETE", "uploadId"): multipart.abort,
        }

    def answer(self, request: Request) -> Response:
        """Return the answer; the request's ``cleanup`` closes the files that the answer holds open.

        Raises:
            S3Error: the answer is an error.
        """
        check_not_expired(request.query)
        if not request.bucket:
            if request.method != "GET":
                raise _not_allowed()
            return listing.list_buckets(self._store, request)
        names = request.query.keys()
        if names & (FOREIGN_OF_OBJECTS if request.key else FOREIGN_OF_BUCKETS):
            with self._store.reading() as index:
                self._store.need_bucket(index, request.bucket)
            if request.key:
                self._store.get(request.bucket, request.key)
            return self._foreign(request)
        if refused := names & _REFUSED:
            raise S3Error("NotImplemented", f"The embedded S3 does not support '{refused.pop()}'.")
        if request.key and request.query.get("versionId", "null") != "null":
            raise S3Error("NoSuchVersion", "The specified version does not exist.")
        operations = self._of_objects if request.key else self._of_buckets
        named = {name for method, name in operations if name and method == request.method} & names
        operation = operations.get((request.method, next(iter(named), "")))
        if operation is None:
            raise _not_allowed()
        return operation(request)

    # Buckets

    def _create_bucket(self, request: Request) -> Response:
        text = request.body.text()
        if text:
            place = parsed(text, "CreateBucketConfiguration").findtext("LocationConstraint")
            if place not in (None, "", REGION):
                raise S3Error(
                    "IllegalLocationConstraintException",
                    f"The {place} location constraint is incompatible for the region specific endpoint this request"
                    f" was sent to; the embedded S3 is {REGION}.",
                )
        if request.headers.get("x-amz-bucket-object-lock-enabled", "false").lower() != "false":
            raise S3Error("NotImplemented", "The embedded S3 does not support object lock.")
        self._store.create_bucket(request.bucket)
        return Response(headers={"Location": f"/{request.bucket}"})

    def _head_bucket(self, request: Request) -> Response:
        with self._store.reading() as index:
            self._store.need_bucket(index, request.bucket)
        return Response(headers=location_headers())

    def _delete_bucket(self, request: Request) -> Response:
        self._store.delete_bucket(request.bucket)
        self._foreign.forget(request.bucket)
        return Response(204)

    def _get_location(self, request: Request) -> Response:
        self._head_bucket(request)
        return Response(body=document("LocationConstraint"))  # us-east-1 has none

    def _get_versioning(self, request: Request) -> Response:
        self._head_bucket(request)
        return Response(body=document("VersioningConfiguration"))

    def _put_versioning(self, request: Request) -> Response:
        self._head_bucket(request)
        if parsed(request.body.text(), "VersioningConfiguration").findtext("Status") == "Enabled":
            raise S3Error("NotImplemented", "The embedded S3 keeps a single version of each object.")
        return Response()

    def _post_form(self, request: Request) -> Response:
        raise S3Error("NotImplemented", "The embedded S3 does not accept HTML forms.", request.bucket)

    def _delete_objects(self, request: Request) -> Response:
        self._head_bucket(request)
        wanted = parsed(request.body.text(), "Delete")
        objects = wanted.findall("Object")
        if not 0 < len(objects) <= 1000:
            raise S3Error("MalformedXML", "DeleteObjects takes 1 to 1000 objects.")
        answers = []
        for entry in objects:
            key = entry.findtext("Key") or ""
            try:
                if entry.findtext("VersionId") not in (None, "", "null"):
                    raise S3Error("NoSuchVersion", "The specified version does not exist.")
                check_delete({header: "" for element, header in _DELETE_CONDITIONS if entry.findtext(element)})
                headers = {"If-Match": etag} if (etag := entry.findtext("ETag")) else {}
                self._store.delete(request.bucket, key, functools.partial(check_write, headers) if headers else None)
            except S3Error as error:
                answers.append(tag("Error", leaf("Key", key), leaf("Code", error.code), leaf("Message", error.words)))
            else:
                if (wanted.findtext("Quiet") or "").lower() != "true":
                    answers.append(tag("Deleted", leaf("Key", key)))
        return Response(body=document("DeleteResult", *answers))

    # Objects

    def _get_object(self, request: Request) -> Response:
        stored, file = request.cleanup.enter_context(self._store.open(request.bucket, request.key))
        check_read(request.headers, stored)
        part = _wanted_part(request, stored)
        chosen = part or byte_range(request.headers.get("Range", ""), stored.size)
        whole = chosen is None
        offset, length = chosen or (0, stored.size)
        enabled = request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
        headers = object_headers(stored, with_checksums=enabled and whole)
        for name, header in _RESPONSE_HEADERS.items():
            if name in request.query:
                headers[header] = request.query[name]
        if not whole:
            headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{stored.size}"
        if "partNumber" in request.query and stored.parts:
            headers["x-amz-mp-parts-count"] = str(len(stored.parts))
        return Response(200 if whole else 206, headers, file=file, offset=offset, length=length)

    def _put_object(self, request: Request) -> Response:
        if "x-amz-copy-source" in request.headers:
            return self._copy_object(request)
        if not request.body.has_length:
            raise S3Error("MissingContentLength", "You must provide the Content-Length HTTP header.")
        if request.body.announced > MAX_CONTENT_BYTES:
            raise too_large()
        details = object_details(request.headers, self._foreign.default_encryption(request.bucket))
        self._head_bucket(request)
        with self._store.content() as content:
            checksums = request.body.receive(content.write)
            details["checksums"] = checksums | ({"type": "FULL_OBJECT"} if checksums else {})
            stored = self._store.put(
                request.bucket, request.key, content,
                content_type=details.pop("content_type"), details=details,
                check=functools.partial(check_write, request.headers),
            )  # fmt: skip
        headers = {
            "ETag": f'"{stored.etag}"',
            **checksum_headers(stored.checksums),
            **encryption_headers(stored.headers),
        }
        return Response(headers=headers)

    def _copy_object(self, request: Request) -> Response:
        details = object_details(request.headers, self._foreign.default_encryption(request.bucket))
        headers = request.headers
        source = copy_source(headers)
        algorithm = headers.get("x-amz-checksum-algorithm", "").upper()

        def replaced(original: StoredObject) -> dict[str, Any]:
            check_read(headers, original, "x-amz-copy-source-")
            own = {name: value for name, value in details["headers"].items() if name in OWN_HEADERS}
            new: dict[str, Any] = {}
            if _directive(headers, "x-amz-metadata-directive") == "REPLACE":
                new = {name: details[name] for name in ("content_type", "metadata", "headers")}
            elif source != (request.bucket, request.key) or own:
                others = {name: value for name, value in original.headers.items() if name not in OWN_HEADERS}
                new["headers"] = others | own
            else:
                raise S3Error(
                    "InvalidRequest",
                    "This copy request is illegal because it is trying to copy an object to itself without changing the"
                    " object's metadata, storage class, website redirect location or encryption attributes.",
                )
            if _directive(headers, "x-amz-tagging-directive") == "REPLACE":
                new["tags"] = details["tags"]
            if algorithm in ALGORITHMS and algorithm not in original.checksums:
                new["checksums"] = {algorithm: checksum_of_file(algorithm, original.path), "type": "FULL_OBJECT"}
                new["part_checksums"] = ()
            return new

        stored = self._store.copy(
            source, request.bucket, request.key, replace=replaced, check=functools.partial(check_write, headers)
        )
        body = copy_result("CopyObjectResult", stored.modified, stored.etag, stored.checksums)
        return Response(headers=encryption_headers(stored.headers), body=body)

    def _delete_object(self, request: Request) -> Response:
        check_delete(request.headers)
        conditional = "If-Match" in request.headers
        check = functools.partial(check_write, request.headers) if conditional else None
        self._store.delete(request.bucket, request.key, check)
        return Response(204)

    def _get_attributes(self, request: Request) -> Response:
        stored = self._store.get(request.bucket, request.key)
        wanted = {name.strip() for name in request.headers.get("x-amz-object-attributes", "").split(",")}
        if not wanted <= {"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}:
            raise S3Error("InvalidArgument", "Invalid attribute name specified.")
        answers = {
            "ETag": leaf("ETag", stored.etag),
            "Checksum": tag("Checksum", *checksum_leaves(stored.checksums)) if stored.checksums else "",
            "ObjectParts": _object_parts(request, stored) if stored.parts and "ObjectParts" in wanted else "",
            "StorageClass": leaf("StorageClass", listing.storage_class(stored.headers)),
            "ObjectSize": leaf("ObjectSize", stored.size),
        }
        body = document("GetObjectAttributesResponse", *(text for name, text in answers.items() if name in wanted))
        return Response(headers={"Last-Modified": object_headers(stored, False)["Last-Modified"]}, body=body)

    def _get_tagging(self, request: Request) -> Response:
        stored = self._store.get(request.bucket, request.key)
        tags = (tag("Tag", leaf("Key", name), leaf("Value", value)) for name, value in stored.tags.items())
        return Response(body=document("Tagging", tag("TagSet", *tags)))

    def _put_tagging(self, request: Request) -> Response:
        pairs = parsed(request.body.text(), "Tagging").iterfind("TagSet/Tag")
        tags = read_tags((pair.findtext("Key") or "", pair.findtext("Value") or "") for pair in pairs)
        self._store.set_tags(request.bucket, request.key, tags)
        return Response()

    def _delete_tagging(self, request: Request) -> Response:
        self._store.set_tags(request.bucket, request.key, {})
        return Response(204)


def _wanted_part(request: Request, stored: StoredObject) -> tuple[int, int] | None:
    """Return the place of the part that ``partNumber`` names."""
    if "partNumber" not in request.query:
        return None
    number = request.number("partNumber", 1, 1, 10_000)
    sizes = stored.parts or (stored.size,)
    if number > len(sizes):
        raise S3Error("InvalidPartNumber", "The requested partnumber is not satisfiable")
    return sum(sizes[: number - 1]), sizes[number - 1]


def _directive(headers: Mapping[str, str], name: str) -> str:
    """Return ``COPY`` or ``REPLACE``."""
    directive = headers.get(name, "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise S3Error("InvalidArgument", f"Unknown {name.removeprefix('x-amz-')}: {directive}")
    return directive


def _object_parts(request: Request, stored: StoredObject) -> str:
    """Return the page of parts that GetObjectAttributes shows."""
    names = ("x-amz-max-parts", "x-amz-part-number-marker")
    limit, marker = (
        numeral(request.headers.get(name, ""), name, default, highest)
        for name, default, highest in zip(names, (1000, 0), (1000, 10_000), strict=True)
    )
    algorithm = next((name for name in ALGORITHMS if name in stored.checksums), "")
    numbers = range(marker + 1, len(stored.parts) + 1)
    page = numbers[:limit]
    parts = (
        tag(
            "Part",
            leaf(f"Checksum{algorithm}", stored.part_checksums[number - 1] if stored.part_checksums else None),
            leaf("PartNumber", number),
            leaf("Size", stored.parts[number - 1]),
        )
        for number in page
    )
    return tag(
        "ObjectParts",
        flag("IsTruncated", len(numbers) > limit),
        leaf("MaxParts", limit),
        leaf("NextPartNumberMarker", page[-1] if page else marker),
        leaf("PartNumberMarker", marker),
        *parts,
        leaf("PartsCount", len(stored.parts)),
    )


def _not_allowed() -> S3Error:
    return S3Error("MethodNotAllowed", "The specified method is not allowed against this resource.")
