"""CloudWatch's metrics of training and processing jobs: values that logs held, and what each host used.

Each operation is a function ``(document, home)``. It returns the answer, with ``datetime`` for a time, or None for
metrics of another namespace: whoever serves the rest of CloudWatch answers for those. ``ListMetrics`` without a
namespace answers for these jobs alone, and others are to be put behind them.

CloudWatch speaks three protocols: CBOR, which new versions of boto3 choose, JSON and query. Times of a request may be
``datetime`` or seconds since 1970.
"""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launcher.aws.checking import check_document
from launcher.aws.errors import AwsError
from launcher.jobs.folder import JobFolder
from launcher.jobs.kinds import PROCESSING_JOBS, TRAINING_JOBS, Kind
from launcher.jobs.metrics import MetricPoint, read_points
from launcher.jobs.record import utc
from launcher.jobs.store import Store
from launcher.jobs.usage import METRICS, latest_samples, read_samples

NAMESPACE = "/aws/sagemaker/TrainingJobs"
NAMESPACES: Mapping[str, Kind[Any]] = {NAMESPACE: TRAINING_JOBS, "/aws/sagemaker/ProcessingJobs": PROCESSING_JOBS}

_JOB, _HOST = "TrainingJobName", "Host"
_UNITS = {_JOB: "None", _HOST: "Percent"}
_INVALID = "ValidationError"
_MINUTE = 60
_SHORT_PERIODS = (1, 5, 10, 20, 30)
_MOST_STATISTICS, _MOST_DATA, _MOST_LISTED = 1440, 100_800, 500
_RECENT_SECONDS = 3 * 3600
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)")

Document = Mapping[str, Any]


def get_metric_statistics(document: Document, home: Path) -> dict[str, Any] | None:
    """Answer GetMetricStatistics: a point for each period with values, the oldest first."""
    check_document(document, "cloudwatch:GetMetricStatistics", _INVALID)
    if document["Namespace"] not in NAMESPACES:
        return None
    statistics = [*document.get("Statistics", ()), *document.get("ExtendedStatistics", ())]
    if not statistics:
        raise AwsError("InvalidParameterCombination", "Must specify either Statistics or ExtendedStatistics")
    begin, end = _range(document, document["Period"])
    count = math.ceil((end - begin) / document["Period"])
    if count > _MOST_STATISTICS:
        raise AwsError(
            "InvalidParameterCombination",
            f"You have requested up to {count:,} datapoints, which exceeds the limit of {_MOST_STATISTICS:,}. You may "
            "reduce the datapoints requested by increasing Period, or decreasing the time range.",
        )
    series = _series(document, document.get("Unit"), home)
    points = []
    unit = _UNITS[document["Dimensions"][0]["Name"]] if series else ""
    for moment, values in _periods(series, begin, end, document["Period"]):
        point: dict[str, Any] = {"Timestamp": utc(moment), "Unit": unit}
        for name in document.get("Statistics", ()):
            point[name] = _statistic(name, values)
        if extended := document.get("ExtendedStatistics"):
            point["ExtendedStatistics"] = {name: _statistic(name, values) for name in extended}
        points.append(point)
    return {"Label": document["MetricName"], "Datapoints": points}


def get_metric_data(document: Document, home: Path) -> dict[str, Any] | None:
    """Answer GetMetricData for queries that name a metric, in pages of ``MaxDatapoints``."""
    check_document(document, "cloudwatch:GetMetricData", _INVALID)
    queries = document["MetricDataQueries"]
    own = [query for query in queries if query.get("MetricStat", {}).get("Metric", {}).get("Namespace") in NAMESPACES]
    if not own:
        return None
    for query in queries:
        if "Expression" in query:
            raise AwsError(_INVALID, f"Expression of query {query['Id']} is not emulated. Ask for its metrics alone.")
        if query not in own:
            raise AwsError(
                _INVALID,
                f"Metrics of {' or '.join(NAMESPACES)} and of other namespaces cannot be asked for at once.",
            )
    if len({query["Id"] for query in queries}) < len(queries):
        raise AwsError(_INVALID, "The values for parameter id in MetricDataQueries must be unique.")
    flat = []
    for number, query in enumerate(queries):
        wanted = query["MetricStat"]
        begin, end = _range(document, wanted["Period"])
        series = _series(wanted["Metric"], wanted.get("Unit"), home)
        points = [
            (number, utc(moment), _statistic(wanted["Stat"], values))
            for moment, values in _periods(series, begin, end, wanted["Period"])
        ]
        is_rising = document.get("ScanBy") == "TimestampAscending"
        flat += points if is_rising else points[::-1]
    first = _place(document, len(flat))
    last = min(len(flat), first + document.get("MaxDatapoints", _MOST_DATA))
    shown: defaultdict[int, list[tuple[datetime, float]]] = defaultdict(list)
    for number, moment, value in flat[first:last]:
        shown[number].append((moment, value))
    waiting = {number for number, _, _ in flat[last:]}
    return {
        "MetricDataResults": [
            {
                "Id": query["Id"],
                "Label": query.get("Label", query["MetricStat"]["Metric"]["MetricName"]),
                "Timestamps": [moment for moment, _ in shown[number]],
                "Values": [value for _, value in shown[number]],
                "StatusCode": "PartialData" if number in waiting else "Complete",
            }
            for number, query in enumerate(queries)
            if query.get("ReturnData", True)
        ],
        "Messages": [],
        **({"NextToken": str(last)} if last < len(flat) else {}),
    }


