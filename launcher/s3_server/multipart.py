"""Multipart uploads of the embedded S3: parts are content of their own until an upload is completed or aborted."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.s3_server.checksums import checksum_of_file, combine, is_crc, new_checksum
from launcher.s3_server.contents import NewContent
from launcher.s3_server.errors import S3Error
from launcher.s3_server.names import check_key
from launcher.s3_server.store import Check, ObjectStore, StoredObject

MIN_PART_BYTES = 5 << 20
MAX_PART_NUMBER = 10_000


@dataclass(frozen=True)
class Upload:
    """An upload that was begun.

    Attributes:
        details: what the object will have: ``content_type``, ``metadata``, ``headers``, ``tags``; and
            ``checksum_algorithm`` and ``checksum_type``, which are empty when none was asked for.
    """

    id: str
    bucket: str
    key: str
    created: float
    details: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part that was uploaded; ``checksums`` in base64 by algorithm."""

    number: int
    size: int
    etag: str
    modified: float
    content: str
    checksums: dict[str, str]


@dataclass(frozen=True)
class WantedPart:
    """A part that a client names to complete an upload."""

    number: int
    etag: str
    checksums: dict[str, str]


class Uploads:
    """The uploads of a store. Every method raises a S3Error with S3's code, such as NoSuchUpload."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(self, bucket: str, key: str, details: dict[str, Any]) -> str:
        """Begin an upload and return its id."""
        encoded, name = check_key(bucket, key), uuid.uuid4().hex
        with self._store.settling() as index:
            self._store.need_bucket(index, bucket)
            index.execute(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?)", (name, bucket, encoded, time.time(), json.dumps(details))
            )
        return name

    def find(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Return the upload of that id, which must be for that key."""
        with self._store.reading() as index:
            self._store.need_bucket(index, bucket)
            return self._find(index, bucket, key, upload_id)

    def under_way(self, bucket: str, prefix: str = "") -> list[Upload]:
        """Return all uploads that were begun for keys with a prefix, by key and time."""
        with self._store.reading() as index:
            self._store.need_bucket(index, bucket)
            rows = index.execute("SELECT * FROM uploads WHERE bucket = ? ORDER BY key, created, id", (bucket,))
            uploads = [_upload(row) for row in rows]
        return [upload for upload in uploads if upload.key.startswith(prefix)]

    def put_part(self, upload: Upload, number: int, content: NewContent, checksums: dict[str, str]) -> Part:
        """Make ``content`` a part, instead of an earlier one with that number."""
        if not 1 <= number <= MAX_PART_NUMBER:
            raise S3Error(
                "InvalidArgument", f"Part number must be an integer between 1 and {MAX_PART_NUMBER}, inclusive"
            )
        part = Part(number, content.size, content.md5, time.time(), content.name, checksums)
        with self._store.settling(content) as index:
            self._find(index, upload.bucket, upload.key, upload.id)
            old = index.execute("SELECT content FROM parts WHERE upload = ? AND number = ?", (upload.id, number))
            replaced = [name for (name,) in old]
            index.execute(
                "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)",
                (upload.id, number, part.size, part.etag, part.modified, part.content, json.dumps(checksums)),
            )
        self._store.discard(replaced)
        return part

    def parts(self, upload: Upload) -> list[Part]:
        """Return all parts by number."""
        with self._store.reading() as index:
            rows = index.execute(
                "SELECT number, size, etag, modified, content, checksums FROM parts WHERE upload = ? ORDER BY number",
                (upload.id,),
            )
            return [Part(n, size, etag, at, content, json.loads(sums)) for n, size, etag, at, content, sums in rows]

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an upload and its parts."""
        with self._store.settling() as index:
            self._store.need_bucket(index, bucket)
            left = self._remove(index, self._find(index, bucket, key, upload_id))
        self._store.discard(left)

    def completed(self, bucket: str, key: str, upload_id: str, wanted: Sequence[WantedPart]) -> StoredObject | None:
        """Return the object that the same parts of an upload were completed to before; None where they were not.

        A client that lost the answer asks again.
        """
        stored = self._store.head(bucket, key)
        if stored is None or stored.upload != upload_id:
            return None
        try:
            digests = b"".join(bytes.fromhex(part.etag) for part in wanted)
        except ValueError:
            return None
        return stored if stored.etag == _etag(digests, len(wanted)) else None

    def complete(
        self,
        upload: Upload,
        wanted: Sequence[WantedPart],
        check: Check | None = None,
        given: Mapping[str, str] | None = None,
        size: int | None = None,
    ) -> StoredObject:
        """Make an object of the parts that are named, and forget the others.

        Args:
            given: the object's own checksums as the client has them, by algorithm.
            size: the object's size as the client has it.
        Raises:
            S3Error: BadDigest, InvalidRequest: the object would be another than the client thinks.
        """
        parts = self._chosen(upload, wanted)
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = _etag(digests, len(parts))
        if size is not None and size != sum(part.size for part in parts):
            raise S3Error(
                "InvalidRequest", "The provided 'x-amz-mp-object-size' header value does not match what was computed."
            )
        details = dict(upload.details)
        content_type = details.pop("content_type")
        algorithm, kind = details.pop("checksum_algorithm"), details.pop("checksum_type")
        details["checksums"] = _whole_checksum(parts, algorithm, kind)
        details["parts"] = [part.size for part in parts]
        details["upload"] = upload.id
        if details["checksums"]:
            details["part_checksums"] = [part.checksums[algorithm] for part in parts]
        left: list[str] = []

        def forget(index: sqlite3.Connection) -> None:
            left.extend(self._remove(index, self._find(index, upload.bucket, upload.key, upload.id)))

        with self._store.content() as content:
            try:
                for part in parts:
                    content.append(self._store.content_path(part.content))
            except FileNotFoundError:
                raise _invalid_part() from None  # replaced or aborted meanwhile
            for name, value in (given or {}).items():
                actual = details["checksums"].get(name) or checksum_of_file(name, content.path)
                if actual != value:
                    raise S3Error("BadDigest", f"The {name} you specified did not match the calculated checksum.")
                details["checksums"] = details["checksums"] or {name: actual, "type": "FULL_OBJECT"}
            stored = self._store.put(
                upload.bucket, upload.key, content,
                etag=etag, content_type=content_type, details=details, check=check, also=forget,
            )  # fmt: skip
        self._store.discard(left)
        return stored

    def _chosen(self, upload: Upload, wanted: Sequence[WantedPart]) -> list[Part]:
        parts = {part.number: part for part in self.parts(upload)}
        numbers = [choice.number for choice in wanted]
        if numbers != sorted(set(numbers)):
            raise S3Error(
                "InvalidPartOrder",
                "The list of parts was not in ascending order."
                " The parts list must be specified in order by part number.",
            )
        chosen = []
        for choice in wanted:
            part = parts.get(choice.number)
            if part is None or part.etag != choice.etag:
                raise _invalid_part()
            if any(part.checksums.get(name, value) != value for name, value in choice.checksums.items()):
                raise _invalid_part()
            chosen.append(part)
        if any(part.size < MIN_PART_BYTES for part in chosen[:-1]):
            raise S3Error("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size.")
        return chosen

    def _find(self, index: sqlite3.Connection, bucket: str, key: str, upload_id: str) -> Upload:
        row = index.execute("SELECT * FROM uploads WHERE id = ?", (upload_id,)).fetchone()
        if row is None or (row[1], row[2]) != (bucket, key.encode()):
            raise S3Error(
                "NoSuchUpload",
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been"
                " aborted or completed.",
                f"s3://{bucket}/{key}",
            )
        return _upload(row)

    def _remove(self, index: sqlite3.Connection, upload: Upload) -> list[str]:
        left = [name for (name,) in index.execute("SELECT content FROM parts WHERE upload = ?", (upload.id,))]
        index.execute("DELETE FROM parts WHERE upload = ?", (upload.id,))
        index.execute("DELETE FROM uploads WHERE id = ?", (upload.id,))
        return left


def _etag(digests: bytes, count: int) -> str:
    """Return the ETag of an object of parts, from their MD5s."""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{count}"


def _upload(row: tuple[Any, ...]) -> Upload:
    return Upload(row[0], row[1], row[2].decode(), row[3], json.loads(row[4]))


def _whole_checksum(parts: Sequence[Part], algorithm: str, kind: str) -> dict[str, str]:
    """Return the object's checksum: the CRC of the whole, or the checksum of the parts' checksums and their number."""
    if not algorithm or any(algorithm not in part.checksums for part in parts):
        return {}
    digests = [base64.b64decode(part.checksums[algorithm]) for part in parts]
    if kind == "FULL_OBJECT" and is_crc(algorithm):
        sizes = [part.size for part in parts]
        whole = base64.b64encode(combine(algorithm, list(zip(digests, sizes, strict=True)))).decode()
        return {algorithm: whole, "type": "FULL_OBJECT"}
    composite = new_checksum(algorithm)
    composite.update(b"".join(digests))
    return {algorithm: f"{base64.b64encode(composite.digest()).decode()}-{len(parts)}", "type": "COMPOSITE"}


def _invalid_part() -> S3Error:
    return S3Error(
        "InvalidPart",
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified"
        " entity tag may not match the part's entity tag.",
    )
