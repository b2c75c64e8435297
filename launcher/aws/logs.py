"""CloudWatch Logs for the groups that SageMaker writes to, answered from the logs of jobs and endpoints.

Each operation is a function ``(document, home)`` on the members of the JSON protocol (``logs-2014-03-28``). It returns
the answer, or None for a group that is not SageMaker's: whoever serves the rest of CloudWatch Logs answers for that.
``DescribeLogGroups`` answers for SageMaker's groups alone, and others are to be put behind them.

A log is here as soon as it is printed, before the status of its job changes, and as long as its job's folder.
"""

from __future__ import annotations

import base64
import heapq
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.aws.checking import check_document
from launcher.aws.errors import AwsError
from launcher.aws.log_streams import Event, EventLog, Stream, Window, exists, groups, is_own, streams
from launcher.settings import ACCOUNT_ID, REGION

_INVALID = "InvalidParameterException"
_MOST_EVENTS = 10_000
_MOST_LISTED = 50
_TOKEN = re.compile(r"([fb])/(\d{56})/s")
# A term of a filter pattern: ? for one of several, - for none; quotes around it, % around an expression.
_TERM = re.compile(r'\s*([?-]?)(?:"((?:[^"\\]|\\.)*)"|%((?:[^%\\]|\\.)*)%|(\S+))')

Document = Mapping[str, Any]


def describe_log_groups(document: Document, home: Path) -> dict[str, Any] | None:
    """Answer DescribeLogGroups for SageMaker's groups, in the order of their names; None for a token of others."""
    check_document(document, "logs:DescribeLogGroups", _INVALID)
    if "nextToken" in document and not isinstance(_unpacked(document["nextToken"]), int):
        return None
    prefix, pattern = document.get("logGroupNamePrefix", ""), document.get("logGroupNamePattern", "")
    identifiers = [_name_of(identifier) for identifier in document.get("logGroupIdentifiers", ())]
    if prefix and pattern:
        raise AwsError(_INVALID, "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
    if document.get("logGroupClass", "STANDARD") != "STANDARD":
        return {"logGroups": []}
    listed = [
        (name, created)
        for name, created in groups(home)
        if name.startswith(prefix) and pattern.lower() in name.lower() and (not identifiers or name in identifiers)
    ]
    begin, end = _part(document, len(listed))
    return {
        "logGroups": [
            {
                "logGroupName": name,
                "creationTime": created,
                "metricFilterCount": 0,
                "arn": f"{_arn(name)}:*",
                "logGroupArn": _arn(name),
                "logGroupClass": "STANDARD",
                "storedBytes": sum(stream.path.stat().st_size for stream in streams(name, home)),
            }
            for name, created in listed[begin:end]
        ],
        **({"nextToken": _packed(end)} if end < len(listed) else {}),
    }


def describe_log_streams(document: Document, home: Path) -> dict[str, Any] | None:
    """Answer DescribeLogStreams; there is a next token only where there are more streams."""
    check_document(document, "logs:DescribeLogStreams", _INVALID)
    group = _group(document)
    if not is_own(group):
        return None
    prefix, by_time = document.get("logStreamNamePrefix", ""), document.get("orderBy") == "LastEventTime"
    if by_time and prefix:
        raise AwsError(_INVALID, "Cannot order by LastEventTime with a logStreamNamePrefix.")
    listed = _streams(group, home, prefix)
    if by_time:
        times = {stream.name: EventLog(stream).last_timestamp for stream in listed}
        listed.sort(key=lambda stream: (times[stream.name], stream.name))
    if document.get("descending", False):
        listed.reverse()
    begin, end = _part(document, len(listed))
    return {
        "logStreams": [_described(stream, group) for stream in listed[begin:end]],
        **({"nextToken": _packed(end)} if end < len(listed) else {}),
    }


def get_log_events(document: Document, home: Path) -> dict[str, Any] | None:
    """Answer GetLogEvents: from the head, from the tail, or on from a token; at an end the token is the one given."""
    check_document(document, "logs:GetLogEvents", _INVALID)
    group = _group(document)
    if not is_own(group):
        return None
    log = EventLog(_stream(group, document["logStreamName"], home))
    window = _window(document)
    forward, token = document.get("startFromHead", False), document.get("nextToken")
    offset = 0 if forward else log.end
    if token:
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise _bad_token()
        forward, offset = match.group(1) == "f", int(match.group(2))
    events = window.page(log.after(offset, window))[0] if forward else log.page_before(offset, window)
    return {
        "events": [_described_event(event) for event in events],
        "nextForwardToken": f"f/{events[-1].end if events else offset:056d}/s",
        "nextBackwardToken": f"b/{events[0].begin if events else offset:056d}/s",
    }


def filter_log_events(document: Document, home: Path) -> dict[str, Any] | None:
    """Answer FilterLogEvents: the events of several streams by their time, those that match a pattern of terms."""
    check_document(document, "logs:FilterLogEvents", _INVALID)
    group = _group(document)
    if not is_own(group):
        return None
    if not document.get("startFromHead", True):
        raise AwsError(_INVALID, "startFromHead=false is not emulated by FilterLogEvents. Leave it out.")
    prefix, names = document.get("logStreamNamePrefix", ""), document.get("logStreamNames")
    if prefix and names:
        raise AwsError(_INVALID, "Both logStreamNamePrefix and logStreamNames cannot be specified.")
    if names:
        chosen = [_stream(group, name, home) for name in sorted(set(names))]
    else:
        chosen = _streams(group, home, prefix)
    window = replace(_window(document), matches=_matcher(document.get("filterPattern", "")))
    last: tuple[int, str, int] | None = None
    if token := document.get("nextToken"):
        match _unpacked(token):
            case [int(moment), str(name), int(begin)]:
                last = moment, name, begin
            case _:
                raise _bad_token()
        window = replace(window, start=max(window.start, last[0]))
    merged = heapq.merge(*(EventLog(stream).after(0, window) for stream in chosen))
    events = (event for event in merged if last is None or _key(event) > last)
    page, has_more = window.page(events)
    return {
        "events": [
            {**_described_event(event), "logStreamName": event.stream, "eventId": _event_id(event)} for event in page
        ],
        "searchedLogStreams": [],
        **({"nextToken": _packed(_key(page[-1]))} if has_more else {}),
    }


def _streams(group: str, home: Path, prefix: str) -> list[Stream]:
    """Return a group's streams whose names begin with ``prefix``.

    Raises:
        AwsError: there is no such group.
    """
    listed = streams(group, home, prefix)
    if not listed and not exists(group, home):
        raise AwsError("ResourceNotFoundException", "The specified log group does not exist.")
    return listed


def _stream(group: str, name: str, home: Path) -> Stream:
    stream = next((stream for stream in _streams(group, home, name) if stream.name == name), None)
    if stream is None:
        raise AwsError("ResourceNotFoundException", "The specified log stream does not exist.")
    return stream


def _group(document: Document) -> str:
    name, identifier = document.get("logGroupName"), document.get("logGroupIdentifier")
    if (name is None) == (identifier is None):
        raise AwsError(_INVALID, "Exactly one of logGroupName and logGroupIdentifier must be specified.")
    return str(name or _name_of(identifier))


def _name_of(identifier: object) -> str:
    """Return the name of a group that may be given by its ARN."""
    text = str(identifier)
    return text.split(":")[6] if text.startswith("arn:") and text.count(":") >= 6 else text


def _arn(group: str) -> str:
    return f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{group}"


def _described(stream: Stream, group: str) -> dict[str, Any]:
    log = EventLog(stream)
    first = next(log.after(0, Window(1)), None)
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        **(
            {
                "firstEventTimestamp": first.timestamp,
                "lastEventTimestamp": log.last_timestamp,
                "lastIngestionTime": log.last_timestamp,
            }
            if first
            else {}
        ),
        "arn": f"{_arn(group)}:log-stream:{stream.name}",
        "storedBytes": 0,  # as AWS says since 2019
    }


