"""The pages on jobs, as functions from what was read to HTML. Parts with an ``id`` are sent again when they change."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from launcher.console.charts import Curve, Interval, chart, intervals_chart
from launcher.console.html import (
    EMPTY,
    command,
    duration,
    facts,
    joined,
    link,
    log_line,
    markup,
    moment,
    number,
    path_to,
    section,
    status_mark,
    table,
)
from launcher.console.reading import JOB_KINDS, Estimates, JobView, Listed, Log
from launcher.jobs.processing_record import ProcessingRecord
from launcher.jobs.record import HostsRecord, JobRecord
from launcher.jobs.spec import job_keys
from launcher.jobs.transform_record import TransformRecord
from launcher.jobs.tuning_record import TuningRecord

PAGE_LINES = 50
STATUSES = ("InProgress", "Completed", "Failed", "Stopping", "Stopped")


def kind_word(folder: str) -> str:
    """Return the short word for a kind of job."""
    return folder.removesuffix("jobs").strip("-") or "training"


def job_list(lines: Sequence[Listed], asked: Mapping[str, str], total: int, begin: int) -> Markup:
    """Return the list of jobs.

    Args:
        lines: of this page.
        asked: what they were chosen by: ``text``, ``kind``, ``status``.
        total: how many jobs were chosen.
        begin: the place of the first line among them.
    """
    return markup(
        '<h1>Jobs</h1><form class="filter" action="{}/" role="search">'
        '<input type="search" name="text" value="{}" placeholder="Part of a name" aria-label="Part of a name">'
        "{}{}<button>Show</button></form>{}",
        path_to(),
        asked.get("text", ""),
        _choice("kind", "all kinds", {folder: kind_word(folder) for folder in JOB_KINDS}, asked.get("kind", "")),
        _choice("status", "any status", {status: status for status in STATUSES}, asked.get("status", "")),
        job_lines(lines, asked, total, begin),
    )


def job_lines(lines: Sequence[Listed], asked: Mapping[str, str], total: int, begin: int) -> Markup:
    """Return the lines of the list, with the ways to other pages of it."""
    if not lines:
        words = "No job is like that." if any(asked.values()) else "There is no job yet. The first one:"
        hint = EMPTY if any(asked.values()) else command("launcher demo")
        return markup('<div id="lines"><p class="lead">{}</p>{}</div>', words, hint)
    head = markup(
        '<tr><td></td><th scope="col">Job</th><th scope="col">Status</th><th scope="col">Kind</th>'
        '<th scope="col">Created</th><th scope="col" class="number">Took</th>'
        '<th scope="col" class="number">Result</th></tr>'
    )
    chosen = {name: value for name, value in asked.items() if value}
    ways = [
        markup('<a href="{}/?{}" rel="{}">{}</a>', path_to(), urlencode({"begin": place, **chosen}), rel, words)
        for place, rel, words, is_there in (
            (max(0, begin - PAGE_LINES), "prev", "← newer", begin > 0),
            (begin + PAGE_LINES, "next", "older →", begin + PAGE_LINES < total),
        )
        if is_there
    ]
    return markup(
        '<form id="lines" action="{}"><div class="wide"><table class="jobs"><thead>{}</thead>'
        "<tbody>{}</tbody></table></div>"
        '<p class="below"><button>Compare two</button><span>{} to {} of {}</span>{}</p></form>',
        path_to("compare"), head, joined(job_line(line) for line in lines),
        begin + 1, begin + len(lines), f"{total:,}", joined(ways, " "),
    )  # fmt: skip


def job_line(line: Listed) -> Markup:
    """Return one line of the list."""
    result = markup("{} {}", number(line.result[1]), line.result[0]) if line.result else "–"
    unknown = markup(' <span class="aside">its runtime does not answer</span>') if line.unknown else EMPTY
    return markup(
        '<tr id="{}"><td><input type="checkbox" name="job" value="{}" aria-label="Compare {}"></td>'
        '<td class="name">{}</td><td>{}{}</td><td class="kind">{}</td><td class="when">{}</td>'
        '<td class="number">{}</td><td class="number result">{}</td></tr>',
        line.identity, line.identity, line.name, link(line.name, line.folder, line.name),
        status_mark(line.status), unknown, kind_word(line.folder), moment(line.created),
        duration((line.ended or time.time()) - line.created), result,
    )  # fmt: skip


def _choice(name: str, every: str, options: Mapping[str, str], chosen: str) -> Markup:
    entries = joined(
        markup('<option value="{}"{}>{}</option>', value, markup(" selected") if value == chosen else EMPTY, word)
        for value, word in {"": every, **options}.items()
    )
    return markup('<select name="{}" aria-label="{}">{}</select>', name, name, entries)


def job_page(view: JobView, log: Log, *, alone: bool = False) -> Markup:
    """Return the page of a job.

    Args:
        alone: for a file that stands alone: without what leads elsewhere, or changes.
    """
    return joined([*job_parts(view, alone=alone).values(), log_part(log), *_lasting_parts(view, alone)])


def job_parts(view: JobView, *, alone: bool = False) -> dict[str, Markup]:
    """Return the parts of a job's page that change while it runs, by their ids."""
    return {
        "state": _state(view, alone),
        "curves": markup('<div id="curves">{}</div>', curves_part(view) + usage_part(view)),
        "trials": markup('<div id="trials">{}</div>', _trials(view, alone)),
    }


