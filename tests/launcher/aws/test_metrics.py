"""CloudWatch's metrics of training jobs: the values of their logs, by periods."""

import json
import time
from datetime import UTC, datetime

import pytest

from launcher.aws import metrics
from launcher.aws.errors import AwsError
from launcher.jobs.store import JobStore
from launcher.jobs.usage import UsageSample, append_samples

BEGAN = 1_700_000_040  # a whole minute


@pytest.fixture
def job(home):
    """Write the values that a job's log held: seconds after the beginning, metric, value."""

    def job(*points, name="job-1"):
        folder = JobStore(home).folder(name)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.metrics_path.write_text("".join(json.dumps([BEGAN + at, *rest]) + "\n" for at, *rest in points))

    return job


def moment(seconds):
    return datetime.fromtimestamp(BEGAN + seconds, UTC)


def metric(name="reward", job="job-1"):
    dimensions = [{"Name": "TrainingJobName", "Value": job}]
    return {"Namespace": metrics.NAMESPACE, "MetricName": name, "Dimensions": dimensions}


@pytest.fixture
def statistics(home):
    def statistics(*names, **members):
        request = {
            **metric(),
            "StartTime": BEGAN,
            "EndTime": BEGAN + 600,
            "Period": 60,
            "Statistics": [*names],
        } | members
        answer = metrics.get_metric_statistics(request, home)
        return [
            ((point["Timestamp"] - moment(0)).total_seconds(), *(point[name] for name in names))
            for point in answer["Datapoints"]
        ]

    return statistics


def test_a_period_has_the_statistics_of_its_values(job, statistics):
    """By hand: 1 and 3 in the first minute, 10 in the third."""
    job((0, "reward", 1.0), (59.9, "reward", 3.0), (130, "reward", 10.0), (10, "loss", 99.0))
    assert statistics("Average", "Sum", "Minimum", "Maximum", "SampleCount") == [
        (0, 2.0, 4.0, 1.0, 3.0, 2.0),
        (120, 10.0, 10.0, 10.0, 10.0, 1.0),
    ]


def test_the_start_is_a_whole_minute_and_the_end_is_not_within(job, statistics):
    """As version 2 of the SDK asks: from TrainingStartTime, which has seconds."""
    job((5, "reward", 1.0), (120, "reward", 2.0))
    assert statistics("Average", StartTime=moment(37), EndTime=moment(120)) == [(0, 1.0)]
    assert statistics("Average", StartTime=moment(37).replace(tzinfo=None), EndTime=BEGAN + 121.5) == [(0, 1), (120, 2)]


def test_short_periods_begin_at_whole_seconds(job, statistics):
    job((5.7, "reward", 1.0), (6.2, "reward", 3.0))
    assert statistics("Average", Period=1, StartTime=BEGAN + 5.5) == [(5, 1.0), (6, 3.0)]


def test_percentiles_lie_between_the_values(job, home):
    """By hand: of 1, 2, 3, 4 the median is 2.5, and the 90th percentile is at 2.7 of 3 steps: 3.7."""
    job(*((number, "reward", number + 1.0) for number in range(4)))
    request = {**metric(), "StartTime": BEGAN, "EndTime": BEGAN + 60, "Period": 60}
    answer = metrics.get_metric_statistics({**request, "ExtendedStatistics": ["p50", "p90", "p100"]}, home)
    (point,) = answer["Datapoints"]
    assert point["ExtendedStatistics"] == pytest.approx({"p50": 2.5, "p90": 3.7, "p100": 4.0})
    with pytest.raises(AwsError, match="tm90 is not emulated"):
        metrics.get_metric_statistics({**request, "ExtendedStatistics": ["tm90"]}, home)


