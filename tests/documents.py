"""Request documents in tests: changed in one place, and the members that the service model has."""

import copy

from launcher.requests.shapes import shape


def changed(document, path, value):
    """Return the document with another value at a dotted path, whose numbers are places in a list; None removes it."""
    document = copy.deepcopy(document)
    inner = document
    *steps, last = path.split(".")
    for step in steps:
        inner = inner[int(step)] if isinstance(inner, list) else inner.setdefault(step, {})
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return document


def member_paths(name, path=""):
    """Yield the path of each member below a shape that has no members of its own."""
    definition = shape(name)
    if definition["type"] == "structure":
        for member, inner in definition["members"].items():
            yield from member_paths(inner, f"{path}.{member}" if path else member)
    elif definition["type"] == "list" and shape(definition["member"])["type"] == "structure":
        yield from member_paths(definition["member"], f"{path}[]")
    else:
        yield path
