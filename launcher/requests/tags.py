"""The tags of a request: what AWS refuses about them beside the limits of its model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from launcher.errors import RequestError


def tag_pairs(members: Iterable[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the tags of a checked request as pairs of key and value.

    Raises:
        RequestError: two have one key, or a key is AWS's own.
    """
    pairs = tuple((member["Key"], member["Value"]) for member in members)
    keys = [key for key, _ in pairs]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise RequestError(f"Duplicate tag keys found: {twice!r}.", "Give each key once.", members=("Tags",))
    if reserved := next((key for key in keys if key.lower().startswith("aws:")), None):
        raise RequestError(
            f"Tag keys that begin with 'aws:' are reserved for AWS: {reserved!r}.",
            "Choose another key.",
            members=("Tags",),
        )
    return pairs