def test_other_jobs_dimensions_and_units_have_no_points(job, statistics):
    job((0, "reward", 1.0))
    assert statistics("Sum", Dimensions=[{"Name": "TrainingJobName", "Value": "../jobs/job-1"}]) == []
    assert statistics("Sum", Dimensions=[]) == []
    assert statistics("Sum", Unit="Bytes") == []
    assert statistics("Sum", Unit="None") == [(0, 1.0)]


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"Statistics": []}, "ValidationError", "at 'statistics' failed"),
        ({"Statistics": ["Mean"]}, "ValidationError", "Member must satisfy"),
        ({"EndTime": BEGAN}, "InvalidParameterCombination", "StartTime must be less"),
        ({"Period": 61}, "InvalidParameterValue", "Period"),
        ({"Period": 0}, "ValidationError", "greater than or equal to 1"),
        ({"StartTime": "soon"}, "InvalidParameterValue", "StartTime is no time: soon"),
        ({"StartTime": float("nan")}, "InvalidParameterValue", "StartTime is no time: nan"),
        ({"Period": 1, "EndTime": BEGAN + 1441}, "InvalidParameterCombination", "up to 1,441 datapoints"),
    ],
)
def test_requests_that_cannot_be_answered_are_refused(statistics, members, code, words):
    with pytest.raises(AwsError) as raised:
        statistics("Average", **members)
    assert raised.value.code == code
    assert words in raised.value.message


def data(home, *queries, **members):
    request = {"MetricDataQueries": list(queries), "StartTime": moment(0), "EndTime": moment(600), **members}
    return metrics.get_metric_data(request, home)


def query(identity, name="reward", stat="Average", **members):
    return {"Id": identity, "MetricStat": {"Metric": metric(name), "Period": 60, "Stat": stat}, **members}


def test_data_of_several_metrics_come_newest_first_unless_asked_otherwise(job, home):
    job((0, "reward", 1.0), (60, "reward", 2.0), (0, "loss", 5.0))
    reward, loss = data(home, query("a"), query("b", "loss", Label="Loss"))["MetricDataResults"]
    assert (reward["Timestamps"], reward["Values"]) == ([moment(60), moment(0)], [2.0, 1.0])
    assert (loss["Label"], loss["Values"], loss["StatusCode"]) == ("Loss", [5.0], "Complete")
    (rising,) = data(home, query("a"), ScanBy="TimestampAscending")["MetricDataResults"]
    assert rising["Values"] == [1.0, 2.0]


def test_data_come_in_pages(job, home):
    job(*((60 * number, "reward", float(number)) for number in range(5)), (0, "loss", 9.0))
    queries = query("a"), query("b", "loss")
    values, states, token = {"a": [], "b": []}, [], {}
    while True:
        answer = data(home, *queries, MaxDatapoints=2, ScanBy="TimestampAscending", **token)
        for result in answer["MetricDataResults"]:
            values[result["Id"]] += result["Values"]
        states.append([result["StatusCode"] for result in answer["MetricDataResults"]])
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert values == {"a": [0.0, 1.0, 2.0, 3.0, 4.0], "b": [9.0]}
    assert states == [["PartialData", "PartialData"], ["PartialData", "PartialData"], ["Complete", "Complete"]]


def test_expressions_and_mixtures_are_refused_by_name_and_other_namespaces_left_to_others(home):
    other = {"Id": "o", "MetricStat": {"Metric": {"Namespace": "mine", "MetricName": "m"}, "Period": 60, "Stat": "Sum"}}
    with pytest.raises(AwsError, match="Expression of query e is not emulated"):
        data(home, query("a"), {"Id": "e", "Expression": "a * 2"})
    with pytest.raises(AwsError, match="other namespaces"):
        data(home, query("a"), other)
    with pytest.raises(AwsError, match="must be unique"):
        data(home, query("a"), query("a"))
    assert data(home, other) is None
    assert metrics.list_metrics({"Namespace": "mine"}, home) is None
    document = {"Namespace": "mine", "MetricName": "m", "StartTime": 0, "EndTime": 60, "Period": 60}
    assert metrics.get_metric_statistics(document, home) is None


