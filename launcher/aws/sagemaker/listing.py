"""Lists by page: filters, order and tokens, the same for everything that SageMaker lists."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from launcher.aws.errors import AwsError
from launcher.jobs.index import SortBy, list_entries
from launcher.jobs.kinds import Kind
from launcher.jobs.summaries import Summary

DEFAULT_RESULTS = 10
"""How many entries a page has where a request does not say, as ListEndpoints and ListTransformJobs document it."""

_SORTED_BY: Mapping[str, SortBy] = {
    "Name": "name",
    "CreationTime": "created",
    "LastModifiedTime": "modified",
    "Status": "status",
}
_Item = TypeVar("_Item")


class Page(NamedTuple):
    """A page of a list.

    Attributes:
        token: for the next page; empty on the last one.
    """

    entries: list[Any]
    token: str

    def answer(self, member: str, entries: list[Any] | None = None) -> dict[str, Any]:
        """Return the answer with the entries as ``member``; ``NextToken`` is absent on the last page, never null."""
        values: dict[str, Any] = {member: self.entries if entries is None else entries}
        return {**values, "NextToken": self.token} if self.token else values


def index_page(
    document: Mapping[str, Any],
    home: Path,
    kind: Kind[Any],
    *,
    shown_as: Mapping[str, Iterable[str]],
    at_once: bool = True,
) -> Page:
    """Return a page of a List operation, as the index of the home has it: entries of the index.

    Args:
        document: the request, checked; times in seconds since 1970.
        shown_as: as of ``list_entries``.
        at_once: False filters by status what is on a page: a page of ListTrainingJobs may be short, as AWS says.
    Raises:
        AwsError: the token is not of this list.
    """
    get, digest = document.get, _digest(document)
    sort_by = _SORTED_BY[get("SortBy", "CreationTime")]
    wanted, count = get("StatusEquals"), get("MaxResults", DEFAULT_RESULTS)
    filters_all = wanted is not None and (at_once or "MaxResults" not in document)
    try:
        entries = list_entries(
            home,
            [kind],
            statuses=[str(wanted)] if filters_all else [],
            name_contains=get("NameContains", ""),
            created=_between(get("CreationTimeAfter"), get("CreationTimeBefore")),
            modified=_between(get("LastModifiedTimeAfter"), get("LastModifiedTimeBefore")),
            sort_by=sort_by,
            descending=get("SortOrder", "Descending") == "Descending",
            limit=count + 1,
            after=_position(document["NextToken"], digest) if "NextToken" in document else None,
            shown_as=shown_as,
        ).entries
    except TypeError as error:  # the token's value is of another type than the list is sorted by
        raise _invalid_token() from error
    cut = entries[:count]
    token = _token(digest, getattr(cut[-1], sort_by), cut[-1].name) if len(entries) > count else ""
    return Page([entry for entry in cut if wanted in (None, entry.status)], token)


def list_page(
    document: Mapping[str, Any],
    summaries: Iterable[Summary],
    *,
    status: Callable[[Summary], str] = lambda summary: "",
) -> Page:
    """Return a page of a List operation, of the summaries that its filters leave.

    Args:
        document: the request, checked; times in seconds since 1970.
        summaries: everything of the kind.
        status: of a summary, where the kind has a status.
    Raises:
        AwsError: the token is not of this list.
    """
    chosen = [summary for summary in summaries if _passes(document, summary)]
    wanted = document.get("StatusEquals")
    if wanted is not None:
        chosen = [summary for summary in chosen if status(summary) == wanted]
    keys: dict[str, Callable[[Summary], Any]] = {
        "Name": lambda summary: summary.name,
        "CreationTime": lambda summary: summary.created,
        "LastModifiedTime": lambda summary: summary.modified,
        "Status": status,
    }
    return page(document, chosen, keys[document.get("SortBy", "CreationTime")], lambda summary: summary.name)


def page(
    document: Mapping[str, Any],
    items: Iterable[_Item],
    key: Callable[[_Item], Any],
    name: Callable[[_Item], str],
    *,
    default_results: int = DEFAULT_RESULTS,
    default_order: str = "Descending",
) -> Page:
    """Return the page of items that a request asks for.

    A token names the last entry of the page before, not a number: what is made or deleted meanwhile moves nothing.

    Args:
        key: what they are sorted by; a number or a text, or a tuple or list of such.
        name: unique among the items, and the order of those whose keys are the same.
    Raises:
        AwsError: the token is not of this list.
    """
    descending = document.get("SortOrder", default_order) == "Descending"
    digest = _digest(document)
    ordered = sorted(((_plain(key(item)), name(item), item) for item in items), key=lambda entry: entry[:2])
    if descending:
        ordered.reverse()
    if "NextToken" in document:
        last = _position(document["NextToken"], digest)
        try:
            ordered = [entry for entry in ordered if (entry[:2] < last if descending else entry[:2] > last)]
        except TypeError as error:  # a value of another type than the list is sorted by
            raise _invalid_token() from error
    count = document.get("MaxResults", default_results)
    cut = ordered[:count]
    token = _token(digest, cut[-1][0], cut[-1][1]) if len(ordered) > count else ""
    return Page([item for _, _, item in cut], token)


def _passes(document: Mapping[str, Any], summary: Summary) -> bool:
    get = document.get
    created, modified = round(summary.created, 3), round(summary.modified, 3)  # as clients read them before
    return (
        get("NameContains", "") in summary.name
        and get("CreationTimeAfter", created) <= created <= get("CreationTimeBefore", created)
        and get("LastModifiedTimeAfter", modified) <= modified <= get("LastModifiedTimeBefore", modified)
    )


def _between(first: float | None, last: float | None) -> tuple[float | None, float | None]:
    """Return bounds that hold a time which a client read before: answers have it in milliseconds."""
    half = 0.0005
    return None if first is None else first - half, None if last is None else last + half


def _plain(value: Any) -> Any:
    """Return a key as it comes back out of JSON."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _digest(document: Mapping[str, Any]) -> str:
    """Return what tells the lists of two requests apart, whatever the size of their pages."""
    asked = {name: value for name, value in document.items() if name not in ("NextToken", "MaxResults")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _token(digest: str, value: Any, name: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([digest, value, name]).encode()).decode()


def _position(token: str, digest: str) -> tuple[Any, str]:
    try:
        of_list, value, name = json.loads(base64.b64decode(token.encode("ascii"), b"-_", validate=True))
    except (ValueError, TypeError, RecursionError) as error:
        raise _invalid_token() from error
    if of_list != digest or not isinstance(name, str):
        raise _invalid_token()
    return value, name


def _invalid_token() -> AwsError:
    return AwsError(
        "ValidationException",
        "Invalid NextToken.\n  Pass the token of the answer before, with the same filters and the same order.",
    )
