"""The pages on all that is no job: endpoints, models, storage, the queue, a job's files, and two jobs side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from launcher.comparing.differences import Difference, JobComparison
from launcher.console.charts import Curve, chart
from launcher.console.html import (
    EMPTY,
    command,
    facts,
    joined,
    link,
    markup,
    moment,
    path_to,
    section,
    size,
    status_mark,
    table,
)
from launcher.console.pages import estimates_figures, located, log_part, request_part
from launcher.console.reading import JobView, Log
from launcher.jobs.batch import ServiceJobRecord
from launcher.jobs.endpoint_record import EndpointRecord
from launcher.jobs.model_record import ModelRecord
from launcher.jobs.record import Record
from launcher.s3_server.store import Listing, StoredObject

_SIGNS = {"+": "add", "-": "del"}


def endpoint_list(endpoints: Sequence[tuple[str, EndpointRecord]]) -> Markup:
    """Return the list of endpoints."""
    if not endpoints:
        return _nothing("Endpoints", "No endpoint is there.", "launcher deploy NAME --job latest")
    rows = [
        (
            link(name, "endpoints", name),
            status_mark(record.status),
            ", ".join(variant.model_name for variant in record.current.config.variants),
            record.runtime,
            moment(record.created),
        )
        for name, record in endpoints
    ]
    return markup("<h1>Endpoints</h1>{}", table(("Endpoint", "Status", "Models", "Runtime", "Created"), rows))


def endpoint_page(record: EndpointRecord, requests: Sequence[Mapping[str, Any]], driven: bool, log: Log) -> Markup:
    """Return the page of an endpoint."""
    return joined([*endpoint_parts(record, requests, driven).values(), log_part(log)])


def endpoint_parts(record: EndpointRecord, requests: Sequence[Mapping[str, Any]], driven: bool) -> dict[str, Markup]:
    """Return the parts of an endpoint's page that change, by their ids."""
    config = record.current.config
    variants = [
        (
            variant.name, link(variant.model_name, "models", variant.model_name), variant.instance_count,
            f"{variant.weight:g}", record.current.models[variant.name].image_uri or "bundled",
        )
        for variant in config.variants
    ]  # fmt: skip
    capture = config.capture.get("DestinationS3Uri", "") if config.capture.get("EnableCapture", True) else ""
    notes = [markup('<p class="note bad">{}</p>', record.failure_reason)] if record.failure_reason else []
    if not driven:
        hint = command(f"launcher endpoints describe {record.name}")
        notes.append(markup('<p class="note">No process carries it at the moment. {} starts one.</p>', hint))
    state = markup(
        '<div id="state"><p class="above">endpoint</p><h1 class="name">{}</h1><p class="lead">{}</p>{}{}{}</div>',
        record.name, status_mark(record.status),
        facts([
            ("Created", moment(record.created)), ("Runtime", record.runtime),
            ("Configuration", config.config_name), ("Port", record.port or ""),
            ("Containers started again", sum(record.attempts.values()) or ""),
            ("Captures to", located(capture) if capture else ""),
        ]),
        joined(notes),
        section("Variants", table(("Variant", "Model", "#Containers", "#Weight", "Image"), variants)),
    )  # fmt: skip
    return {"state": state, "requests": markup('<div id="requests">{}</div>', _requests(requests))}


def _requests(requests: Sequence[Mapping[str, Any]]) -> Markup:
    if not requests:
        return section("Last requests", markup('<p class="aside">None since its process began.</p>'))
    milliseconds = [request["seconds"] * 1000 for request in requests]
    begin = requests[0]["time"]
    curve = Curve("answer", [request["time"] - begin for request in requests], milliseconds)
    ordered = sorted(milliseconds)
    rows = [
        (
            moment(request["time"]), request["operation"], request["variant"] or "–",
            markup('<span class="{}">{}</span>', "del" if request["status"] >= 400 else "", request["status"]),
            f"{request['seconds'] * 1000:.1f}", size(request["bytes_in"]), size(request["bytes_out"]),
        )
        for request in reversed(requests[-30:])
    ]  # fmt: skip
    headings = ("Time", "Operation", "Variant", "#Status", "#ms", "#In", "#Out")
    aside = f"the last {len(requests)}: half took less than {ordered[len(ordered) // 2]:.1f} ms"
    figure = markup('<div class="figures">{}</div>', chart("ms until the answer", [curve], x_label="seconds"))
    return section("Last requests", figure, table(headings, rows), aside=aside)


