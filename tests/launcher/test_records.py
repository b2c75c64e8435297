"""Records of other versions, damaged ones, and what a job's folder may suffer while somebody looks at it."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

import launcher
from launcher.errors import JobNotFoundError, LauncherError, RecordError
from launcher.jobs import clock
from launcher.jobs.batch import ServiceJobRecord
from launcher.jobs.endpoint_record import EndpointRecord
from launcher.jobs.processing_record import ProcessingRecord
from launcher.jobs.record import _KINDS, RECORD_VERSION, JobRecord
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.states import MOVES, STATUSES, STOPS, SecondaryStatus, Status, StopReason
from launcher.jobs.transform_record import TransformRecord
from launcher.jobs.tuning_record import TuningRecord
from tests.shell import launcher_environment, run_launcher
from tests.users import without_rights

KINDS = [JobRecord, ProcessingRecord, TransformRecord, TuningRecord, ServiceJobRecord, EndpointRecord]
RECORDS = sorted((Path(__file__).parent / "records").glob("*.json"))


def record(name="job-1", created=1.0):
    return JobRecord(spec=TrainingJobSpec(job_name=name, runtime="process").to_dict(), created=created)


def put(store, name, text):
    folder = store.jobs_path / name
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(text)
    return folder / "job.json"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_new_record_has_values_that_its_reader_takes(kind):
    """The kinds of value are told by name for all records together, so that a name means the same in each of them."""
    for part in fields(kind):
        default = part.default if part.default_factory is MISSING else part.default_factory()
        by_default = (str,) if part.name.endswith(("status", "reason", "_by")) else (dict,)
        if default is not MISSING and part.name != "extra":
            assert isinstance(default, _KINDS.get(part.name, by_default)), part.name


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_of_every_released_version_is_read_and_described(store, path):
    values = json.loads(path.read_text())
    name = values["spec"]["job_name"]
    put(store, name, path.read_text())
    loaded = store.load(name)
    assert loaded.status is Status.COMPLETED
    assert loaded.training_spec.channels[0].name == "train"
    assert loaded.training_spec.checkpoint_config.s3_uri == values["spec"]["checkpoint_config"]["s3_uri"]
    description = launcher.TrainingJob(name, store).describe()
    assert description["TrainingTimeInSeconds"] == 1
    states = [transition["Status"] for transition in description["SecondaryStatusTransitions"]]
    assert states == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert description["FinalMetricDataList"][0]["Value"] == 0.5


def test_there_is_a_record_of_the_first_release():
    assert RECORDS[0].stem == "0.1.0"


def test_what_a_newer_version_has_added_anywhere_is_ignored_and_written_again(store):
    values = json.loads(RECORDS[0].read_text())
    values |= {"version": 99, "invented": {"a": 1}}
    values["spec"]["invented"] = 2
    values["spec"]["channels"][0]["invented"] = 3
    values["spec"]["metric_definitions"][0]["invented"] = 4
    values["spec"]["checkpoint_config"]["invented"] = 5
    values["transitions"][0]["invented"] = 6
    name = values["spec"]["job_name"]
    path = put(store, name, json.dumps(values))
    loaded = store.load(name)
    assert loaded.training_spec.runtime == "process"
    store.save(name, loaded)
    written = json.loads(path.read_text())
    del written["modified"], values["modified"]
    assert {key: written[key] for key in values} == values


def test_a_field_that_an_older_version_did_not_have_takes_its_default(store):
    put(store, "job-1", json.dumps({"spec": {"job_name": "job-1", "runtime": "process"}}))
    loaded = store.load("job-1")
    assert loaded.status is Status.IN_PROGRESS
    assert loaded.transitions == []
    assert loaded.training_spec == TrainingJobSpec(job_name="job-1", runtime="process")
    assert loaded.version == 1
    store.save("job-1", loaded)
    assert store.load("job-1").version == RECORD_VERSION


def test_a_secondary_status_of_a_newer_version_is_shown_as_it_is(store):
    values = record().to_dict() | {"status": "InProgress", "secondary_status": "Interrupted"}
    put(store, "job-1", json.dumps(values))
    assert launcher.TrainingJob("job-1", store).describe()["SecondaryStatus"] == "Interrupted"


DAMAGED = {
    "empty": "",
    "a-list": "[]",
    "a-number": "5",
    "no-spec": "{}",
    "empty-spec": '{"spec": {}}',
    "odd-spec": '{"spec": []}',
    "odd-channels": '{"spec": {"job_name": "a", "runtime": "process", "channels": 5}}',
    "odd-channel": '{"spec": {"job_name": "a", "runtime": "process", "channels": [5]}}',
    "odd-name": '{"spec": {"job_name": 5, "runtime": "process"}}',
    "odd-runtime": '{"spec": {"job_name": "a", "runtime": 5}}',
    "odd-created": '{"spec": {"job_name": "a", "runtime": "process"}, "created": "yesterday"}',
    "odd-status": '{"spec": {"job_name": "a", "runtime": "process"}, "status": "Paused"}',
    "odd-transitions": '{"spec": {"job_name": "a", "runtime": "process"}, "transitions": [5]}',
    "odd-time": '{"spec": {"job_name": "a", "runtime": "process"}, "transitions": [{"status": "x", "start": "y"}]}',
    "odd-steps": '{"spec": {"job_name": "a", "runtime": "process"}, "steps": 5}',
    "odd-warnings": '{"spec": {"job_name": "a", "runtime": "process"}, "warnings": "x"}',
    "cut-off": '{"spec": {"job_name": "a", ',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("damage", sorted(DAMAGED))
def test_a_damaged_record_is_named_and_hides_no_other_job(store, damage):
    store.create("good", record("good"))
    path = put(store, damage, DAMAGED[damage])
    assert store.names() == ["good"]
    _, errors = store.records()
    assert [str(path) in error.message for error in errors] == [True]
    with pytest.raises(RecordError, match=f"job '{damage}'"):
        store.load(damage)


def test_ls_and_latest_name_what_cannot_be_read_and_show_the_rest(store, tmp_path):
    done = record("good")
    done.move(Status.COMPLETED, SecondaryStatus.COMPLETED, "", 2.0)
    store.create("good", done)
    for damage, text in DAMAGED.items():
        put(store, damage, text)
    (store.jobs_path / "binary").mkdir()
    (store.jobs_path / "binary" / "job.json").write_bytes(b"\xff\xfe")
    (store.jobs_path / "folder" / "job.json").mkdir(parents=True)
    answer = run_launcher("ls", cwd=tmp_path)
    assert answer.returncode == 0
    assert [line.split()[0] for line in answer.stdout.splitlines()[1:]] == ["good"]
    for damage in [*DAMAGED, "binary", "folder"]:
        assert f"RecordError: job '{damage}'" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert json.loads(run_launcher("ls", "--json", cwd=tmp_path).stdout)[0]["TrainingJobName"] == "good"
    assert run_launcher("describe", "latest", cwd=tmp_path).stdout.startswith("TrainingJobName: good")
    assert run_launcher("describe", "empty", cwd=tmp_path).returncode == 1


def test_a_job_whose_engine_does_not_answer_is_shown_as_unknown(store, tmp_path):
    job = record()
    job.unknown_since = 1.0
    job.warn("since 1970 the job's state is unknown: no engine answers")
    with store.create("job-1", job).driving():
        answer = run_launcher("ls", cwd=tmp_path)
        described = run_launcher("describe", "job-1", cwd=tmp_path)
    assert answer.stdout.splitlines()[1].startswith("job-1  InProgress (unknown)  process")
    assert "the job's state is unknown: no engine answers" in answer.stderr
    assert "no engine answers" in described.stderr


def test_a_job_that_is_removed_while_jobs_are_listed_is_left_out(store, monkeypatch):
    store.create("good", record("good"))
    store.create("gone", record("gone"))
    load = type(store).load

    def remove_first(self, name):
        if name == "gone":
            shutil.rmtree(self.folder(name).path, ignore_errors=True)
        return load(self, name)

    monkeypatch.setattr(type(store), "load", remove_first)
    assert store.names() == ["good"]


def test_a_home_that_may_not_be_entered_is_named(tmp_path, home):
    (home / "jobs").mkdir(parents=True)
    home.chmod(0)
    try:
        for command in (("ls",), ("describe", "job-1"), ("logs", "job-1"), ("gc",), ("fit", "train.py")):
            answer = _without_rights(*command, cwd=tmp_path)
            assert answer.returncode in (1, 2), answer.stderr
            assert "Traceback" not in answer.stderr
            assert str(home) in answer.stderr
    finally:
        home.chmod(0o700)


def _without_rights(*arguments, cwd):
    command = without_rights([sys.executable, "-m", "launcher", *arguments])
    (cwd / "train.py").write_text("print(1)")
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=launcher_environment(), check=False)


def test_every_move_that_is_not_in_the_table_is_refused():
    for status in Status:
        for target in Status:
            for secondary in SecondaryStatus:
                job = record()
                job.status = status
                legal = target in MOVES[status] and target in STATUSES[secondary]
                if legal:
                    job.move(target, secondary, "", 1.0)
                    assert (job.status, job.secondary_status) == (target, secondary)
                else:
                    with pytest.raises(LauncherError):
                        job.move(target, secondary, "", 1.0)


def test_a_reason_that_is_in_no_table_cannot_be_written(store):
    assert set(STOPS) == set(StopReason)
    assert set(STATUSES) == set(SecondaryStatus)
    job = record()
    store.create("job-1", job)
    job.stop_reason = "Weather"
    with pytest.raises(ValueError, match="Weather"):
        store.save("job-1", job)
    assert store.load("job-1").stop_reason is StopReason.NONE
    job.stop_reason, job.status = StopReason.NONE, "Paused"
    with pytest.raises(ValueError, match="Paused"):
        store.save("job-1", job)


def test_states_are_the_same_words_in_json_as_before(store):
    job = record()
    job.move(Status.IN_PROGRESS, SecondaryStatus.TRAINING, "", 1.0)
    store.create("job-1", job)
    values = json.loads(store.folder("job-1").record_path.read_text())
    assert (values["status"], values["secondary_status"]) == ("InProgress", "Training")
    assert values["transitions"][0]["status"] == "Training"
    assert type(launcher.TrainingJob("job-1", store).describe()["TrainingJobStatus"]) is str


def test_a_duration_does_not_follow_a_wall_clock_that_jumps(monkeypatch):
    """The wall clock goes 25 hours on, and then 25 hours back."""
    mark = clock.clock_mark()
    wall = time.time()
    for jump in (90_000, -90_000):
        monkeypatch.setattr(clock.time, "time", lambda jump=jump: wall + jump)
        assert clock.seconds_since(mark) < 60


def test_a_duration_of_another_boot_is_that_of_the_wall_clock():
    assert clock.seconds_since({"boot": "another", "monotonic": 0.0, "wall": time.time() - 100}) == pytest.approx(
        100, abs=30
    )
    assert clock.seconds_since({"boot": "another", "monotonic": 0.0, "wall": time.time() + 100}) == 0
    assert clock.seconds_since(clock.wall_mark(time.time() - 100)) == pytest.approx(100, abs=30)


def test_an_unknown_job_is_not_a_damaged_one(store):
    with pytest.raises(JobNotFoundError):
        store.load("nobody")
