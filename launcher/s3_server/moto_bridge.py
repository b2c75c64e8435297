"""The rest of the S3 API: what is not about the content of objects is answered by moto, and kept in its memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from launcher.s3_server.documents import ACCOUNT_ID, OWNER_NAME, REGION, parsed
from launcher.s3_server.errors import S3Error
from launcher.s3_server.messages import ENCRYPTION_HEADERS, Request, Response

_LOG = logging.getLogger("launcher.s3_server")
_HOST = "https://s3.amazonaws.com"  # what moto knows itself by; nothing is sent there
# The one owner of everything, as moto calls it and as listings do.
_OWNER = (
    (b"75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a", ACCOUNT_ID.encode()),
    (b"<DisplayName>webfile</DisplayName>", f"<DisplayName>{OWNER_NAME}</DisplayName>".encode()),
)
# Of one connection, and of a body's framing, out of which it was taken.
_NOT_FORWARDED = frozenset({
    "connection", "content-encoding", "content-length", "date", "server", "transfer-encoding", "x-amz-content-sha256",
    "x-amz-decoded-content-length", "x-amz-trailer",
})  # fmt: skip


class MotoBridge:
    """Answers requests by moto's S3, loaded when the first one comes; it is told of the buckets and keys it needs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stubber: Any = None
        self._encryptions: dict[str, dict[str, str]] = {}

    def __call__(self, request: Request) -> Response:
        """Return moto's answer to a request for a bucket, or an object, that is there."""
        with self._lock:
            self._make_known(request)
            path = quote(f"/{request.bucket}/{request.key}" if request.key else f"/{request.bucket}")
            query = f"?{urlencode(request.query)}" if request.query else ""
            body = request.body.text()
            if body.strip() and "policy" not in request.query:  # a policy is JSON
                parsed(body)
            try:
                answer = self._ask(request.method, path + query, dict(request.headers.items()), body)
            except S3Error:
                raise
            except Exception as error:  # noqa: BLE001 - moto raises anything at requests that it does not understand
                _LOG.info("moto could not answer %s %s", request.method, path + query, exc_info=error)
                answer = None
            if answer is None or (answer.status >= 500 and answer.status != 501):
                raise S3Error("InvalidRequest", "The request is not valid for this setting.")
            if "encryption" in request.query and answer.status < 300:
                self._note_encryption(request, body)
            return answer

    def default_encryption(self, bucket: str) -> Mapping[str, str]:
        """Return what a bucket's default encryption adds to the headers of a put."""
        return self._encryptions.get(bucket, {})

    def _note_encryption(self, request: Request, body: bytes) -> None:
        if request.method == "DELETE":
            self._encryptions.pop(request.bucket, None)
        elif request.method == "PUT":
            default = parsed(body).find("Rule/ApplyServerSideEncryptionByDefault")
            algorithm = default.findtext("SSEAlgorithm") if default is not None else None
            key = default.findtext("KMSMasterKeyID") if default is not None else None
            self._encryptions[request.bucket] = {
                name: value for name, value in zip(ENCRYPTION_HEADERS, (algorithm, key), strict=True) if value
            }

    def forget(self, bucket: str) -> None:
        """Drop what moto keeps of a bucket that was deleted."""
        with self._lock:
            self._encryptions.pop(bucket, None)
            if self._stubber is not None:
                self._ask("DELETE", f"/{bucket}?tagging")
                self._ask("DELETE", f"/{bucket}")

    def _make_known(self, request: Request) -> None:
        bucket = quote(f"/{request.bucket}")
        if self._ask("HEAD", bucket).status != 200:
            self._ask("PUT", bucket)
        if request.key and self._ask("HEAD", key := f"{bucket}/{quote(request.key)}").status != 200:
            self._ask("PUT", key)

    def _ask(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Response:
        from botocore.awsrequest import AWSPreparedRequest, HeadersDict

        if self._stubber is None:
            from moto.core.botocore_stubber import BotocoreStubber

            self._stubber = BotocoreStubber()
        sent = HeadersDict(
            {name: value for name, value in (headers or {}).items() if name.lower() not in _NOT_FORWARDED}
        )
        sent["Host"] = _HOST.partition("//")[2]
        sent["Content-Length"] = str(len(body))
        sent.setdefault("Authorization", f"AWS4-HMAC-SHA256 Credential=local/20260101/{REGION}/s3/aws4_request")
        answer = self._stubber.process_request(AWSPreparedRequest(method, _HOST + target, sent, body, False))
        if answer is None:
            raise S3Error("NotImplemented", "The embedded S3 does not support this operation.")
        status, received, text = answer
        answered = text.encode() if isinstance(text, str) else bytes(text or b"")
        for moto, own in _OWNER:
            answered = answered.replace(moto, own)
        return Response(int(status), _forwarded(received), answered)


def _forwarded(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in headers.items() if name.lower() not in _NOT_FORWARDED}