def list_metrics(document: Document, home: Path) -> dict[str, Any] | None:
    """Answer ListMetrics: every metric of every job and host that has a value; None also for a token of others."""
    check_document(document, "cloudwatch:ListMetrics", _INVALID)
    namespaces = [document["Namespace"]] if "Namespace" in document else list(NAMESPACES)
    if not NAMESPACES.keys() >= {*namespaces} or not document.get("NextToken", "0").isdigit():
        return None
    filters = document.get("Dimensions", ())
    metrics = [
        {"Namespace": namespace, "MetricName": name, "Dimensions": [{"Name": dimension, "Value": value}]}
        for namespace in namespaces
        for dimension, value, name, moment in _listed(namespace, home)
        if document.get("MetricName", name) == name
        and all(wanted["Name"] == dimension and wanted.get("Value", value) == value for wanted in filters)
        and ("RecentlyActive" not in document or time.time() - moment < _RECENT_SECONDS)
    ]
    first = _place(document, len(metrics))
    last = min(len(metrics), first + _MOST_LISTED)
    return {"Metrics": metrics[first:last], **({"NextToken": str(last)} if last < len(metrics) else {})}


def _listed(namespace: str, home: Path) -> Iterator[tuple[str, str, str, float]]:
    """Yield dimension, its value, name and last moment of each metric of a namespace."""
    for job, folder in _folders(namespace, home).items():
        latest: dict[str, float] = {}
        for point in read_points(folder.metrics_path):
            latest[point.name] = max(point.timestamp, latest.get(point.name, 0.0))
        yield from ((_JOB, job, name, moment) for name, moment in sorted(latest.items()))
        for host, sample in latest_samples(folder.usage_path).items():
            yield from ((_HOST, f"{job}/{host}", name, sample.time) for name in sorted(METRICS))


def _folders(namespace: str, home: Path) -> dict[str, JobFolder]:
    """Return the folders of a namespace's jobs, by name in their order."""
    store: Store[Any] = Store(home, NAMESPACES[namespace])
    entries = store.path.iterdir() if store.path.is_dir() else ()
    return {name: store.folder(name) for name in sorted(entry.name for entry in entries) if not name.startswith(".")}


def _series(metric: Document, unit: str | None, home: Path) -> list[MetricPoint]:
    """Return all values of a metric; none for dimensions that no job has."""
    match metric.get("Dimensions", ()):
        case [{"Name": "TrainingJobName" | "Host" as dimension, "Value": str(value)}] if unit in (
            None,
            _UNITS[dimension],
        ):
            job, _, host = value.partition("/")
            # Of the listed ones, so that no name is a path to somewhere else.
            folder, name = _folders(metric["Namespace"], home).get(job), metric["MetricName"]
            if folder is None:
                return []
            if dimension == _JOB:
                return [point for point in read_points(folder.metrics_path) if point.name == name and not host]
            samples = read_samples(folder.usage_path) if name in METRICS else []
            return [
                MetricPoint(sample.time, name, getattr(sample, METRICS[name]))
                for sample in samples
                if sample.host == host
            ]
    return []


def _range(document: Document, period: int) -> tuple[float, float]:
    """Return the seconds since 1970 that are asked for: CloudWatch begins at a whole minute, or second."""
    if period not in _SHORT_PERIODS and period % _MINUTE:
        raise AwsError(
            "InvalidParameterValue",
            f"The parameter Period must be one of {', '.join(map(str, _SHORT_PERIODS))}, or a multiple of 60.",
        )
    begin, end = _seconds(document["StartTime"], "StartTime"), _seconds(document["EndTime"], "EndTime")
    if begin >= end:
        raise AwsError(
            "InvalidParameterCombination", "The parameter StartTime must be less than the parameter EndTime."
        )
    unit = 1 if period < _MINUTE else _MINUTE
    return begin // unit * unit, end


def _seconds(value: object, member: str) -> float:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise AwsError("InvalidParameterValue", f"The parameter {member} is no time: {value}.")


def _periods(
    points: Iterable[MetricPoint], begin: float, end: float, period: int
) -> list[tuple[float, Sequence[float]]]:
    """Return the values of each period that has some, with the moment at which it begins."""
    values: defaultdict[float, list[float]] = defaultdict(list)
    for point in points:
        if begin <= point.timestamp < end:
            values[begin + (point.timestamp - begin) // period * period].append(point.value)
    return sorted(values.items())


def _statistic(name: str, values: Sequence[float]) -> float:
    match name:
        case "Average":
            return math.fsum(values) / len(values)
        case "Sum":
            return math.fsum(values)
        case "Minimum":
            return min(values)
        case "Maximum":
            return max(values)
        case "SampleCount":
            return float(len(values))
    match = _PERCENTILE.fullmatch(name)
    if match is None:
        raise AwsError("InvalidParameterValue", f"The statistic {name} is not emulated. Use pNN for a percentile.")
    ordered = sorted(values)
    place = float(match.group(1)) / 100 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _place(document: Document, count: int) -> int:
    """Return the number of the first entry of a page."""
    token = document.get("NextToken", "0")
    if not token.isascii() or not token.isdigit() or int(token[:9]) > count:
        raise AwsError("InvalidNextToken", "The next token is invalid.")
    return int(token[:9])
