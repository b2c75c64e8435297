"""S3's XML: built, and read; and the HTTP status of each of its errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from urllib.parse import quote
from xml.etree import ElementTree

from launcher.s3_server.errors import S3Error

REGION = "us-east-1"
ACCOUNT_ID = "000000000000"
OWNER_NAME = "launcher"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_SPECIAL = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_TO_ESCAPE = re.compile(r'[&<>"\x00-\x1f\x7f\ufffe\uffff]')
_TAG_TEXT = re.compile(r"[\w\s+\-=.:/@]*")
STATUS = {
    "AccessDenied": 403,
    "BucketNotEmpty": 409,
    "InsufficientStorage": 507,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidRange": 416,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
}


def tag(name: str, *inside: str) -> str:
    """Return an element around others."""
    return f"<{name}>{''.join(inside)}</{name}>"


def leaf(name: str, value: object) -> str:
    """Return an element with a text, nothing for None."""
    return "" if value is None else f"<{name}>{escaped(str(value))}</{name}>"


def document(name: str, *inside: str) -> bytes:
    """Return a whole answer."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{_NAMESPACE}">{"".join(inside)}</{name}>'.encode()


def error_document(error: S3Error, resource: str, request_id: str) -> bytes:
    """Return S3's document for an error."""
    message = f"{error.words} {error.hint}".strip() if error.code == "NotImplemented" else error.words
    inside = [leaf("Code", error.code), leaf("Message", message), leaf("Resource", resource)]
    inside += [leaf("RequestId", request_id), leaf("HostId", "launcher")]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tag("Error", *inside)}'.encode()


def escaped(text: str) -> str:
    """Return ``text`` for XML; what XML cannot hold becomes a reference, as S3 sends it."""
    return _TO_ESCAPE.sub(lambda match: _SPECIAL.get(match[0]) or f"&#x{ord(match[0]):x};", text)


def url_encoded(text: str) -> str:
    """Return ``text`` as ``encoding-type=url`` wants it."""
    return quote(text, safe="/-_.~*()!'")


def flag(name: str, value: bool) -> str:
    """Return an element that says ``true`` or ``false``."""
    return leaf(name, str(value).lower())


def timestamp(seconds: float) -> str:
    """Return a time as S3 writes it into XML."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds)) + f"{int(seconds * 1000) % 1000:03d}Z"


def owner(name: str = "Owner") -> str:
    """Return the one owner of everything here."""
    return tag(name, leaf("ID", ACCOUNT_ID), leaf("DisplayName", OWNER_NAME))


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a DOCTYPE before its entities are read: a few bytes of them can expand to megabytes."""

    def doctype(self, name: str, public_id: str | None, system: str | None) -> None:
        """Refuse; the parser calls this."""
        raise ValueError(f"DOCTYPE {name}")


def parsed(text: bytes, root: str = "") -> ElementTree.Element:
    """Return a request's XML without its namespaces.

    Raises:
        S3Error: MalformedXML, also when the root is another element than ``root``, where that is given.
    """
    try:
        tree = ElementTree.fromstring(text, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, LookupError, ValueError):  # not XML, or in an encoding that there is not
        tree = None
    if tree is not None:
        for element in tree.iter():
            element.tag = element.tag.rpartition("}")[2]
    if tree is None or (root and tree.tag != root):
        raise malformed()
    return tree


def malformed() -> S3Error:
    """Return S3's error for malformed XML."""
    return S3Error(
        "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"
    )


def read_tags(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return tags by name.

    Raises:
        S3Error: InvalidTag, BadRequest: more or longer tags than S3 takes, or a name twice.
    """
    tags: dict[str, str] = {}
    for name, value in pairs:
        odd = not _TAG_TEXT.fullmatch(name + value) or name.startswith("aws:")
        if odd or name in tags or not 0 < len(name) <= 128 or len(value) > 256:
            raise S3Error(
                "InvalidTag",
                f"The tag {name!r} appears twice, is empty, is too long, or has a character that S3 does not allow.",
            )
        tags[name] = value
    if len(tags) > 10:
        raise S3Error("BadRequest", "Object tags cannot be greater than 10")
    return tags
