"""Tags of everything that has an ARN here: added, listed, deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker.listing import page
from launcher.aws.sagemaker.records import NOT_FOUND, load
from launcher.errors import RequestError
from launcher.jobs.kinds import KINDS
from launcher.jobs.store import Store
from launcher.jobs.tags import change_tags, read_tags
from launcher.requests.tags import tag_pairs

MOST_TAGS = 50
"""How many tags one thing has at most, in AWS as well."""

_ARN = re.compile(r"arn:[^:]*:sagemaker:[^:]*:[^:]*:(?P<kind>[a-z0-9-]+)/(?P<name>[A-Za-z0-9-]{1,63})")


def add(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Add tags, or give them other values; return all that there are."""
    store, name = _tagged(document["ResourceArn"], home)
    added = dict(tag_pairs(document["Tags"]))

    def with_added(tags: Mapping[str, str]) -> Mapping[str, str]:
        together = {**tags, **added}
        if len(together) > MOST_TAGS:
            raise RequestError(
                f"{store.kind.arn(name)} would have {len(together)} tags, more than {MOST_TAGS}.",
                "Delete some first.",
                members=("Tags",),
            )
        return together

    return {"Tags": tag_members(change_tags(store, name, with_added))}


def list_tags(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the tags, in the order in which they were given."""
    store, name = _tagged(document["ResourceArn"], home)
    tags = list(enumerate(tag_members(read_tags(store, name, load(store, name)))))
    cut = page(
        document,
        tags,
        lambda item: item[0],
        lambda item: str(item[1]["Key"]),
        default_results=MOST_TAGS,
        default_order="Ascending",
    )
    return cut.answer("Tags", [member for _, member in cut.entries])


def delete(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Delete tags by their keys; those that are not there are deleted already."""
    store, name = _tagged(document["ResourceArn"], home)
    gone = set(document["TagKeys"])
    change_tags(store, name, lambda tags: {key: value for key, value in tags.items() if key not in gone})
    return {}


def _tagged(arn: str, home: Path) -> tuple[Store[Any], str]:
    """Return the store and the name of what an ARN is of.

    Raises:
        AwsError: there is no such thing here.
    """
    matched = _ARN.fullmatch(arn)
    kind = next((kind for kind in KINDS.values() if matched and kind.arn_kind == matched["kind"]), None)
    if matched is None or kind is None:
        tagged = ", ".join(kind.arn_kind for kind in KINDS.values())
        raise AwsError("ValidationException", f"{NOT_FOUND}\n  {arn:.300}: what has tags here is a {tagged}.")
    store, name = Store(home, kind), matched["name"]
    if kind.arn(name) != arn:
        raise AwsError("ValidationException", f"{NOT_FOUND}\n  It is of another account or region: {arn}")
    load(store, name)
    return store, name


def tag_members(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as members of a document."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
