"""Search: what lives in the home, by its properties, hyperparameters, metrics and tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.aws.sagemaker.filters import Entity, Property, expression
from launcher.aws.sagemaker.listing import page
from launcher.aws.sagemaker.tags import tag_members
from launcher.errors import RecordError, RequestError, UnsupportedOptionError
from launcher.jobs.endpoint_record import EndpointRecord
from launcher.jobs.kinds import ENDPOINTS, TRAINING_JOBS, TUNING_JOBS, Kind
from launcher.jobs.record import JobRecord, Record
from launcher.jobs.store import Store
from launcher.jobs.summaries import summaries
from launcher.jobs.tags import tags_of
from launcher.jobs.tuning_record import TuningRecord
from launcher.requests.describe import describe_record
from launcher.requests.endpoints import describe_endpoint
from launcher.requests.shapes import shape
from launcher.requests.tuning import describe_tuning

DEFAULT_RESULTS = 100


@dataclass(frozen=True)
class Resource:
    """A kind of thing that can be searched for.

    Attributes:
        kind: where they live.
        member: of a result, that holds one.
        shape: of the service model, with their properties.
        describe: a record, in that shape, with its tags; the same function each time.
    """

    kind: Kind[Any]
    member: str
    shape: str
    describe: Callable[[Any], Entity]


def entity(shape_name: str, answer: Mapping[str, Any], record: Record) -> Entity:
    """Return what Describe answers in the shape of what Search finds, with the tags that it was made with."""
    members = shape(shape_name)["members"]
    return {**{name: value for name, value in answer.items() if name in members}, "Tags": tag_members(tags_of(record))}


def _training_job(record: JobRecord) -> Entity:
    return entity("TrainingJob", describe_record(record), record)


def _endpoint(record: EndpointRecord) -> Entity:
    return entity("Endpoint", describe_endpoint(record), record)


def _tuning_job(record: TuningRecord) -> Entity:
    return entity("HyperParameterTuningJobSearchEntity", describe_tuning(record, {}), record)


RESOURCES: Mapping[str, Resource] = {
    "TrainingJob": Resource(TRAINING_JOBS, "TrainingJob", "TrainingJob", _training_job),
    "HyperParameterTuningJob": Resource(
        TUNING_JOBS, "HyperParameterTuningJob", "HyperParameterTuningJobSearchEntity", _tuning_job
    ),
    "Endpoint": Resource(ENDPOINTS, "Endpoint", "Endpoint", _endpoint),
}
"""What can be searched for, by its name in a request."""


def search(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of what an expression is true of, and how many there are."""
    resource = RESOURCES.get(document["Resource"])
    if resource is None:
        raise UnsupportedOptionError(
            f"Resource={document['Resource']} is not emulated.", f"Search for one of: {', '.join(RESOURCES)}."
        )
    if document.get("CrossAccountFilterOption", "SameAccount") != "SameAccount":
        raise UnsupportedOptionError(
            "CrossAccountFilterOption='CrossAccount' is not emulated.", "Leave it out: there is one account."
        )
    holds = expression(document["SearchExpression"], resource.shape) if "SearchExpression" in document else None
    sort_by = Property(document.get("SortBy", "LastModifiedTime"), resource.shape)
    conditions = document.get("VisibilityConditions", ())
    if any(not entry.get("Key", "").startswith("Tags.") or "Value" not in entry for entry in conditions):
        raise RequestError(
            "VisibilityConditions: a condition has the form Tags.<key> in Key, and a Value.",
            'For example: {"Key": "Tags.team", "Value": "rl"}',
            members=("VisibilityConditions",),
        )
    visible = [(Property(entry["Key"], resource.shape), entry["Value"]) for entry in conditions]
    hits = [
        (name, values)
        for name, values in _entities(Store(home, resource.kind), resource)
        if (holds is None or holds(values)) and all(tag.values(values) in ([], [value]) for tag, value in visible)
    ]
    cut = page(
        document,
        hits,
        lambda hit: sort_by.sort_key(hit[1]),
        lambda hit: hit[0],
        default_results=DEFAULT_RESULTS,
    )
    answer = cut.answer("Results", [{resource.member: dict(values)} for _, values in cut.entries])
    return {**answer, "TotalHits": {"Value": len(hits), "Relation": "EqualTo"}}


def _entities(store: Store[Any], resource: Resource) -> Iterator[tuple[str, Entity]]:
    for summary in summaries(store, resource.describe):
        changed = summary.changed_tags
        if isinstance(changed, RecordError):
            raise changed
        yield summary.name, summary.values if changed is None else {**summary.values, "Tags": tag_members(changed)}
