"""Lists: every filter, every order, pages and tokens; on records that are written, not run."""

import time
from datetime import UTC, datetime

import pytest

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker import answer
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import JobStore
from tests.launcher.aws.clients import sagemaker_client

ENDINGS = {
    Status.COMPLETED: SecondaryStatus.COMPLETED,
    Status.FAILED: SecondaryStatus.FAILED,
    Status.STOPPED: SecondaryStatus.STOPPED,
}


def record_job(home, name, created, status=Status.COMPLETED):
    """Write the record of a job that has ended."""
    spec = TrainingJobSpec(job_name=name, runtime="process", output_uri="s3://results/jobs")
    record = JobRecord(
        spec=spec.to_dict(), created=created, ended=created + 5, status=status, secondary_status=ENDINGS[status]
    )
    JobStore(home).create(name, record)


@pytest.fixture
def jobs(home):
    """Jobs a to e, made at 100, 200, 300, 300 and 500 seconds after 1970."""
    statuses = [Status.COMPLETED, Status.FAILED, Status.COMPLETED, Status.STOPPED, Status.COMPLETED]
    for name, created, status in zip("abcde", (100.0, 200.0, 300.0, 300.0, 500.0), statuses, strict=True):
        record_job(home, f"job-{name}", created, status)
    return sagemaker_client(home)


def letters(answered):
    return "".join(job["TrainingJobName"][-1] for job in answered["TrainingJobSummaries"])


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, "edcba"),
        ({"SortOrder": "Ascending"}, "abcde"),
        ({"SortBy": "Name", "SortOrder": "Ascending"}, "abcde"),
        ({"SortBy": "Name"}, "edcba"),
        ({"SortBy": "Status", "SortOrder": "Ascending"}, "acebd"),
        ({"NameContains": "-c"}, "c"),
        ({"NameContains": "C"}, ""),
        ({"StatusEquals": "Failed"}, "b"),
        ({"CreationTimeAfter": datetime.fromtimestamp(200, UTC)}, "edcb"),
        ({"CreationTimeBefore": datetime.fromtimestamp(299, UTC)}, "ba"),
        ({"CreationTimeAfter": 250, "CreationTimeBefore": 350, "SortOrder": "Ascending"}, "cd"),
        ({"LastModifiedTimeAfter": time.time() + 86_400}, ""),
        ({"LastModifiedTimeBefore": time.time() - 3600}, ""),
        ({"LastModifiedTimeAfter": time.time() - 60}, "edcba"),
        ({"WarmPoolStatusEquals": "Available"}, ""),
        ({"MaxResults": 3, "StatusEquals": "Completed"}, "ec"),  # AWS takes three, and filters them afterwards
    ],
)
def test_filters_and_orders_leave_what_they_name(jobs, request_, expected):
    assert letters(jobs.list_training_jobs(**request_)) == expected


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
@pytest.mark.parametrize("sort_by", ["Name", "CreationTime", "Status"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_pages_together_are_the_list_and_the_last_has_no_token(jobs, order, sort_by, size):
    request = {"SortBy": sort_by, "SortOrder": order}
    pages = list(jobs.get_paginator("list_training_jobs").paginate(**request, PaginationConfig={"PageSize": size}))
    assert [len(page["TrainingJobSummaries"]) for page in pages][:-1] == [size] * (len(pages) - 1)
    assert "".join(map(letters, pages)) == letters(jobs.list_training_jobs(**request))
    assert "NextToken" not in pages[-1]


def test_a_page_goes_on_where_the_last_ended_whatever_was_made_or_deleted_meanwhile(jobs, home):
    first = jobs.list_training_jobs(MaxResults=2)
    assert letters(first) == "ed"
    record_job(home, "job-f", 600.0)
    JobStore(home).remove("job-d")
    assert letters(jobs.list_training_jobs(MaxResults=5, NextToken=first["NextToken"])) == "cba"


@pytest.mark.parametrize("token", ["", "nonsense", "é", "W10=", "WzFd", "bnVsbA==", "[" * 8000])
def test_a_token_that_nobody_gave_is_refused(jobs, home, token):
    with pytest.raises(AwsError, match="Invalid NextToken"):
        answer("ListTrainingJobs", {"NextToken": token}, home)


def test_a_token_of_another_list_is_refused(jobs, home):
    token = jobs.list_training_jobs(MaxResults=2)["NextToken"]
    with pytest.raises(AwsError, match="Invalid NextToken"):
        answer("ListTrainingJobs", {"NextToken": token, "NameContains": "job"}, home)


def test_without_a_size_a_page_has_ten_as_with_aws(home):
    for number in range(12):
        record_job(home, f"job-{number}", float(number))
    answered = answer("ListTrainingJobs", {}, home)
    assert len(answered["TrainingJobSummaries"]) == 10
    assert "NextToken" in answered


def test_a_changed_record_is_read_again_and_a_damaged_one_hides_no_other(jobs, home):
    store = JobStore(home)
    assert letters(jobs.list_training_jobs(StatusEquals="Stopped")) == "d"
    record = store.load("job-a")
    record.status, record.secondary_status = Status.STOPPED, SecondaryStatus.STOPPED
    store.save("job-a", record)
    store.folder("job-b").record_path.write_text("{")
    assert letters(jobs.list_training_jobs(StatusEquals="Stopped")) == "da"
    assert letters(jobs.list_training_jobs()) == "edca"


def test_an_empty_home_lists_nothing(home):
    assert answer("ListTrainingJobs", {}, home) == {"TrainingJobSummaries": []}