def _state(view: JobView, alone: bool) -> Markup:
    record, when = view.record, partial(moment, whole=alone)
    end = record.ended or (record.modified if record.terminal else time.time())
    notes = []
    if record.failure_reason:
        notes.append(markup('<p class="note bad">{}</p>', shown_reason(view)))
    if not record.terminal and not view.driven and not alone:
        notes.append(
            markup(
                '<p class="note">No process sees this job through at the moment. {} gives it one.</p>',
                command(f"launcher logs -f {view.name}"),
            )
        )
    notes += [markup('<p class="note">{}</p>', text) for text in view.warnings]
    second = str(record.secondary_status) if isinstance(record, HostsRecord) and not record.terminal else ""
    begun = (record.started or end) - record.created
    return markup(
        '<div id="state" data-status="{}"><p class="above">{} job</p><h1 class="name">{}</h1>'
        '<p class="lead">{} <span class="aside">{}</span></p>{}{}</div>',
        *(record.status, kind_word(view.kind.folder), view.name, status_mark(str(record.status)), second),
        facts([
            ("Created", when(record.created)),
            ("Ended", when(record.ended) if record.ended else ""),
            ("Took", duration(end - record.created)),
            ("Before it began", duration(begun) if record.started else ""),
            ("Runtime", record.runtime),
            *_what_ran(view),
        ]),
        joined(notes),
    )  # fmt: skip


def shown_reason(view: JobView) -> str:
    """Return why a job failed, without secrets."""
    from launcher.secrets import masked_text

    return masked_text(view.record.failure_reason)


def _what_ran(view: JobView) -> list[tuple[str, object]]:
    record = view.record
    if isinstance(record, JobRecord):
        spec = record.training_spec
        program = spec.entry_point or " ".join(spec.container_entry_point)
        hosts = f"{spec.instance_count} × {spec.instance_type}" if spec.instance_count > 1 else spec.instance_type
        return [("Program", program), ("Image", spec.image_uri or "bundled"), ("Instance", hosts)]
    if isinstance(record, ProcessingRecord):
        return [("Image", record.processing_spec.image_uri), ("Exit message", record.exit_message)]
    if isinstance(record, TransformRecord):
        done = [(name.replace("_", " ").capitalize(), f"{value:,}") for name, value in record.done.items()]
        return [("Model", record.transform_spec.model_name), *done]
    if isinstance(record, TuningRecord):
        ended = sum(trial.ended for trial in record.trials)
        return [
            ("Strategy", record.tuning_spec.strategy),
            ("Training jobs", f"{ended} of {record.tuning_spec.max_jobs} ended"),
            ("Ended by", record.completed_by),
        ]
    return []


def curves_part(view: JobView) -> Markup:
    """Return the curves of a job: its metrics, its training, its estimates."""
    metrics = [chart(curve.name, [curve], x_label="seconds") for curve in view.metrics]
    training = (
        [chart(curve.name, [curve], x_label="epoch") for curve in view.estimates.curves] if view.estimates else []
    )
    shown = section("Curves", markup('<div class="figures">{}</div>', joined([*training, *metrics])))
    return (shown if training or metrics else EMPTY) + (estimates_part(view.estimates) if view.estimates else EMPTY)


def usage_part(view: JobView) -> Markup:
    """Return what the hosts of a job use."""
    figures = [chart(title, curves, x_label="seconds") for title, curves in view.usage.items()]
    return section("Resources", markup('<div class="figures small">{}</div>', joined(figures)) if figures else EMPTY)


def estimates_part(estimates: Estimates) -> Markup:
    """Return the estimates of a policy's value: the last ones beside one another, and each over the epochs."""
    if not estimates.values:
        return EMPTY
    baseline = None if estimates.baseline is None else ("logged policy", estimates.baseline)
    last = [
        Interval(curve.name, curve.y[-1], *((curve.lower[-1], curve.upper[-1]) if curve.lower else ()))
        for curve in estimates.values
    ]
    figures = [intervals_chart("After the last epoch", last, baseline), *estimates_figures([("", estimates)])]
    aside = "discounted reward per episode, with the intervals of the job's preset"
    return section("Estimates", markup('<div class="figures">{}</div>', joined(figures)), aside=aside)


def estimates_figures(jobs: Sequence[tuple[str, Estimates]]) -> list[Markup]:
    """Return a figure for each estimator that several epochs have, with the bands of all jobs over one another.

    Args:
        jobs: what stands in the legend, and the estimates.
    """
    series: dict[str, list[Curve]] = {}
    for place, (name, estimates) in enumerate(jobs):
        for curve in estimates.values:
            if len(curve.x) > 1:
                series.setdefault(curve.name, []).append(replace(curve, name=name or curve.name, color=place))
    levels = {estimates.baseline for _, estimates in jobs}
    level = levels.pop() if len(levels) == 1 else None
    baseline = None if level is None else ("logged policy", level)
    return [chart(name, curves, x_label="epoch", baseline=baseline) for name, curves in series.items()]


