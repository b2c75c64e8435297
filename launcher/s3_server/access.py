"""Who may send requests: the host names of a server, the origins of web pages, signatures by the key of a home.

A server on a loopback address takes any credentials unless it is told to ask for the key; on every other address it
always asks. Sources: AWS Signature Version 4 for S3, by header, by query and by chunk; Signature Version 2, which boto3
still uses for presigned URLs.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from launcher.s3_server.errors import S3Error

Access = Literal["any", "key"]
CREDENTIAL_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_ALGORITHM = "AWS4-HMAC-SHA256"
_SKEW_SECONDS = 900
_PRESIGNED_MAX_SECONDS = 604_800
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_CREDENTIAL = re.compile(r"([^/]+)/([0-9]{8})/([^/]+)/([^/]+)/aws4_request")
# What Signature Version 2 signs of a query.
_V2_SUBRESOURCES = frozenset({
    "accelerate", "acl", "cors", "defaultObjectAcl", "delete", "inventory", "lifecycle", "location", "logging",
    "metrics", "notification", "object-lock", "partNumber", "policy", "replication", "requestPayment", "restore",
    "response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language",
    "response-content-type", "response-expires", "select", "select-type", "storageClass", "tagging", "torrent",
    "uploadId", "uploads", "versionId", "versioning", "versions", "website",
})  # fmt: skip


class Key(NamedTuple):
    """The credentials of one home."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Key(access_key={self.access_key!r})"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that give the key to a client of AWS."""
        return dict(zip(CREDENTIAL_VARIABLES, (self.access_key, self.secret_key), strict=True))


# Where any will do. Without some, boto3 would look for others, and find the caller's own.
ANY_KEY = Key("launcher", "launcher")


def check_proxy_key(headers: Mapping[str, str], key: Key) -> None:
    """Refuse a request to a proxy that does not name the key, as clients send what stands in the proxy's URL.

    Raises:
        S3Error: ProxyAuthenticationRequired.
    """
    scheme, _, given = headers.get("Proxy-Authorization", "").partition(" ")
    wanted = base64.b64encode(f"{key.access_key}:{key.secret_key}".encode()).decode()
    if scheme.lower() != "basic" or not hmac.compare_digest(given.strip().encode(), wanted.encode()):
        raise S3Error("ProxyAuthenticationRequired", "This proxy asks for the key of its home.")


def key_path(root: Path) -> Path:
    """Return the file that holds the key of the store below ``root``, as ``NAME=value`` lines."""
    return root / "key.env"


def home_key(root: Path) -> Key:
    """Return the key of the store below ``root``, made at random when it is first asked for; only its owner reads it.

    Raises:
        S3Error: the file holds no key.
    """
    path = key_path(root)
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        values = (f"LAUNCHER{secrets.token_hex(6).upper()}", secrets.token_urlsafe(30))
        lines = [f"{name}={value}\n" for name, value in zip(CREDENTIAL_VARIABLES, values, strict=True)]
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.writelines(lines)
        try:
            os.link(new, path)  # of several that make one at once, the first wins
        except FileExistsError:
            pass
        finally:
            new.unlink()
    try:
        values_by_name = dict(line.split("=", 1) for line in path.read_text(encoding="ascii").splitlines() if line)
        return Key(*(values_by_name[name] for name in CREDENTIAL_VARIABLES))
    except (OSError, ValueError, KeyError) as error:
        raise S3Error(
            "InternalError", "the key of the embedded S3 cannot be read", str(path), "Delete the file to get a new key."
        ) from error


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches ``address``."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return address == "localhost"


def needs_key(address: str, access: Access) -> bool:
    """Return whether a server on ``address`` asks for the key."""
    return access == "key" or not is_loopback(address)


def check_host(host: str, names: Sequence[str] = ()) -> None:
    """Refuse a name that somebody else's DNS could point at this machine.

    Args:
        names: names to answer to besides addresses, ``localhost`` and ``*.localhost``; with a dot in front, all names
            that end so.
    Raises:
        S3Error: InvalidRequest, or AccessDenied.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        raise S3Error("InvalidRequest", "The header Host is not valid.")
    name = match[1].strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return
    if any(name.endswith(ending) for ending in names if ending.startswith(".")):
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise S3Error(
            "AccessDenied", f"The embedded S3 does not answer to the name {name}; ask by its address or as localhost."
        ) from None


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse what a web page of another origin sends.

    Raises:
        S3Error: AccessDenied.
    """
    origin = headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{headers.get('Host', '').lower()}":
        raise S3Error("AccessDenied", "The embedded S3 takes no requests from web pages of another origin.")


def prove(token: str, *words: str) -> str:
    """Return the proof, for the challenge ``words``, that the caller has ``token``."""
    return hmac.new(token.encode(), "\n".join(words).encode(), "sha256").hexdigest()


class ChunkSigner:
    """Checks the signatures of a body's chunks; a chunk's signature covers the one before."""

    def __init__(self, signing_key: bytes, moment: str, scope: str, previous: str, with_trailers: bool) -> None:
        self.signing_key = signing_key
        self.moment = moment
        self.scope = scope
        self.previous = previous
        self.with_trailers = with_trailers

    def check_chunk(self, signature: str, digest: str) -> None:
        """Check the signature of a chunk with that SHA-256.

        Raises:
            S3Error: SignatureDoesNotMatch.
        """
        self._check(signature, "AWS4-HMAC-SHA256-PAYLOAD", _EMPTY_SHA256, digest)

    def check_trailers(self, signature: str, text: bytes) -> None:
        """Check the signature of the trailing headers."""
        self._check(signature, "AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(text).hexdigest())

    def _check(self, signature: str, kind: str, *digests: str) -> None:
        text = "\n".join((kind, self.moment, self.scope, self.previous, *digests))
        wanted = hmac.new(self.signing_key, text.encode(), "sha256").hexdigest()
        if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
            raise _mismatch()
        self.previous = wanted


class SignedRequest(NamedTuple):
    """The signed parts of a request.

    Attributes:
        bucket_in_host: empty unless the host names the bucket.
        service: the service that it is signed for.
        digest: SHA-256 of the body in hexadecimal, where a service has no header for it; empty for S3.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    bucket_in_host: str = ""
    service: str = "s3"
    digest: str = ""

    @property
    def path(self) -> str:
        """The target's path as it was sent."""
        path = self.target.partition("?")[0]
        return "/" + path.partition("://")[2].partition("/")[2] if "://" in path else path

    @property
    def query(self) -> list[tuple[str, str]]:
        """Names and values of the query, decoded."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True, max_num_fields=100)


def check_signature(request: SignedRequest, key: Key, now: float | None = None) -> ChunkSigner | None:
    """Check a request's signature; return the signer that checks its chunks.

    Raises:
        S3Error: AccessDenied, InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, and others for a
        malformed signature.
    """
    moment = time.time() if now is None else now
    authorization = request.headers.get("Authorization", "")
    query = dict(request.query)
    if authorization.startswith(f"{_ALGORITHM} "):
        return _check_v4_header(request, authorization, key, moment)
    if authorization.startswith("AWS "):
        _check_v2_header(request, authorization, key, moment)
    elif query.get("X-Amz-Algorithm") == _ALGORITHM:
        _check_v4_query(request, query, key, moment)
    elif "Signature" in query and "AWSAccessKeyId" in query:
        _check_v2(request, query["AWSAccessKeyId"], query["Signature"], query.get("Expires", ""), key)
        check_not_expired(query, moment)
    elif authorization or "X-Amz-Algorithm" in query:
        raise S3Error(
            "InvalidRequest",
            f"The authorization mechanism you have provided is not supported. Please use {_ALGORITHM}.",
        )
    else:
        raise S3Error("AccessDenied", "Access Denied. The embedded S3 asks for its key at this address.")
    return None


def check_not_expired(query: Mapping[str, str], now: float | None = None) -> None:
    """Refuse an expired presigned URL; its signature is not checked.

    Raises:
        S3Error: AccessDenied, or AuthorizationQueryParametersError for an invalid time.
    """
    moment = time.time() if now is None else now
    try:
        if "X-Amz-Expires" in query:
            seconds = _number(query["X-Amz-Expires"])
            begin = _basic_time(query.get("X-Amz-Date", ""))
            if not 0 <= seconds <= _PRESIGNED_MAX_SECONDS:
                raise ValueError
            end = begin + seconds
        elif "Expires" in query and "Signature" in query:
            end = _number(query["Expires"])
        else:
            return
    except ValueError:
        raise S3Error(
            "AuthorizationQueryParametersError", "X-Amz-Date or X-Amz-Expires of the presigned URL is not valid"
        ) from None
    if end < moment:
        raise S3Error("AccessDenied", "Request has expired")


def _check_v4_header(request: SignedRequest, authorization: str, key: Key, now: float) -> ChunkSigner | None:
    fields = dict(
        part.strip().partition("=")[::2] for part in authorization.removeprefix(_ALGORITHM).split(",") if "=" in part
    )
    try:
        credential, names, signature = fields["Credential"], fields["SignedHeaders"], fields["Signature"]
    except KeyError:
        raise S3Error("AuthorizationHeaderMalformed", "The authorization header you provided is invalid.") from None
    payload = request.digest or request.headers.get("x-amz-content-sha256", "")
    if not payload:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    moment = request.headers.get("x-amz-date", "")
    try:
        skew = abs(_basic_time(moment) - now)
    except ValueError:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from None
    if skew > _SKEW_SECONDS:
        raise _skewed()
    signing_key, scope = _check_v4(request, credential, names, signature, moment, payload, key)
    if not payload.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        return None
    return ChunkSigner(signing_key, moment, scope, signature, payload.endswith("-TRAILER"))


def _check_v4_query(request: SignedRequest, query: Mapping[str, str], key: Key, now: float) -> None:
    needed = ("X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Date", "X-Amz-Expires")
    if any(name not in query for name in needed):
        raise S3Error("AuthorizationQueryParametersError", f"Query-string authentication requires {', '.join(needed)}")
    check_not_expired(query, now)
    payload = request.headers.get("x-amz-content-sha256") or query.get("X-Amz-Content-Sha256")
    payload = request.digest or payload or "UNSIGNED-PAYLOAD"
    credential, names, signature, moment = (query[name] for name in needed[:4])
    if _basic_time(moment) > now + _SKEW_SECONDS:
        raise S3Error("AccessDenied", "Request is not yet valid")
    _check_v4(request, credential, names, signature, moment, payload, key)


def _check_v4(
    request: SignedRequest, credential: str, names: str, signature: str, moment: str, payload: str, key: Key
) -> tuple[bytes, str]:
    """Check a signature of version 4; return the signing key and the scope."""
    match = _CREDENTIAL.fullmatch(credential)
    if match is None or match[2] != moment[:8] or match[4] != request.service:
        raise S3Error(
            "AuthorizationHeaderMalformed", "The authorization header is malformed; the Credential is not valid."
        )
    _check_access_key(match[1], key)
    signed = names.split(";")
    unsigned = [name for name in request.headers if name.startswith("x-amz-") and name not in signed]
    unsigned = [name for name in unsigned if name != "x-amz-content-sha256"]
    if "host" not in signed or unsigned:
        raise S3Error("AccessDenied", "There were headers present in the request which were not signed: "
                      + ", ".join(unsigned or ["host"]))  # fmt: skip
    scope = credential.partition("/")[2]
    signing_key = f"AWS4{key.secret_key}".encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    pairs = sorted((_quoted(name), _quoted(value)) for name, value in request.query if name != "X-Amz-Signature")
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signed)
    query = "&".join(f"{name}={value}" for name, value in pairs)
    # Clients sign the path as they send it, encoded once from what it means, or, but for S3, encoded once more.
    paths = [quote(unquote(request.path), safe="/-_.~"), request.path]
    if request.service != "s3":
        paths.append(quote(request.path, safe="/-_.~"))
    for path in dict.fromkeys(paths):
        canonical = "\n".join((request.method, path, query, headers, names, payload))
        digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
        text = "\n".join((_ALGORITHM, moment, scope, digest))
        if _same(hmac.new(signing_key, text.encode(), "sha256").hexdigest(), signature):
            return signing_key, scope
    raise _mismatch()


def _check_v2_header(request: SignedRequest, authorization: str, key: Key, now: float) -> None:
    from email.utils import mktime_tz, parsedate_tz  # slow to load, and hardly a client signs in this way any more

    access_key, _, signature = authorization.removeprefix("AWS ").partition(":")
    amz_date = request.headers.get("x-amz-date")
    date = amz_date or request.headers.get("Date", "")
    try:
        fields = parsedate_tz(date)
        skew = abs(mktime_tz(fields) - now) if fields else float("inf")
    except (ValueError, OverflowError):
        skew = float("inf")
    if skew > _SKEW_SECONDS:
        raise _skewed()
    _check_v2(request, access_key, signature, "" if amz_date else date, key)


def _check_v2(request: SignedRequest, access_key: str, signature: str, date: str, key: Key) -> None:
    _check_access_key(access_key, key)
    headers = request.headers
    amz = sorted((name, value.strip()) for name, value in headers.items() if name.startswith("x-amz-"))
    resource = f"/{request.bucket_in_host}{request.path}" if request.bucket_in_host else request.path
    parts = sorted((name, value) for name, value in request.query if name in _V2_SUBRESOURCES)
    if parts:
        resource += "?" + "&".join(f"{name}={value}" if value else name for name, value in parts)
    lines = [request.method, headers.get("Content-MD5", ""), headers.get("Content-Type", ""), date]
    lines += [f"{name}:{value}" for name, value in amz]
    text = "\n".join((*lines, resource)).encode("utf-8", "replace")
    wanted = base64.b64encode(hmac.digest(key.secret_key.encode(), text, "sha1")).decode()
    if not _same(wanted, signature):
        raise _mismatch()


def _check_access_key(access_key: str, key: Key) -> None:
    if not _same(access_key, key.access_key):
        raise S3Error("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def _basic_time(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y%m%dT%H%M%SZ"))


def _number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise ValueError(text[:20])
    return int(text)


def _mismatch() -> S3Error:
    return S3Error(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing"
        " method.",
    )


def _skewed() -> S3Error:
    return S3Error("RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
