"""Names, states and the store."""

import json
import multiprocessing
import re

import pytest

from launcher.errors import JobExistsError, JobNotFoundError, LauncherError
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import Channel, MetricDefinition, TrainingJobSpec
from launcher.jobs.states import Status
from launcher.requests.names import check_job_name, make_job_name


def record(name="job-1", created=1.0):
    return JobRecord(spec=TrainingJobSpec(job_name=name, runtime="process").to_dict(), created=created)


def test_a_made_name_has_base_and_milliseconds():
    """2026-11-20 12:00:00.042 UTC, by hand."""
    assert make_job_name("rl-batch", 1795176000.042) == "rl-batch-2026-11-20-12-00-00-042"


@pytest.mark.parametrize("base", ["a" * 80, "under_score", "-dashes-", "..", "größe", "a--b"])
def test_any_base_makes_a_name_that_sagemaker_takes(base):
    name = make_job_name(base)
    assert check_job_name(name) == name
    assert re.search(r"-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-\d{3}$", name)


def test_a_job_that_has_ended_does_not_change():
    job = record()
    job.move(Status.IN_PROGRESS, "Starting", "", 1.0)
    job.move(Status.COMPLETED, "Completed", "", 2.0)
    with pytest.raises(LauncherError, match="is Completed cannot become Stopping"):
        job.move(Status.STOPPING, "Stopping", "", 3.0)


def test_a_job_is_stopped_by_way_of_stopping():
    job = record()
    with pytest.raises(LauncherError):
        job.move(Status.STOPPED, "Stopped", "", 1.0)


def test_each_transition_ends_when_the_next_begins():
    job = record()
    for seconds, secondary in enumerate(["Starting", "Downloading", "Training"]):
        job.move(Status.IN_PROGRESS, secondary, secondary, float(seconds))
    assert [(transition.status, transition.start, transition.end) for transition in job.transitions] == [
        ("Starting", 0.0, 1.0),
        ("Downloading", 1.0, 2.0),
        ("Training", 2.0, None),
    ]


def test_a_record_survives_the_trip_to_disk(store):
    spec = TrainingJobSpec(
        job_name="job-1",
        runtime="docker",
        hyperparameters={"a": "1"},
        channels=(Channel("train", "file:///data"),),
        metric_definitions=(MetricDefinition("loss", "loss=(.*)"),),
        container_arguments=("x",),
        tags=(("k", "v"),),
    )
    job = JobRecord(spec=spec.to_dict(), created=1.0)
    job.move(Status.IN_PROGRESS, "Starting", "s", 1.0)
    store.create("job-1", job)
    loaded = store.load("job-1")
    assert loaded.transitions == job.transitions
    assert loaded.training_spec == spec


def test_a_record_of_a_newer_version_can_be_read(store):
    folder = store.create("job-1", record())
    values = json.loads(folder.record_path.read_text())
    folder.record_path.write_text(json.dumps({**values, "invented_later": 1}))
    assert store.load("job-1").status == Status.IN_PROGRESS


def test_a_name_is_used_once(store):
    store.create("job-1", record())
    with pytest.raises(JobExistsError):
        store.create("job-1", record())
    assert [path.name for path in store.jobs_path.iterdir()] == ["job-1"]


def test_an_unknown_job_is_named(store):
    with pytest.raises(JobNotFoundError, match="no job 'nope'"):
        store.load("nope")


def test_jobs_are_listed_by_age(store):
    store.create("b", record("b", 1.0))
    store.create("a", record("a", 2.0))
    assert store.names() == ["b", "a"]


def _try_lock(folder, answer):
    with folder.driving(wait=False) as had:
        answer.put(had)


def test_one_process_drives_and_the_kernel_frees_the_lock_with_it(store):
    folder = store.create("job-1", record())
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    with folder.driving() as had:
        assert had
        context.Process(target=_try_lock, args=(folder, answer)).start()
        assert answer.get(timeout=10) is False
    context.Process(target=_try_lock, args=(folder, answer)).start()
    assert answer.get(timeout=10) is True


def test_a_folder_that_is_no_job_is_in_the_way(store):
    (store.jobs_path / "job-1" / "notes").mkdir(parents=True)
    with pytest.raises(LauncherError, match="is no job is in the way"):
        store.create("job-1", record())
    assert [path.name for path in store.jobs_path.iterdir()] == ["job-1"]