def model_list(models: Sequence[tuple[str, ModelRecord]]) -> Markup:
    """Return the list of models."""
    if not models:
        return _nothing("Models", "No model is there.", "launcher deploy NAME --job latest")
    rows = [
        (
            link(name, "models", name),
            record.model_spec.image_uri or "bundled",
            moment(record.created),
        )
        for name, record in models
    ]
    return markup("<h1>Models</h1>{}", table(("Model", "Image", "Created"), rows))


def model_page(
    name: str, record: ModelRecord, files: Sequence[tuple[str, int]], request: Mapping[str, Any], note: str
) -> Markup:
    """Return the page of a model.

    Args:
        files: of its archive.
        request: as it was accepted, without secrets.
        note: why there are no files; empty where there are.
    """
    spec = record.model_spec
    return markup(
        '<p class="above">model</p><h1 class="name">{}</h1>{}{}{}',
        name,
        facts([
            ("Created", moment(record.created)), ("Image", spec.image_uri or "bundled"),
            ("Lies at", located(spec.model_uri) if spec.model_uri else "in the image"),
        ]),
        section("Files", _file_table(files) if files else markup('<p class="aside">{}</p>', note)),
        request_part(request),
    )  # fmt: skip


def files_page(folder: str, name: str, parts: Mapping[str, tuple[Sequence[tuple[str, int]], str]]) -> Markup:
    """Return the page of the files that a job left.

    Args:
        parts: files, and why there are none, by part: model, output, intermediate.
    """
    return markup(
        '<p class="above">{}</p><h1>Files</h1><p>{}</p>{}',
        link(name, folder, name), command(f"launcher outputs {name} --to FOLDER"), file_sections(parts),
    )  # fmt: skip


def file_sections(parts: Mapping[str, tuple[Sequence[tuple[str, int]], str]]) -> Markup:
    """Return a part of a page for the files of each part, as ``files_page`` gets them."""
    return joined(
        section(f"Files: {part}", _file_table(files) if files else markup('<p class="aside">{}</p>', note), anchor=part)
        for part, (files, note) in parts.items()
    )


def _file_table(files: Sequence[tuple[str, int]]) -> Markup:
    rows = [(markup("<code>{}</code>", name), size(count)) for name, count in files]
    aside = markup('<p class="aside">{} files, {}</p>', len(files), size(sum(count for _, count in files)))
    return table(("File", "#Size"), rows) + aside


def bucket_list(usage: Sequence[tuple[str, int, int]]) -> Markup:
    """Return the list of the buckets of the S3 that is built in."""
    if not usage:
        return _nothing("Storage", "The S3 that is built in has no bucket.", "launcher storage mb s3://BUCKET")
    rows = [(link(name, "storage", name), f"{count:,}", size(total)) for name, count, total in usage]
    return markup("<h1>Storage</h1>{}", table(("Bucket", "#Objects", "#Size"), rows))


def bucket_page(bucket: str, prefix: str, listing: Listing) -> Markup:
    """Return a page of what lies below a prefix."""
    rows: list[tuple[object, object, object]] = [
        (_place(bucket, name, name.removeprefix(prefix)), "", "") for name in listing.prefixes
    ]
    rows += [
        (
            link(markup("<code>{}</code>", entry.key.removeprefix(prefix) or entry.key), "storage", bucket, "object",
                 query="?" + urlencode({"key": entry.key})),
            size(entry.size), moment(entry.modified),
        )
        for entry in listing.objects
    ]  # fmt: skip
    older = EMPTY
    if listing.next_after is not None:
        query = "?" + urlencode({"prefix": prefix, "after": listing.next_after})
        older = markup('<p class="below">{}</p>', link("more →", "storage", bucket, query=query))
    shown = table(("Key", "#Size", "Changed"), rows) if rows else markup('<p class="lead">Nothing is here.</p>')
    return _trail(bucket, prefix) + shown + older


def object_page(entry: StoredObject, text: str | None) -> Markup:
    """Return the page of an object.

    Args:
        text: its beginning; None where it is no text.
    """
    content = markup("<pre>{}</pre>", text) if text is not None else markup('<p class="aside">It is no text.</p>')
    folder, _, name = entry.key.rpartition("/")
    return joined([
        _trail(entry.bucket, f"{folder}/" if folder else "", name),
        facts([
            ("Size", size(entry.size)), ("Changed", moment(entry.modified)), ("Type", entry.content_type),
            ("ETag", markup("<code>{}</code>", entry.etag)),
        ]),
        section("Content", content, aside="its beginning" if text is not None and entry.size > len(text) else ""),
        markup("<p>{}</p>", command(f"launcher storage cp s3://{entry.bucket}/{entry.key} .")),
    ])  # fmt: skip


