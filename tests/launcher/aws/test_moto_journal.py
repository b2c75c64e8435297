"""What moto keeps outlives its process, and the servers of a home share it."""

import json

import boto3
import pytest

from launcher.aws.moto_journal import MAX_BYTES, Entry, Journal
from launcher.storage.own_s3 import ensure_server, stop_servers

KEYS = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "eu-west-1"}


def client(service, url):
    return boto3.client(service, endpoint_url=url, **KEYS)


def test_roles_repositories_groups_and_alarms_are_there_after_a_restart_and_on_the_other_server(home):
    url = ensure_server(home)
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = client("iam", url).create_role(RoleName="trainer", AssumeRolePolicyDocument=trust)["Role"]
    client("iam", url).create_role(RoleName="gone", AssumeRolePolicyDocument=trust)
    client("iam", url).delete_role(RoleName="gone")
    repository = client("ecr", url).create_repository(repositoryName="my-image")["repository"]
    client("logs", url).create_log_group(logGroupName="/mine")
    stop_servers(home)
    url, other = ensure_server(home), ensure_server(home, "127.0.0.2")
    assert [group["logGroupName"] for group in client("logs", url).describe_log_groups()["logGroups"]] == ["/mine"]
    for place in (url, other):
        assert client("iam", place).get_role(RoleName="trainer")["Role"]["RoleId"] == role["RoleId"]
        described = client("ecr", place).describe_repositories()["repositories"]
        assert [entry["repositoryArn"] for entry in described] == [repository["repositoryArn"]]
        names = {entry["RoleName"] for entry in client("iam", place).list_roles()["Roles"]}
        assert names == {"launcher-local", "trainer"}
    client("cloudwatch", other).put_metric_alarm(
        AlarmName="low",
        ComparisonOperator="LessThanThreshold",
        EvaluationPeriods=1,
        MetricName="score",
        Namespace="mine",
        Period=60,
        Statistic="Average",
        Threshold=1,
    )
    alarms = client("cloudwatch", url).describe_alarms()["MetricAlarms"]
    assert [alarm["AlarmName"] for alarm in alarms] == ["low"]


def entry(name, size=0):
    return Entry("iam", "POST", "/", {"content-type": "form", "cookie": "x"}, name.encode() + bytes(size), 7)


def read(home):
    names = []
    with Journal(home).caught_up(lambda entry: names.append(entry.body.decode()), writes=False):
        return names


def test_a_line_that_was_cut_off_is_left_out_and_the_next_one_counts(home):
    journal = Journal(home)
    with journal.caught_up(pytest.fail, writes=True):
        journal.add(entry("first"))
    with journal.path.open("ab") as file:
        file.write(b'{"service": "iam", "met')
    with journal.caught_up(pytest.fail, writes=True):
        journal.add(entry("second"))
    assert read(home) == ["first", "second"]
    with journal.path.open("ab") as file:
        file.write(b"no json\n")
    assert read(home) == ["first", "second"]
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_a_full_journal_says_so_and_stays_as_it_is(home, caplog):
    journal = Journal(home)
    with journal.caught_up(pytest.fail, writes=True):
        journal.add(entry("first"))
        journal.add(entry("large", MAX_BYTES))
    assert "is full" in caplog.text
    assert read(home) == ["first"]


@pytest.mark.parametrize(
    ("service", "operation", "written"),
    [
        ("iam", "CreateRole", True),
        ("iam", "GetRole", False),
        ("iam", "GenerateCredentialReport", False),
        ("logs", "PutLogEvents", False),
        ("logs", "PutRetentionPolicy", True),
        ("cloudwatch", "PutMetricData", False),
        ("cloudwatch", "PutMetricAlarm", True),
        ("ecr", "PutImage", True),
        ("ecr", "BatchGetImage", False),
        ("ecr", "BatchDeleteImage", True),
        ("sts", "AssumeRole", False),
    ],
)
def test_what_changes_something_is_written_down_and_data_are_not(home, service, operation, written):
    assert Journal(home).keeps(service, operation) is written
