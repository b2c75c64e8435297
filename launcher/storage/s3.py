"""Any S3 with an address, and AWS itself, as a storage; the one module of the launcher that knows boto3.

Transfers are this module's own: ranges and parts in threads, written straight to their place. boto3's transfer
manager is slower, tells no number of tries, and may switch to its CRT client, which goes to AWS whatever the endpoint.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from launcher.errors import ChannelError, LauncherError, OutputPathError, S3RequestError, StorageError
from launcher.settings import REGION, S3Settings, cache_bytes, cache_folder
from launcher.storage.base import FileVersion, Sources, as_key, changed_files
from launcher.storage.buckets import BucketStorage, S3Object, content_type_of
from launcher.storage.cache import Cache, ObjectVersion, Partial, link_or_copy
from launcher.storage.incoming import Digest, Incoming, WrongContentError, digest_of, part_count
from launcher.storage.parallel import Task, Transfers
from launcher.storage.s3_uris import channel_files, no_objects_error, split_s3_uri
from launcher.trees import OnSkip, Tree, TreeFile

_READ_BYTES = 1 << 20
_MAX_PARTS = 10_000
_MAX_DELETES = 1000
_MAX_KEY_BYTES = 1024
_WAIT_SECONDS = 0.05
_PART_SUFFIX = ".launcher-part"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_THERE = ("404", "NoSuchKey", "NotFound")
_NO_BUCKET = ("NoSuchBucket", "InvalidBucketName")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired")
_REJECTED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken")
_WITHOUT_KEY = ("CreateBucket", "DeleteObjects", "ListBuckets", "ListMultipartUploads", "ListObjectsV2")


@dataclass(frozen=True)
class S3Limits:
    """Timeouts, tries, and sizes of pieces.

    Attributes:
        connect_seconds: for opening a connection.
        read_seconds: for the next bytes of an answer.
        tries: of one request, the first included.
        deadline_seconds: for one request with all its tries; no try begins later.
        workers: requests at a time.
        range_bytes: about the size of a range, of an object that is read in several requests.
        part_bytes: the least size of a part, of a file that is sent in several requests; S3's minimum is 5 MiB.
    """

    connect_seconds: float = 3
    read_seconds: float = 20
    tries: int = 3
    deadline_seconds: float = 60
    workers: int = 8
    range_bytes: int = 16 << 20
    part_bytes: int = 16 << 20


class S3Storage(BucketStorage):
    """``s3://`` URIs of one S3; credentials, profiles and regions are found as boto3 finds them.

    Args:
        settings: which S3; one with an endpoint, or AWS.
        limits: how long and how often to try.
        cache: where fetched inputs are kept; default: the cache of ``LAUNCHER_HOME``.
        keys: the access key and its secret; default: boto3's own.
        configured: for AWS, heed the address that boto3's own settings name.
    """

    def __init__(
        self,
        settings: S3Settings,
        *,
        limits: S3Limits | None = None,
        cache: Cache | None = None,
        keys: tuple[str, str] = ("", ""),
        configured: bool = False,
    ) -> None:
        if settings.endpoint_url is None and settings.kind != "aws":
            raise ValueError(f"an S3 of the kind '{settings.kind}' needs an endpoint")
        self._settings = settings
        self._place = settings.place
        self._limits = limits or S3Limits()
        self._cache = cache
        self._keys = {"aws_access_key_id": keys[0], "aws_secret_access_key": keys[1]} if keys[0] else {}
        self._configured = configured
        self._client_made: Any = None
        self._client_lock = threading.Lock()
        self._request = _Request()

    # What the runner uses.

    def locate(self, uri: str, cache_path: Path) -> tuple[Path, bool]:
        """List the channel, and say where ``fetch`` would put it."""
        files = self._channel(uri)
        file = self._lone_file(uri, files)
        return (cache_path / file, True) if file else (cache_path, False)

    def fetch(self, uri: str, cache_path: Path) -> Path:
        """Download all objects whose key begins with the URI's, through the cache: all of them or none."""
        files = self._channel(uri)
        part = cache_path.with_name(cache_path.name + _PART_SUFFIX)
        shutil.rmtree(part, ignore_errors=True)
        with _nothing_half(lambda: shutil.rmtree(part, ignore_errors=True)):
            for folder in {(part / file).parent for file in files.values()}:
                folder.mkdir(parents=True, exist_ok=True)
            cache = self._cache or Cache(cache_folder(), cache_bytes())
            self._receive({listed: part / file for listed, file in files.items()}, cache)
            shutil.rmtree(cache_path, ignore_errors=True)
            part.rename(cache_path)
        file = self._lone_file(uri, files)
        return cache_path / file if file else cache_path

    def missing(self, uris: Iterable[str]) -> list[str]:
        """Ask for many objects at a time."""
        wanted = list(uris)
        return [uri for uri, listed in zip(wanted, self._heads(wanted), strict=True) if listed is None]

    def lend_all(self, files: Mapping[Path, str]) -> None:
        """Download the objects, through the cache."""
        wanted = list(dict.fromkeys(files.values()))
        listed = dict(zip(wanted, self._heads(wanted), strict=True))
        receipts: dict[S3Object, Path] = {}
        again: dict[Path, Path] = {}
        for target, uri in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            entry = listed[uri]
            if entry is None:
                raise self._error("GetObject", *split_s3_uri(uri), 1, "NoSuchKey", "The specified key does not exist.")
            if entry in receipts:
                again[target] = receipts[entry]
            else:
                receipts[entry] = target
        self._receive(receipts, self._cache or Cache(cache_folder(), cache_bytes()))
        for target, first in again.items():
            link_or_copy(first, target)

    def _heads(self, uris: Sequence[str]) -> list[S3Object | None]:
        with ThreadPoolExecutor(max(1, min(self._limits.workers, len(uris)))) as pool:
            return list(pool.map(self.head, uris))

    def put_file(self, source: Path, uri: str) -> None:
        """Upload ``source``, and abort unfinished uploads to the same key, which a killed process left."""
        bucket, key = self._key(uri)
        if source.stat().st_size > self._limits.part_bytes:
            self._abort_uploads(bucket, key)
        self._send({source: uri}, changing=False)

    def exists(self, uri: str) -> bool:
        """Return whether there is such an object, or one below it."""
        bucket, key = split_s3_uri(uri)
        first = self._first_key(bucket, key)
        return first is not None and (
            first == key or not key or self._first_key(bucket, key.rstrip("/") + "/") is not None
        )

    def size(self, uri: str) -> int | None:
        """Ask for the object's headers."""
        listed = self.head(uri)
        return None if listed is None else listed.size

    def check_writable(self, uri: str) -> None:
        """Look for the bucket; only the first write shows whether it may be written to."""
        bucket, _ = split_s3_uri(uri)
        try:
            self._first_key(bucket, "")
        except StorageError as error:
            if error.aws_code not in _NO_BUCKET:
                raise
            raise OutputPathError(f"output path {uri}: {error.message}", error.hint) from error

    def sync_folder(
        self,
        source: Path,
        uri: str,
        state: dict[str, FileVersion],
        *,
        inside: str = "",
        settled: bool = False,
        on_skip: OnSkip = lambda _: None,
        place: Callable[[str], str] = lambda path: path,
    ) -> int:
        """Upload each new or changed file; one that changes while it is read is left for the next time."""
        with Tree.open(source, inside, make_readable=settled) as tree:
            changed: dict[TreeFile, str] = {}
            for path, _ in changed_files(tree, state, settled=settled, on_skip=on_skip):
                key = as_key(f"{uri.rstrip('/')}/{place(path)}")
                if len(self._key(key)[1].encode()) > _MAX_KEY_BYTES:
                    on_skip(f"{path}: its key would be longer than {_MAX_KEY_BYTES} bytes")
                    continue
                changed[TreeFile(tree, path, make_readable=settled)] = key
            sent: dict[Path | TreeFile, FileVersion] = {}
            try:
                self._send(changed, changing=True, sent=sent)
            finally:
                state.update((file.path, version) for file, version in sent.items() if isinstance(file, TreeFile))
            for file in changed.keys() - sent.keys() if settled else ():
                on_skip(f"{file.path}: it cannot be read, or it changed meanwhile")
            return len(sent)

    # What a session and the command line use besides.

    def buckets(self) -> list[tuple[str, float]]:
        """Return the buckets that the credentials may see."""
        buckets = self._call("ListBuckets").get("Buckets", ())
        return sorted((bucket["Name"], bucket["CreationDate"].timestamp()) for bucket in buckets)

    def entries(self, uri: str, delimiter: str = "") -> Iterator[S3Object | str]:
        """Yield what is listed, a request for each page."""
        bucket, prefix = split_s3_uri(uri)
        token: dict[str, Any] = {"Prefix": prefix} | ({"Delimiter": delimiter} if delimiter else {})
        while True:
            page = self._call("ListObjectsV2", bucket, prefix, token)
            entries: dict[str, S3Object | str] = {
                common["Prefix"]: common["Prefix"] for common in page.get("CommonPrefixes", ())
            }
            for content in page.get("Contents", ()):
                etag = content["ETag"].strip('"')
                modified = content["LastModified"].timestamp()
                entries[content["Key"]] = S3Object(bucket, content["Key"], content["Size"], etag, modified)
            for _, entry in sorted(entries.items(), key=lambda pair: pair[0].encode()):
                yield entry
            if not page.get("IsTruncated"):
                return
            token["ContinuationToken"] = page["NextContinuationToken"]

    def copy_all(self, copies: Mapping[str, str]) -> None:
        """Have the S3 copy the objects, which it does up to 5 GiB each."""

        def copy(source: str, target: str) -> None:
            from_bucket, from_key = self._key(source)
            bucket, key = self._key(target)
            self._call("CopyObject", bucket, key, {"CopySource": {"Bucket": from_bucket, "Key": from_key}})

        Transfers(self._limits.workers, "Copying", 0).run(partial(copy, *uris) for uris in copies.items())

    def delete(self, bucket: str, keys: Iterable[str]) -> None:
        """Delete the objects, 1,000 in a request."""
        waiting = iter(keys)
        while batch := [{"Key": key} for key in itertools.islice(waiting, _MAX_DELETES)]:
            answer = self._call("DeleteObjects", bucket, "", {"Delete": {"Objects": batch, "Quiet": True}})
            for refused in answer.get("Errors", ()):
                code = refused.get("Code", "")
                reason = f"{code}: {refused.get('Message', '')}"
                raise self._error("DeleteObjects", bucket, refused.get("Key", ""), self._request.tries, code, reason)

    def head(self, uri: str) -> S3Object | None:
        """Return what is known of one object; None when there is none."""
        bucket, key = self._key(uri)
        try:
            head = self._call("HeadObject", bucket, key)
        except StorageError as error:
            if error.aws_code in _NOT_THERE:
                return None
            raise
        return _object_of(bucket, key, head)

    def read_bytes(self, uri: str) -> bytes:
        """Return the content of one object."""
        bucket, key = self._key(uri)
        read = bytearray()

        def write(offset: int, data: bytes) -> None:
            del read[offset:]
            read.extend(data)

        self._get(bucket, key, write)
        return bytes(read)

    def download_all(self, files: Mapping[str, Path]) -> None:
        """Download several objects at once, each whole or not at all; folders are made.

        Raises:
            StorageError: an object is missing, or cannot be downloaded.
        """
        wanted: dict[S3Object, Path] = {}
        targets = {}
        for uri, path in files.items():
            head = self.head(uri)
            if head is None:
                bucket, key = self._key(uri)
                self._first_key(bucket, key)  # raises where the bucket itself is missing
                reason = "NoSuchKey (404): The specified key does not exist."
                raise self._error("GetObject", bucket, key, 1, "NoSuchKey", reason)
            part = path.with_name(path.name + _PART_SUFFIX)
            wanted[head], targets[part] = part, path

        def remove() -> None:
            for part in targets:
                part.unlink(missing_ok=True)

        with _nothing_half(remove):
            for part, path in targets.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                part.unlink(missing_ok=True)
            self._receive(wanted, None)
            for part, path in targets.items():
                part.replace(path)

    def upload_all(self, files: Sources) -> None:
        """Upload several files at once.

        Raises:
            StorageError: a file cannot be stored; no part of it is visible then.
        """
        self._send(files, changing=False)

    def make_bucket(self, bucket_uri: str) -> None:
        """Create a bucket unless it exists and may be used."""
        name, _ = split_s3_uri(bucket_uri)
        try:
            self._first_key(name, "")
            return
        except StorageError as error:
            if error.aws_code != "NoSuchBucket":
                raise
        region = self._client.meta.region_name
        options = {} if region == REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self._call("CreateBucket", name, "", options)
        except StorageError as error:
            if error.aws_code != "BucketAlreadyOwnedByYou":  # another process was faster
                raise

    # Inputs.

    def _channel(self, uri: str) -> dict[S3Object, str]:
        """Return the relative file of each object of a channel."""
        region = self._settings.region
        try:
            objects = {listed.key: listed for listed in self.objects(uri)}
        except StorageError as error:
            if error.aws_code not in _NO_BUCKET:
                raise
            raise no_objects_error(uri, f"{error.message} {error.hint}", region=region) from error
        files = channel_files(uri, objects)
        if not files:
            bucket, _ = split_s3_uri(uri)
            why = f"At {self._place} the bucket is there. Keys are case-sensitive: launcher storage ls s3://{bucket}/"
            raise no_objects_error(uri, why, region=region)
        return {objects[key]: file for key, file in files.items()}

    @staticmethod
    def _lone_file(uri: str, files: Mapping[S3Object, str]) -> str:
        """Return the file of a channel whose URI is the whole key of a single object; else an empty text."""
        _, key = split_s3_uri(uri)
        return next(iter(files.values())) if [listed.key for listed in files] == [key] else ""

    def _receive(self, wanted: Mapping[S3Object, Path], cache: Cache | None) -> None:
        """Download each object to its path; the path's folder exists, the path does not."""
        missing = {}
        for listed, target in wanted.items():
            if cache is None or not cache.link(self._version(listed), target):
                missing[listed] = target
        if not missing:
            return
        total = sum(listed.size for listed in missing)
        title = f"Downloading {len(missing)} objects" if len(missing) > 1 else f"Downloading {next(iter(missing)).key}"
        with contextlib.ExitStack() as stack:
            batch = _Batch(Transfers(self._limits.workers, title, total), cache, stack)
            batch.transfers.run(partial(self._begin, batch, listed, target) for listed, target in missing.items())
        if cache is not None:
            cache.prune()

    def _begin(self, batch: _Batch, listed: S3Object, target: Path, tries: int = 1) -> Iterable[Task] | None:
        """Open the file of one object; return the tasks that fill it."""
        cached = None
        if batch.cache is not None:
            version = self._version(listed)
            cached = batch.cache.begin(version)
            if batch.cache.link(version, target):  # another process has downloaded it since
                if cached is not None:
                    cached.discard()
                batch.transfers.advance(listed.size)
                return None
            if cached is None:
                batch.transfers.stopping.wait(_WAIT_SECONDS)
                return [partial(self._begin, batch, listed, target, tries)]
            batch.on_exit.callback(cached.discard)
        path = cached.path if cached is not None else target
        path.touch()
        parts = part_count(listed.etag)
        digest = self._digest(listed, parts) if listed.size > self._limits.range_bytes or parts > 1 else None
        incoming = Incoming(path, listed.size, self._limits.range_bytes, digest)
        batch.on_exit.callback(incoming.close)
        arriving = _Arriving(listed, target, incoming, cached, tries)
        return [partial(self._fill, batch, arriving, number) for number in range(len(incoming.ranges))]

    def _fill(self, batch: _Batch, arriving: _Arriving, number: int) -> Iterable[Task] | None:
        """Download a range; with the last range the object is complete."""
        listed, incoming = arriving.listed, arriving.incoming
        start, stop = incoming.ranges[number]

        def write(offset: int, data: bytes) -> None:
            incoming.write(offset, data)
            batch.transfers.advance(len(data))

        def expect(answer: Mapping[str, Any]) -> None:
            if whole and part_count(listed.etag) < 2:
                incoming.expect(digest_of(listed.etag, answer, listed.size))

        whole = len(incoming.ranges) == 1
        span = None if whole else (start, stop)
        self._get(listed.bucket, listed.key, write, etag=listed.etag, size=stop - start, span=span,
                  on_answer=expect, stopping=batch.transfers.stopping)  # fmt: skip
        if batch.transfers.stopping.is_set():
            return None
        try:
            if not incoming.finish_range(number):
                return None
        except WrongContentError as error:
            batch.transfers.advance(-listed.size)
            return self._again(batch, arriving, error)
        incoming.close()
        os.utime(incoming.path, (listed.modified, listed.modified))
        if arriving.cached is not None:
            arriving.cached.keep(arriving.target)
        return None

    def _again(self, batch: _Batch, arriving: _Arriving, error: WrongContentError) -> Iterable[Task]:
        """Return the tasks that download an object again after its content arrived wrong."""
        listed = arriving.listed
        arriving.incoming.close()
        if arriving.cached is not None:
            arriving.cached.discard()
        if arriving.tries >= self._limits.tries:
            raise self._error(
                "GetObject", listed.bucket, listed.key, arriving.tries, "WrongContent",
                f"the content that arrived is not the one that is stored: {error}.",
            ) from error  # fmt: skip
        return [partial(self._begin, batch, listed, arriving.target, arriving.tries + 1)]

    def _digest(self, listed: S3Object, parts: int) -> Digest | None:
        head = self._call("HeadObject", listed.bucket, listed.key, {"ChecksumMode": "ENABLED"})
        part_bytes = listed.size
        if parts > 1:
            with contextlib.suppress(
                StorageError
            ):  # not every S3 answers this; then only size and connection are checked
                first = self._call("HeadObject", listed.bucket, listed.key, {"PartNumber": 1})
                part_bytes = first["ContentLength"]
        return digest_of(listed.etag, head, part_bytes)

    def _get(
        self,
        bucket: str,
        key: str,
        write: Callable[[int, bytes], None],
        *,
        etag: str = "",
        size: int | None = None,
        span: tuple[int, int] | None = None,
        on_answer: Callable[[Mapping[str, Any]], None] | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        """Read an object, or a range of it, and continue where an answer broke off.

        Args:
            write: gets the offset in the object and the bytes there.
            etag: of the wanted version; another version is an error.
            size: of the expected content; None for any.
            span: begin and end of the range; None for the whole object.
            on_answer: gets each answer before its content.
            stopping: ends the reading early.
        """
        tries = 0
        offset = start = span[0] if span else 0
        options = {"IfMatch": f'"{etag}"'} if etag else {}
        while True:
            # An answer's own checksum covers the whole object, so only a range can be continued in its middle.
            offset = offset if span else start
            if span:
                options["Range"] = f"bytes={offset}-{span[1] - 1}"
            answer = self._call("GetObject", bucket, key, options, tries_before=tries)
            tries += self._request.tries
            left = answer["ContentLength"]
            if size is not None and left != start + size - offset:
                answer["Body"].close()
                reason = f"{left} bytes were sent where {start + size - offset} were asked for."
                raise self._error("GetObject", bucket, key, tries, "WrongContent", reason)
            if on_answer is not None:
                on_answer(answer)
            with contextlib.closing(answer["Body"]) as body:
                while stopping is None or not stopping.is_set():
                    try:
                        chunk = body.read(_READ_BYTES)
                    except (BotoCoreError, OSError) as error:
                        if tries >= self._limits.tries or self._request.overdue():
                            raise self._fault("GetObject", bucket, key, error, tries) from error
                        break  # the next request continues here
                    if not chunk:
                        return
                    write(offset, chunk)
                    offset += len(chunk)
                else:
                    return

    # Results.

    def _send(
        self,
        files: Sources,
        *,
        changing: bool,
        sent: dict[Path | TreeFile, FileVersion] | None = None,
    ) -> None:
        """Upload files; an object appears whole or not at all.

        Args:
            files: URI by path.
            changing: a job is writing to them: a file that changes or goes away meanwhile is left out.
            sent: gets size and mtime in ns of each file that was stored.
        """
        if not files:
            return
        total, names = 0, [path.name for path in files]
        for path in files:
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        title = f"Uploading {len(files)} files" if len(files) > 1 else f"Uploading {names[0]}"
        transfers = Transfers(self._limits.workers, title, total)
        uploads: list[_Upload] = []
        try:
            transfers.run(
                partial(self._begin_upload, transfers, uploads, _Upload(path, *self._key(uri), changing, sent))
                for path, uri in files.items()
            )
        finally:
            for upload in uploads:
                upload.file.close()
                if upload.upload_id and not upload.complete:
                    with contextlib.suppress(StorageError):  # the first error is raised; it may fail this request too
                        self._call("AbortMultipartUpload", upload.bucket, upload.key, {"UploadId": upload.upload_id})

    def _begin_upload(self, transfers: Transfers, uploads: list[_Upload], upload: _Upload) -> Iterable[Task] | None:
        try:
            upload.open(self._limits.part_bytes)
        except OSError as error:
            if upload.changing:
                return None  # the job removed it, replaced it, or made it unreadable
            reason = f"{upload.path} cannot be read: {error.strerror}."
            raise OutputPathError(reason, "Check the path and its permissions.") from error
        uploads.append(upload)
        if upload.size <= self._limits.part_bytes:
            data = upload.read(0, upload.size)
            if self._unchanged(upload):
                self._call("PutObject", upload.bucket, upload.key, upload.described | {"Body": data})
                upload.finish()
            upload.file.close()
            transfers.advance(len(data))
            return None
        options = upload.described | {"ChecksumAlgorithm": "CRC32"}
        created = self._call("CreateMultipartUpload", upload.bucket, upload.key, options)
        upload.upload_id = created["UploadId"]
        return [partial(self._send_part, transfers, upload, number) for number in range(1, upload.parts + 1)]

    def _send_part(self, transfers: Transfers, upload: _Upload, number: int) -> None:
        data = upload.read((number - 1) * upload.part_bytes, upload.part_bytes)
        upload_id = {"UploadId": upload.upload_id}
        options = {"PartNumber": number, "Body": data, "ChecksumAlgorithm": "CRC32"}
        answer = self._call("UploadPart", upload.bucket, upload.key, upload_id | options)
        part = {"PartNumber": number, "ETag": answer["ETag"]}
        if "ChecksumCRC32" in answer:
            part["ChecksumCRC32"] = answer["ChecksumCRC32"]
        transfers.advance(len(data))
        if not upload.add_part(part):
            return
        if self._unchanged(upload):
            parts = sorted(upload.sent_parts, key=lambda part: int(part["PartNumber"]))
            options = {"MultipartUpload": {"Parts": parts}}
            self._call("CompleteMultipartUpload", upload.bucket, upload.key, upload_id | options)
            upload.complete = True
            upload.finish()

    @staticmethod
    def _unchanged(upload: _Upload) -> bool:
        """Return whether the file stayed the same while it was read; only a file of a job may change."""
        if upload.is_unchanged():
            return True
        if upload.changing:
            return False
        raise OutputPathError(f"{upload.path} changed while it was uploaded.", "Upload it again when it is finished.")

    def _abort_uploads(self, bucket: str, key: str) -> None:
        """Abort unfinished uploads to a key, as far as the S3 lists them."""
        with contextlib.suppress(StorageError):
            page = self._call("ListMultipartUploads", bucket, key, {"Prefix": key})
            for upload in page.get("Uploads", ()):
                if upload["Key"] == key:
                    self._call("AbortMultipartUpload", bucket, key, {"UploadId": upload["UploadId"]})

    # Requests.

    def _first_key(self, bucket: str, prefix: str) -> str | None:
        page = self._call("ListObjectsV2", bucket, prefix, {"Prefix": prefix, "MaxKeys": 1})
        return next((str(content["Key"]) for content in page.get("Contents", ())), None)

    def _call(
        self,
        operation: str,
        bucket: str = "",
        key: str = "",
        options: Mapping[str, Any] | None = None,
        *,
        tries_before: int = 0,
    ) -> Any:
        """Make one request, with its tries.

        Raises:
            StorageError: it was refused, or got no answer in time.
        """
        method = getattr(self._client, xform_name(operation))
        names = {"Bucket": bucket} if bucket else {}
        if operation not in _WITHOUT_KEY:
            names["Key"] = key
        self._request.begin(self._limits.deadline_seconds, tries_before)
        try:
            return method(**names, **(options or {}))
        except (BotoCoreError, ClientError, DeadlineError, OSError) as error:
            raise self._fault(operation, bucket, key, error, tries_before + self._request.tries) from error

    @property
    def _client(self) -> Any:
        """The client, made when it is first needed; threads share it."""
        with self._client_lock:
            if self._client_made is None:
                self._client_made = self._make_client()
            return self._client_made

    def _make_client(self) -> Any:
        settings, limits = self._settings, self._limits
        host = urlsplit(settings.endpoint_url or "").hostname
        config = Config(
            retries={"mode": "standard", "total_max_attempts": limits.tries},
            connect_timeout=limits.connect_seconds,
            read_timeout=limits.read_seconds,
            max_pool_connections=limits.workers,
            tcp_keepalive=True,
            # The user said 'aws': an endpoint configured for other programs does not count.
            ignore_configured_endpoint_urls=not self._configured,
            proxies={} if host in _LOOPBACK else None,
        )
        try:
            session = boto3.Session(profile_name=settings.profile, region_name=settings.region, **self._keys)
            client = session.client(
                "s3", endpoint_url=settings.endpoint_url, region_name=session.region_name or REGION, config=config
            )
        except BotoCoreError as error:
            raise S3RequestError(
                f"{self._place} cannot be used: {error}", _hint(type(error).__name__), code=type(error).__name__
            ) from error
        client.meta.events.register("before-send.s3", self._request.on_send)
        return client

    def _fault(self, operation: str, bucket: str, key: str, error: BaseException, tries: int) -> StorageError:
        """Return an error of boto3 as one of the launcher's."""
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):
            code = str(answer.get("Error", {}).get("Code", ""))
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
            text = answer.get("Error", {}).get("Message", "")
            reason = f"{code}: {text}" if str(status) == code else f"{code} ({status}): {text}"
        else:
            code = type(error).__name__
            text = f"nothing came for {self._limits.read_seconds:g} s" if code == "ReadTimeoutError" else str(error)
            reason = f"{code}: {text}"
        if _are_bad_credentials(code):
            with self._client_lock:
                self._client_made = None  # the next request looks for credentials again: they may have been renewed
        return self._error(operation, bucket, key, tries, code, reason)

    def _error(self, operation: str, bucket: str, key: str, tries: int, code: str, reason: str) -> StorageError:
        count = f"{tries} tries" if tries != 1 else "1 try"
        what_of = f" of s3://{bucket}/{key}" if bucket else ""
        message = f"{operation}{what_of} at {self._place} failed after {count}: {reason}"
        return S3RequestError(message, _hint(code, bucket), code=code)

    def _key(self, uri: str) -> tuple[str, str]:
        bucket, key = split_s3_uri(uri)
        if not key:
            raise ChannelError(f"'{uri}' names a bucket and no key.", "Write s3://BUCKET/KEY.")
        return bucket, key

    def _version(self, listed: S3Object) -> ObjectVersion:
        return ObjectVersion(self._settings.endpoint_url or "aws", listed.bucket, listed.key, listed.etag, listed.size)


