"""The services that moto answers for, in this process; loaded when the first of them is asked.

What moto keeps in memory is made again from a journal of the requests that made it.

Requests go through moto's own dispatcher, as boto3's do where moto is used in tests. A lock lets in one at a time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from launcher.aws.errors import AwsError, not_emulated
from launcher.aws.identity import ROLE_NAME, TRUST_POLICY
from launcher.aws.moto_journal import Entry, Journal
from launcher.aws.services import SERVICES
from launcher.settings import REGION

_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_NOT_FORWARDED = frozenset({"connection", "content-encoding", "content-length", "expect", "host", "transfer-encoding"})
_LOG = logging.getLogger("launcher.aws")


class MotoServices:
    """Answers by moto, with a default role that is always there.

    Args:
        home: where the requests are written down that made what moto keeps.
    """

    def __init__(self, home: Path) -> None:
        self._lock = threading.Lock()
        self._stubber: Any = None
        self._journal = Journal(home)

    @property
    def holds_anything(self) -> bool:
        """Whether anything can be in its memory, or would be if it were loaded."""
        return self._stubber is not None or (self._journal.path.exists() and find_spec("moto") is not None)

    def ask(
        self, service: str, operation: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of moto's answer.

        Raises:
            AwsError: NotEmulated: moto is not installed, or does not have the operation; ValidationException: moto
                does not understand the request.
        """
        with self._lock:
            if self._stubber is None:
                self._stubber = _loaded(service)
                role = {"RoleName": ROLE_NAME, "AssumeRolePolicyDocument": TRUST_POLICY}
                form = urlencode({"Action": "CreateRole", "Version": SERVICES["iam"].version, **role}).encode()
                self._repeat(Entry("iam", "POST", "/", {"content-type": _FORM}, form, seed=0))
            writes = self._journal.keeps(service, operation)
            with self._journal.caught_up(self._repeat, writes=writes):
                entry = Entry(service, method, target, headers, body, int.from_bytes(os.urandom(8), "big"))
                try:
                    answer = self._seeded(entry)
                except NotImplementedError:
                    answer = None
                except Exception as error:  # moto raises anything at what it does not understand
                    _LOG.info("moto could not answer %s of %s", operation, service, exc_info=error)
                    words = f"{operation} could not be answered: {type(error).__name__}: {error}"
                    raise AwsError("ValidationException", words[:500]) from error
                if writes and answer is not None and answer[0] < 300:
                    self._journal.add(entry)
        if answer is None or answer[0] == 501 or (answer[0] == 404 and answer[2] == b"Not yet implemented"):
            raise not_emulated(f"{operation or 'This'} of {service} is not served by the local AWS.")
        if answer[0] >= 500:
            raise AwsError("ValidationException", f"{operation} of {service} could not be answered.")
        return answer

    def _repeat(self, entry: Entry) -> None:
        """Make a request again whose answer somebody has already; a version of moto that refuses it is told of."""
        try:
            self._seeded(entry)
        except Exception as error:  # noqa: BLE001 - moto raises anything
            _LOG.warning("moto could not repeat a request of %s: %s: %s", entry.service, type(error).__name__, error)

    def _seeded(self, entry: Entry) -> tuple[int, dict[str, str], bytes] | None:
        """Ask moto, which draws the random numbers of the entry's seed."""
        from moto.moto_api._internal import mock_random

        mock_random.seed(entry.seed)
        return self._ask(entry.service, entry.method, entry.target, entry.headers, entry.body)

    def _ask(
        self, service: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes] | None:
        from botocore.awsrequest import AWSPreparedRequest, HeadersDict

        host = f"{SERVICES[service].host}.{_region(headers)}.amazonaws.com"
        sent = HeadersDict({name: value for name, value in headers.items() if name not in _NOT_FORWARDED})
        sent["Host"] = host
        sent["Content-Length"] = str(len(body))
        scope = f"AWS4-HMAC-SHA256 Credential=local/20260101/{REGION}/{SERVICES[service].signed_as}/aws4_request"
        sent.setdefault("Authorization", scope)
        answer = self._stubber.process_request(AWSPreparedRequest(method, f"https://{host}{target}", sent, body, False))
        if answer is None:
            return None
        status, received, text = answer
        answered = text.encode() if isinstance(text, str) else bytes(text or b"")
        return int(status), {name.lower(): str(value) for name, value in received.items()}, answered


def _loaded(service: str) -> Any:
    try:
        from moto.core.botocore_stubber import BotocoreStubber
    except ImportError:
        words = f"{service} is not served: the local AWS here runs without moto, which answers for it."
        raise not_emulated(words) from None
    return BotocoreStubber()


def _region(headers: Mapping[str, str]) -> str:
    parts = headers.get("authorization", "").partition("Credential=")[2].split("/", 4)
    return parts[2] if len(parts) == 5 and parts[2].replace("-", "").isalnum() else REGION


def typed_input(service: str, operation: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a form's document with numbers, booleans and times in place of their texts.

    Raises:
        AwsError: InvalidParameterValue.
    """
    shape = _operation(service, operation).input_shape
    try:
        typed: dict[str, Any] = _typed(shape, document) if shape is not None else {}
    except (ValueError, AttributeError):
        raise AwsError("InvalidParameterValue", f"A value of {operation} is not of its type.") from None
    return typed


def with_times(service: str, operation: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer of JSON with ``datetime`` in place of seconds since 1970."""
    shape = _operation(service, operation).output_shape
    timed: dict[str, Any] = _timed(shape, document) if shape is not None else {}
    return timed


@cache
def _model(service: str) -> Any:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def _operation(service: str, operation: str) -> Any:
    from botocore.exceptions import UnknownServiceError
    from botocore.model import OperationNotFoundError

    try:
        return _model(service).operation_model(operation)
    except (OperationNotFoundError, UnknownServiceError):
        raise AwsError("InvalidAction", f"Could not find operation {operation[:60]} of {service}.") from None


def _typed(shape: Any, value: Any) -> Any:
    match shape.type_name:
        case "structure":
            return {name: _typed(shape.members[name], text) for name, text in value.items() if name in shape.members}
        case "list":
            return [_typed(shape.member, text) for text in value] if isinstance(value, list) else []
        case "integer" | "long":
            return int(value)
        case "float" | "double":
            return float(value)
        case "boolean":
            return {"true": True, "false": False}[value.lower()] if value.lower() in ("true", "false") else int(value)
        case "timestamp":
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return value


def _timed(shape: Any, value: Any) -> Any:
    if value is None:
        return None
    match shape.type_name:
        case "structure":
            members = shape.members
            return {name: _timed(members[name], member) for name, member in value.items() if name in members}
        case "list":
            return [_timed(shape.member, member) for member in value]
        case "map":
            return {name: _timed(shape.value, member) for name, member in value.items()}
        case "timestamp":
            return (
                datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else datetime.fromisoformat(value)
            )
        case "float" | "double":
            return float(value)
    return value