def _trail(bucket: str, prefix: str, name: str = "") -> Markup:
    """Return the way from the bucket to a prefix, each part of it a link."""
    steps = [link(bucket, "storage", bucket)]
    for end in (index + 1 for index, letter in enumerate(prefix) if letter == "/"):
        steps.append(_place(bucket, prefix[:end], prefix[:end].rstrip("/").rpartition("/")[2]))
    return markup('<p class="above">s3://</p><h1 class="name">{}</h1>', joined([*steps, *filter(None, [name])], " / "))


def _place(bucket: str, prefix: str, text: str) -> Markup:
    return link(markup("<code>{}</code>", text), "storage", bucket, query="?" + urlencode({"prefix": prefix}))


def queue_page(queues: Sequence[tuple[str, Record]], jobs: Sequence[tuple[str, ServiceJobRecord]]) -> Markup:
    """Return the page of AWS Batch's queues and the service jobs in them, those first that have not ended."""
    if not queues and not jobs:
        return _nothing("Queue", "No job queue is there; jobs begin at once.", "")
    rows = [
        (name, status_mark(str(record.spec.get("state", ""))), record.spec.get("priority", ""),
         sum(not job.terminal and _queue_of(job) == name for _, job in jobs))
        for name, record in queues
    ]  # fmt: skip
    ordered = sorted(jobs, key=lambda entry: (entry[1].terminal, -entry[1].created))
    lines = [
        (
            record.spec.get("jobName", name), status_mark(record.status), _queue_of(record), moment(record.created),
            joined((link(attempt.job, "jobs", attempt.job) for attempt in record.attempts), ", ") or "waits",
            record.status_reason,
        )
        for name, record in ordered[:200]
    ]  # fmt: skip
    headings = ("Service job", "Status", "Queue", "Submitted", "Training jobs", "Reason")
    return joined([
        markup("<h1>Queue</h1>"),
        section("Job queues", table(("Queue", "State", "#Priority", "#Not ended"), rows) if rows else EMPTY),
        section("Service jobs", table(headings, lines) if lines else EMPTY),
    ])  # fmt: skip


def _queue_of(record: ServiceJobRecord) -> str:
    return str(record.spec.get("jobQueue", "")).rpartition("/")[2]


def comparison_page(comparison: JobComparison, views: Sequence[JobView], whole_query: str) -> Markup:
    """Return two training jobs side by side.

    Args:
        views: of both.
        whole_query: of the page that compares data and results as well; empty where this one does.
    """
    both = [link(view.name, view.kind.folder, view.name) for view in views]
    sections = [
        section(
            part.name.capitalize(),
            table(("", *(view.name for view in views)), map(_difference, part.differences), classes="differ")
            if part.differences else EMPTY,
            joined(_lines(entry) for entry in part.differences if entry.lines and part.name != "metrics"),
            joined(markup('<p class="note plain">{}</p>', note) for note in part.notes),
            *([] if part.differences or part.notes else [markup('<p class="aside">The same.</p>')]),
            aside=f"{len(part.differences) or 'none'} of {part.compared} differ",
        )
        for part in comparison.sections
    ]  # fmt: skip
    more_ways = markup('<p><a href="{}?{}">Compare data and results as well</a></p>', path_to("compare"), whole_query)
    return joined([
        markup('<p class="above">two training jobs</p><h1>{} <span class="aside">and</span> {}</h1>', *both),
        markup('<p class="lead">{}</p>', "They are the same." if comparison.same else "This is what differs."),
        _both_curves(views), *sections, more_ways if whole_query else EMPTY,
    ])  # fmt: skip


def _both_curves(views: Sequence[JobView]) -> Markup:
    series: dict[str, list[Curve]] = {}
    for place, view in enumerate(views):
        for curve in (*(view.estimates.curves if view.estimates else ()), *view.metrics):
            series.setdefault(curve.name, []).append(Curve(view.name, curve.x, curve.y, color=place))
    figures = [chart(name, curves) for name, curves in series.items()]
    figures += estimates_figures([(view.name, view.estimates) for view in views if view.estimates])
    return section("Curves", markup('<div class="figures">{}</div>', joined(figures)) if figures else EMPTY)


def _difference(difference: Difference) -> tuple[object, object, object]:
    return markup("<code>{}</code>", difference.subject), _side(difference.first), _side(difference.second)


def _side(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_side(entry)}" for name, entry in value.items())
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def _lines(difference: Difference) -> Markup:
    lines = joined(markup('<span class="{}">{}</span>\n', _SIGNS.get(line[:1], ""), line) for line in difference.lines)
    return markup("<h3>{}</h3><pre>{}</pre>", difference.subject, lines)


def _nothing(title: str, words: str, hint: str) -> Markup:
    return markup('<h1>{}</h1><p class="lead">{}</p>{}', title, words, command(hint) if hint else EMPTY)
