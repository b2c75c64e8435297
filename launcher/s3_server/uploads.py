"""The multipart operations of the S3 API."""

from __future__ import annotations

import functools
import re
from urllib.parse import quote

from launcher.s3_server.checksums import ALGORITHMS
from launcher.s3_server.documents import document, flag, leaf, malformed, owner, parsed, tag, timestamp
from launcher.s3_server.errors import S3Error
from launcher.s3_server.listing import storage_class
from launcher.s3_server.messages import (
    Request,
    Response,
    check_read,
    check_write,
    checksum_headers,
    checksum_leaves,
    copy_result,
    copy_source,
    encryption_headers,
    object_details,
)
from launcher.s3_server.moto_bridge import MotoBridge
from launcher.s3_server.multipart import Upload, Uploads, WantedPart
from launcher.s3_server.store import ObjectStore


class MultipartApi:
    """Create, upload, copy, list, complete, abort."""

    def __init__(self, store: ObjectStore, foreign: MotoBridge) -> None:
        self._store = store
        self._foreign = foreign
        self._uploads = Uploads(store)

    def create(self, request: Request) -> Response:
        """CreateMultipartUpload."""
        details = object_details(request.headers, self._foreign.default_encryption(request.bucket))
        algorithm = request.headers.get("x-amz-checksum-algorithm", "").upper()
        if algorithm and algorithm not in ALGORITHMS:
            raise S3Error(
                "InvalidRequest", "Checksum algorithm provided is unsupported. Please try again with any of the valid"
                f" types: {list(ALGORITHMS)}"
            )  # fmt: skip
        kind = request.headers.get("x-amz-checksum-type", "").upper()
        if algorithm and not kind:
            kind = "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
        if (kind, algorithm) in {("FULL_OBJECT", "SHA1"), ("FULL_OBJECT", "SHA256"), ("COMPOSITE", "CRC64NVME")}:
            raise S3Error("InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm} checksum.")
        details |= {"checksum_algorithm": algorithm, "checksum_type": kind if algorithm else ""}
        upload_id = self._uploads.create(request.bucket, request.key, details)
        body = document(
            "InitiateMultipartUploadResult",
            leaf("Bucket", request.bucket), leaf("Key", request.key), leaf("UploadId", upload_id),
        )  # fmt: skip
        headers = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind} if algorithm else {}
        return Response(headers=headers | encryption_headers(details["headers"]), body=body)

    def upload_part(self, request: Request) -> Response:
        """UploadPart and UploadPartCopy."""
        upload = self._uploads.find(request.bucket, request.key, request.query["uploadId"])
        number = request.number("partNumber", 0, 0, 2**31)
        if "x-amz-copy-source" in request.headers:
            return self._copy_part(request, upload, number)
        with self._store.content() as content:
            checksums = request.body.receive(content.write)
            part = self._uploads.put_part(upload, number, content, checksums)
        headers = {
            "ETag": f'"{part.etag}"',
            **checksum_headers(checksums),
            **encryption_headers(upload.details["headers"]),
        }
        return Response(headers=headers)

    def _copy_part(self, request: Request, upload: Upload, number: int) -> Response:
        with self._store.open(*copy_source(request.headers)) as (source, file), self._store.content() as content:
            check_read(request.headers, source, "x-amz-copy-source-")
            offset, left = 0, source.size
            if wanted := request.headers.get("x-amz-copy-source-range"):
                match = re.fullmatch(r"bytes=([0-9]{1,18})-([0-9]{1,18})", wanted.strip())
                if not match or not int(match[1]) <= int(match[2]) < source.size:
                    raise S3Error(
                        "InvalidArgument",
                        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last"
                        f" are the zero-based offsets of the first and last bytes to copy: {wanted}",
                    )
                offset, left = int(match[1]), int(match[2]) - int(match[1]) + 1
            file.seek(offset)
            while left and (chunk := file.read(min(left, 1 << 20))):
                content.write(chunk)
                left -= len(chunk)
            part = self._uploads.put_part(upload, number, content, {})
        body = copy_result("CopyPartResult", part.modified, part.etag, part.checksums)
        return Response(headers=encryption_headers(upload.details["headers"]), body=body)

    def complete(self, request: Request) -> Response:
        """CompleteMultipartUpload."""
        tree = parsed(request.body.text(checksums_are_of_body=False), "CompleteMultipartUpload")
        wanted = []
        for entry in tree.iterfind("Part"):
            number = (entry.findtext("PartNumber") or "").strip()
            checksums = {name: text for name in ALGORITHMS if (text := entry.findtext(f"Checksum{name}"))}
            if not re.fullmatch(r"[0-9]{1,9}", number):
                raise malformed()
            wanted.append(WantedPart(int(number), (entry.findtext("ETag") or "").strip().strip('"'), checksums))
        if not wanted:
            raise malformed()
        stored = self._uploads.completed(request.bucket, request.key, request.query["uploadId"], wanted)
        if stored is None:
            upload = self._uploads.find(request.bucket, request.key, request.query["uploadId"])
            given = {name: text for name in ALGORITHMS if (text := request.headers.get(f"x-amz-checksum-{name}"))}
            size = request.headers.get("x-amz-mp-object-size")
            if size is not None and not re.fullmatch(r"[0-9]{1,18}", size):
                raise S3Error("InvalidRequest", "x-amz-mp-object-size is not a number of bytes.")
            stored = self._uploads.complete(
                upload,
                wanted,
                functools.partial(check_write, request.headers),
                given,
                None if size is None else int(size),
            )
        body = document(
            "CompleteMultipartUploadResult",
            leaf("Location", f"{request.url}/{request.bucket}/{quote(request.key)}"),
            leaf("Bucket", request.bucket),
            leaf("Key", request.key),
            leaf("ETag", f'"{stored.etag}"'),
            *checksum_leaves(stored.checksums),
        )
        return Response(headers=encryption_headers(stored.headers), body=body)

    def abort(self, request: Request) -> Response:
        """AbortMultipartUpload."""
        self._uploads.abort(request.bucket, request.key, request.query["uploadId"])
        return Response(204)

    def list_parts(self, request: Request) -> Response:
        """ListParts."""
        upload = self._uploads.find(request.bucket, request.key, request.query["uploadId"])
        marker = request.number("part-number-marker", 0, 0, 10_000)
        limit = request.number("max-parts", 1000)
        parts = [part for part in self._uploads.parts(upload) if part.number > marker]
        page = parts[:limit]
        truncated = bool(limit) and len(parts) > limit
        body = document(
            "ListPartsResult",
            leaf("Bucket", request.bucket),
            leaf("Key", request.key),
            leaf("UploadId", upload.id),
            leaf("PartNumberMarker", marker),
            leaf("NextPartNumberMarker", page[-1].number if page else 0),
            leaf("MaxParts", limit),
            flag("IsTruncated", truncated),
            owner("Initiator"),
            owner(),
            leaf("StorageClass", storage_class(upload.details["headers"])),
            leaf("ChecksumAlgorithm", upload.details["checksum_algorithm"] or None),
            leaf("ChecksumType", upload.details["checksum_type"] or None),
            *(
                tag(
                    "Part",
                    leaf("PartNumber", part.number),
                    leaf("LastModified", timestamp(part.modified)),
                    leaf("ETag", f'"{part.etag}"'),
                    leaf("Size", part.size),
                    *checksum_leaves(part.checksums),
                )
                for part in page
            ),
        )
        return Response(body=body)