def _described_event(event: Event) -> dict[str, Any]:
    return {"timestamp": event.timestamp, "message": event.message, "ingestionTime": event.timestamp}


def _key(event: Event) -> tuple[int, str, int]:
    return event.timestamp, event.stream, event.begin


def _event_id(event: Event) -> str:
    return f"{event.timestamp:020d}{zlib.crc32(event.stream.encode()):010d}{event.begin:026d}"


def _window(document: Document) -> Window:
    return Window(document.get("limit", _MOST_EVENTS), document.get("startTime", 0), document.get("endTime"))


def _part(document: Document, count: int) -> tuple[int, int]:
    """Return which of a list's entries an answer holds."""
    begin = 0
    if token := document.get("nextToken"):
        begin = number if isinstance(number := _unpacked(token), int) and 0 <= number <= count else -1
        if begin < 0:
            raise _bad_token()
    return begin, min(count, begin + document.get("limit", _MOST_LISTED))


def _packed(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _unpacked(token: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(token.encode()))
    except ValueError:
        return None


def _bad_token() -> AwsError:
    return AwsError(_INVALID, "The specified nextToken is invalid.")


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return what a filter pattern matches: messages with all terms, with any of the terms after ``?``, without others.

    Raises:
        AwsError: it is a pattern for JSON or for columns, or none.
    """
    if pattern.lstrip().startswith(("{", "[")):
        raise AwsError(
            _INVALID, "Invalid filter pattern: patterns for JSON and for columns are not emulated. Use terms."
        )
    needed: list[Callable[[str], bool]] = []
    optional: list[Callable[[str], bool]] = []
    refused: list[Callable[[str], bool]] = []
    for match in _TERM.finditer(pattern.strip()):
        sign, quoted, expression, bare = match.groups()
        if bare is not None and not re.fullmatch(r"\w+", bare):
            raise AwsError(_INVALID, f"Invalid character(s) in term '{bare}'")
        if expression is not None:
            test = _expression_test(expression)
        else:
            test = _term_test(bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        {"": needed, "?": optional, "-": refused}[sign].append(test)
    return lambda message: (
        all(test(message) for test in needed)
        and (not optional or any(test(message) for test in optional))
        and not any(test(message) for test in refused)
    )


def _term_test(term: str) -> Callable[[str], bool]:
    return lambda message: term in message


def _expression_test(expression: str) -> Callable[[str], bool]:
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise AwsError(_INVALID, f"Invalid filter pattern: %{expression}%: {error}") from error
    return lambda message: compiled.search(message) is not None