def test_metrics_are_listed_by_job_name_and_activity(job, home):
    job((0, "reward", 1.0), (1, "loss", 1.0), (2, "loss", 1.0))
    job((time.time() - BEGAN, "reward", 1.0), name="job-2")

    def listed(**members):
        return [
            (entry["Dimensions"][0]["Value"], entry["MetricName"])
            for entry in metrics.list_metrics(members, home)["Metrics"]
        ]

    assert listed() == [("job-1", "loss"), ("job-1", "reward"), ("job-2", "reward")]
    assert listed(MetricName="reward") == [("job-1", "reward"), ("job-2", "reward")]
    assert listed(Dimensions=[{"Name": "TrainingJobName", "Value": "job-1"}], MetricName="loss") == [("job-1", "loss")]
    assert len(listed(Dimensions=[{"Name": "TrainingJobName"}])) == 3
    assert listed(Dimensions=[{"Name": "Host"}]) == []
    assert listed(RecentlyActive="PT3H") == [("job-2", "reward")]
    assert metrics.list_metrics({"NextToken": "of others"}, home) is None
    with pytest.raises(AwsError, match="InvalidNextToken"):
        listed(NextToken="99")


@pytest.fixture
def used(home):
    """Two hosts of a job, half a minute apart; of a processing job only the first."""
    numbers = {"cpu_seconds": 1.0, "memory_bytes": 1, "memory_peak_bytes": 1, "disk_bytes": 1, "disk_percent": 5.0}
    samples = [
        UsageSample(BEGAN + at, host, cpu_percent=cpu, memory_percent=memory, **numbers)
        for at, host, cpu, memory in ((0, "algo-1", 50.0, 10.0), (0, "algo-2", 9.0, 90.0), (30, "algo-1", 150.0, 20.0))
    ]
    for kind, count in (("jobs", 3), ("processing-jobs", 1)):
        (home / kind / "job-1").mkdir(parents=True)
        append_samples(home / kind / "job-1" / "usage.jsonl", samples[:count])


def host_metric(name, host="job-1/algo-1", **members):
    request = {"StartTime": BEGAN, "EndTime": BEGAN + 600, "Period": 60, "Statistics": ["Average", "Maximum"]}
    dimensions = [{"Name": "Host", "Value": host}]
    return {"Namespace": metrics.NAMESPACE, "MetricName": name, "Dimensions": dimensions, **request, **members}


def test_what_a_host_used_is_a_metric_of_it(used, home):
    """By hand: 50 and 150 per cent of a CPU in the same minute; each host has its own numbers."""
    [point] = metrics.get_metric_statistics(host_metric("CPUUtilization"), home)["Datapoints"]
    assert point == {"Timestamp": moment(0), "Unit": "Percent", "Average": 100.0, "Maximum": 150.0}
    [point] = metrics.get_metric_statistics(host_metric("MemoryUtilization", "job-1/algo-2"), home)["Datapoints"]
    assert point["Average"] == 90.0
    processing = host_metric("DiskUtilization", Namespace="/aws/sagemaker/ProcessingJobs")
    assert metrics.get_metric_statistics(processing, home)["Datapoints"][0]["Average"] == 5.0
    for request in (
        host_metric("CPUUtilization", "job-1"),
        host_metric("CPUUtilization", "job-1/algo-3"),
        host_metric("CPUUtilization", "../jobs/job-1/algo-1"),
        host_metric("CPUUtilization", Unit="None"),
        host_metric("reward"),
    ):
        assert metrics.get_metric_statistics(request, home)["Datapoints"] == []


def test_what_hosts_used_is_listed_by_host(used, job, home):
    def listed(**members):
        return [
            (entry["Namespace"].rpartition("/")[2], entry["Dimensions"][0]["Value"], entry["MetricName"])
            for entry in metrics.list_metrics(members, home)["Metrics"]
        ]

    names = ["CPUUtilization", "DiskUtilization", "MemoryUtilization"]
    training = [("TrainingJobs", f"job-1/{host}", name) for host in ("algo-1", "algo-2") for name in names]
    assert listed() == [*training, *(("ProcessingJobs", "job-1/algo-1", name) for name in names)]
    assert listed(Namespace=metrics.NAMESPACE) == training
    assert len(listed(Dimensions=[{"Name": "Host", "Value": "job-1/algo-1"}], MetricName="CPUUtilization")) == 2
    assert listed(Dimensions=[{"Name": "TrainingJobName"}]) == []