@dataclass
class _Batch:
    """What the tasks of one download share."""

    transfers: Transfers
    cache: Cache | None
    on_exit: contextlib.ExitStack


@dataclass(frozen=True)
class _Arriving:
    """An object that is being downloaded, with its file and its place in the cache."""

    listed: S3Object
    target: Path
    incoming: Incoming
    cached: Partial | None
    tries: int


@dataclass
class _Upload:
    """A file that is being uploaded.

    Attributes:
        changing: a job is writing to it.
        sent: gets size and mtime in ns when it is stored.
        upload_id: of a multipart upload; empty for a small file.
    """

    path: Path | TreeFile
    bucket: str
    key: str
    changing: bool
    sent: dict[Path | TreeFile, FileVersion] | None
    upload_id: str = ""
    complete: bool = False
    sent_parts: list[dict[str, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, part_bytes: int) -> None:
        if isinstance(self.path, TreeFile):
            descriptor = self.path.open()
        else:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.file = os.fdopen(descriptor, "rb", buffering=0)
        self._status = os.fstat(self.file.fileno())
        self.size = self._status.st_size
        self.part_bytes = max(part_bytes, -(-self.size // _MAX_PARTS))
        self.parts = -(-self.size // self.part_bytes)

    def read(self, offset: int, count: int) -> bytes:
        pieces = []
        while count and (piece := os.pread(self.file.fileno(), count, offset)):
            pieces.append(piece)
            offset, count = offset + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def add_part(self, part: dict[str, Any]) -> bool:
        """Return whether this was the last part that was missing."""
        with self._lock:
            self.sent_parts.append(part)
            return len(self.sent_parts) == self.parts

    def is_unchanged(self) -> bool:
        try:
            now = self.path.stat()
        except OSError:
            return False
        return os.path.samestat(now, self._status) and (now.st_size, now.st_mtime_ns) == self._version

    def finish(self) -> None:
        if self.sent is not None:
            self.sent[self.path] = self._version

    @property
    def described(self) -> dict[str, Any]:
        content_type = content_type_of(Path(self.path.name))
        return {"ContentType": content_type} if content_type else {}

    @property
    def _version(self) -> tuple[int, int]:
        return self._status.st_size, self._status.st_mtime_ns


class DeadlineError(Exception):
    """The deadline of a request has passed before its next try."""


class _Request(threading.local):
    """Counts the tries of the request that a thread is making, and refuses one that would begin too late."""

    tries = 0
    _seconds = 0.0
    _until = 0.0

    def begin(self, seconds: float, tries_before: int) -> None:
        self.tries = 0
        if not tries_before:
            self._seconds, self._until = seconds, time.monotonic() + seconds

    def overdue(self) -> bool:
        return time.monotonic() >= self._until

    def on_send(self, **_request: Any) -> None:
        if self.overdue():
            raise DeadlineError(f"no answer in {self._seconds:g} s")
        self.tries += 1


@contextlib.contextmanager
def _nothing_half(clear_away: Callable[[], None]) -> Iterator[None]:
    """Remove what the block has written when it fails; an error of the disk becomes a LauncherError."""
    try:
        yield
    except OSError as error:
        clear_away()
        place = error.filename2 or error.filename or "the disk"
        raise LauncherError(f"{place} cannot be written: {error.strerror}.", "Check the disk: df -h") from error
    except BaseException:
        clear_away()
        raise


def _object_of(bucket: str, key: str, head: Mapping[str, Any]) -> S3Object:
    etag = head["ETag"].strip('"')
    return S3Object(bucket, key, head["ContentLength"], etag, head["LastModified"].timestamp())


def _are_bad_credentials(code: str) -> bool:
    return code in _EXPIRED + _REJECTED or "Credential" in code or "Token" in code


def _hint(code: str, bucket: str = "BUCKET") -> str:
    """Return what to do about an error code of S3, or a kind of error of boto3."""
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        return "The credentials are known there and may not do this: have the permission granted, or use others."
    if code in _EXPIRED:
        return "The credentials have expired: get new ones, for example with: aws sso login"
    if code in _REJECTED:
        return "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or AWS_PROFILE."
    if _are_bad_credentials(code) or code.startswith("Profile"):
        return "Export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile: export AWS_PROFILE=NAME"
    if code in _NO_BUCKET:
        return "Check the bucket's name, and that LAUNCHER_S3_ENDPOINT means the S3 that has it."
    if code in _NOT_THERE:
        return f"Keys are case-sensitive; list them with: launcher storage ls s3://{bucket}/"
    if code in ("PreconditionFailed", "412"):
        return "The object was replaced while it was being read: try again."
    if code == "WrongContent" or code.startswith("FlexibleChecksum"):
        return "Something between this machine and the S3 changes the data, or the object is damaged: upload it again."
    if code.endswith("Error") and code not in ("InternalError", "ParamValidationError"):
        return "Check that the S3 is up and that LAUNCHER_S3_ENDPOINT is its address, then try again."
    return "Try again later; the S3 itself reports this."