def log_part(log: Log) -> Markup:
    """Return the logs of a job's hosts, one below the other."""
    several = len(log.lines) > 1
    logs = [
        markup(
            '{}<pre class="log" id="log-{}" tabindex="0" aria-label="Log of {}">{}</pre>',
            markup("<h3>{}</h3>", host) if several else EMPTY, host, host, log_lines(lines),
        )
        for host, lines in (log.lines or {"algo-1": []}).items()
    ]  # fmt: skip
    return section("Log", *logs, aside="its end; the whole of it is in the job's folder" if log.cut else "")


def log_lines(lines: Sequence[str]) -> Markup:
    """Return lines of a log."""
    return markup("{}\n" * len(lines), *(log_line(line) for line in lines)) if lines else EMPTY


def _lasting_parts(view: JobView, alone: bool) -> list[Markup]:
    record = view.record
    request = view.request
    parts = [
        section("Hyperparameters", facts(sorted(_hyperparameters(request).items()))),
        section("Inputs", _inputs(request, alone)),
        section("Files", _files(view, alone)),
    ]
    if isinstance(record, HostsRecord):
        rows = [
            (
                entry.status,
                moment(entry.start, whole=alone),
                duration((entry.end or time.time()) - entry.start),
                entry.message,
            )
            for entry in record.transitions
        ]
        parts.append(section("Course", table(("Status", "From", "#Took", "Message"), rows) if rows else EMPTY))
    parts.append(request_part(request))
    return parts


def request_part(request: Mapping[str, Any]) -> Markup:
    """Return a request as it was accepted, folded up."""
    text = json.dumps(request, indent=2, ensure_ascii=False, default=str)
    return markup('<section id="request"><details><summary>Request</summary><pre>{}</pre></details></section>', text)


def _hyperparameters(request: Mapping[str, Any]) -> dict[str, str]:
    values = request.get("HyperParameters") or {}
    return {name: value for name, value in values.items() if not name.startswith("sagemaker_")}


def _inputs(request: Mapping[str, Any], alone: bool) -> Markup:
    rows: list[tuple[object, ...]] = []
    for channel in request.get("InputDataConfig") or request.get("ProcessingInputs") or ():
        source = channel.get("DataSource", {}).get("S3DataSource") or channel.get("S3Input") or {}
        rows.append((channel.get("ChannelName") or channel.get("InputName"), located(source.get("S3Uri", ""), alone)))
    if "TransformInput" in request:
        rows.append(("input", located(request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"], alone)))
    return table(("Channel", "Place"), rows) if rows else EMPTY


def located(uri: str, alone: bool = False) -> Markup:
    """Return a URI, as a link where the console shows what is there."""
    if uri.startswith("s3://") and not alone:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return link(markup("<code>{}</code>", uri), "storage", bucket, query="?" + urlencode({"prefix": key}))
    return markup("<code>{}</code>", uri.removeprefix("file://"))


def _files(view: JobView, alone: bool) -> Markup:
    record = view.record
    rows: list[tuple[str, object]] = [("folder", markup("<code>{}</code>", view.folder.path))]
    if isinstance(record, JobRecord):
        keys = job_keys(record.training_spec)
        rows += [("model", located(keys.model, alone)), ("output", located(keys.output, alone))]
    elif record.results_uri:
        rows.append(("results", located(record.results_uri, alone)))
    more_ways = EMPTY
    if not alone and isinstance(record, JobRecord):
        more_ways = markup(
            "<p>{} · {}</p>", link("All files", view.kind.folder, view.name, "files"),
            command(f"launcher outputs {view.name} --to FOLDER"),
        )  # fmt: skip
    return facts(rows) + more_ways


def _trials(view: JobView, alone: bool) -> Markup:
    record = view.record
    if not isinstance(record, TuningRecord):
        return EMPTY
    names = sorted({name for trial in record.trials for name in trial.values})
    rows = [
        (
            trial.number,
            trial.job if alone else link(trial.job, "jobs", trial.job),
            status_mark(trial.status or "InProgress"),
            number(trial.objective),
            *(_value(trial.values.get(name, "")) for name in names),
        )
        for trial in record.trials
    ]
    results = [(trial.number, trial.objective) for trial in record.trials if trial.objective is not None]
    objective = record.tuning_spec.definitions[0].objective
    curve = Curve(objective.metric, [float(place) for place, _ in results], [value for _, value in results])
    figure = chart(f"{objective.metric}, by training job", [curve], x_label="number")
    content = table(("#No.", "Training job", "Status", f"#{objective.metric}", *(f"#{name}" for name in names)), rows)
    return section("Training jobs", markup('<div class="figures">{}</div>', figure), content if rows else EMPTY)


def _value(value: object) -> str:
    return number(value) if isinstance(value, int | float) else str(value)
