"""Two jobs side by side, and a recorded job run again: what differs, and nothing that does not."""

import json
from pathlib import Path

import pytest

import launcher
from launcher import Estimator
from launcher.comparing.differences import Difference, compare_values, flattened
from launcher.comparing.files import Facts, compare_files, no_reader
from launcher.errors import BadInputError, JobNotFoundError
from tests.fakes import FakeRuntime
from tests.shell import run_launcher

SCRIPT = """
import json, os, pathlib
ml = pathlib.Path(os.environ['SM_OUTPUT_DIR']).parent
values = json.loads(os.environ['SM_HPS'])
print(f"loss={values['loss']};")
print('loss=1;')
(ml / 'model/policy.bin').write_bytes(b'\\0weights' * 3)
(ml / 'output/data').mkdir(exist_ok=True)
rows = [f'{row},{row * values["loss"]}' for row in range(3)]
(ml / 'output/data/metrics.csv').write_text('epoch,loss\\n' + '\\n'.join(rows) + '\\n')
(ml / 'output/data/who.txt').write_text(os.environ['TRAINING_JOB_NAME'] + '\\n')
"""


@pytest.fixture
def make_job(make_source, tmp_path):
    def make(name, *, loss=2, script=SCRIPT, data=None, **options):
        source = make_source(script, f"source-{name}")
        estimator = Estimator(
            entry_point="train.py",
            source_dir=source,
            hyperparameters={"loss": loss},
            metric_definitions=[{"Name": "loss", "Regex": "loss=(.*?);"}],
            runtime=FakeRuntime(),
            **options,
        )
        estimator.fit({"train": str(data)} if data else None, job_name=name, logs="None")
        return estimator.latest_training_job

    return make


def subjects(comparison):
    return {section.name: [entry.subject for entry in section.differences] for section in comparison.sections}


NOTHING = {name: [] for name in ("outcome", "request", "source", "data", "environment", "metrics", "results")}


def test_two_jobs_that_were_asked_for_the_same_do_not_differ_whatever_they_are_called(make_job, tmp_path):
    """Their names stand in the request, in the place of the source and in a file that they wrote."""
    (tmp_path / "log.csv").write_text("1")
    for name in ("job-1", "job-2"):
        make_job(name, data=tmp_path / "log.csv")
    comparison = launcher.compare_jobs("job-1", "latest")
    paths = [f"request: {path}" for path in subjects(comparison)["request"]]
    assert paths == ["request: Launcher.Estimator.SourceDir"], "each was packed from a folder of its own"
    assert {**subjects(comparison), "request": []} == NOTHING
    assert comparison.same_results
    assert comparison.section("results").compared == 3


def test_what_differs_is_said_by_member_line_file_and_value(make_job, tmp_path):
    """By hand: with a loss of 2, row 2 of the CSV is 2,4; with a loss of 3 it is 2,6."""
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("x,y\n1,3\n")
    make_job("job-1", data=tmp_path / "a.csv", environment={"API_KEY": "s3cret", "WORKERS": "1"})
    make_job(
        "job-2",
        loss=3,
        script=SCRIPT.replace("weights", "WEIGHTS") + "print('more')\n",
        data=tmp_path / "b.csv",
        environment={"API_KEY": "0ther", "WORKERS": "2"},
    )
    comparison = launcher.compare_jobs("job-1", "job-2")
    request = {entry.subject: (entry.first, entry.second) for entry in comparison.section("request").differences}
    assert request["HyperParameters.loss"] == ("2", "3")
    assert request["Environment.WORKERS"] == ("1", "2")
    assert request["Environment.API_KEY"] == ("***", "***"), "that it differs is said, and no more"
    assert request["InputDataConfig[train].DataSource.S3DataSource.S3Uri"] == (
        f"file://{tmp_path}/a.csv",
        f"file://{tmp_path}/b.csv",
    )
    (source,) = comparison.section("source").differences
    assert source.subject == "train.py"
    assert "+print('more')" in source.lines
    (loss,) = comparison.section("metrics").differences
    assert (loss.subject, loss.first, loss.second) == ("loss", {"last": 1.0, "count": 2}, {"last": 1.0, "count": 2})
    assert loss.lines == ("-value 1: 2.0", "+value 1: 3.0")
    results = {entry.subject: entry for entry in comparison.section("results").differences}
    assert sorted(results) == ["model/policy.bin", "output/metrics.csv"]
    assert results["output/metrics.csv"].lines == ("@@ -3,2 +3,2 @@", "-1,2", "-2,4", "+1,3", "+2,6")
    assert results["model/policy.bin"].first.startswith("24 bytes, sha256:")
    assert not results["model/policy.bin"].lines
    assert [entry.subject for entry in comparison.section("data").differences] == ["train/a.csv", "train/b.csv"]
    assert json.loads(json.dumps(comparison.to_dict()))["same"] is False


def test_a_channel_whose_files_changed_since_the_first_job_is_named(make_job, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "log.csv").write_text("1")
    make_job("job-1", data=data)
    (data / "log.csv").write_text("2")
    make_job("job-2", data=data)
    section = launcher.compare_jobs("job-1", "job-2", sections=["data"]).section("data")
    assert section.differences == ()
    assert section.notes == (f"train: 1 of 1 files at file://{data} changed after job-1 began: log.csv",)


def test_what_is_gone_or_was_never_written_is_a_note(make_job, store):
    jobs = [make_job(name) for name in ("job-1", "job-2")]
    Path(jobs[0].keys.source.removeprefix("file://")).unlink()
    store.folder("job-2").environment_path.unlink()
    comparison = launcher.compare_jobs(*jobs, sections=["source", "environment"])
    assert comparison.same
    assert "the source of job-1 cannot be read" in comparison.section("source").notes[0]
    assert comparison.section("environment").notes == ("nothing is recorded of the environment of job-2",)


def test_packages_and_interpreter_are_compared_where_they_were_recorded(make_job, store):
    make_job("job-1")
    make_job("job-2")
    for name, version in (("job-1", "2.1"), ("job-2", "2.2")):
        path = store.folder(name).environment_path
        path.write_text(json.dumps({**json.loads(path.read_text()), "Packages": {"numpy": version, "torch": "2.6"}}))
    (difference,) = launcher.compare_jobs("job-1", "job-2").section("environment").differences
    assert difference == Difference("Packages.numpy", "2.1", "2.2")


def test_an_unknown_job_or_section_is_refused(make_job):
    make_job("job-1")
    with pytest.raises(JobNotFoundError, match="job-2"):
        launcher.compare_jobs("job-1", "job-2")
    with pytest.raises(BadInputError, match="no section 'colour'"):
        launcher.compare_jobs("job-1", "job-1", sections=["colour"])


def test_entries_of_lists_are_compared_by_their_names():
    first = {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}], "Empty": {}}
    second = {"Tags": [{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "3"}], "Empty": []}
    assert compare_values(flattened(first), flattened(second)) == [Difference("Tags[a].Value", "1", "3")]


def test_files_by_digests_of_two_kinds_are_compared_by_size():
    """An S3 gives an ETag, a folder a SHA-256; neither says anything about the other."""
    readers = (no_reader, no_reader)
    first, second = {"x": Facts(3, "etag:1")}, {"x": Facts(3, "sha256:2")}
    assert compare_files(first, second, readers) == []
    assert len(compare_files(first, {"x": Facts(4, "sha256:2")}, readers)) == 1
    assert len(compare_files(first, {"x": Facts(3, "etag:2")}, readers)) == 1
    assert len(compare_files({"x": Facts(3, "sha256:2", executable=True)}, second, readers)) == 1


@pytest.mark.slow
def test_a_replay_gives_identical_results_and_says_so_by_its_exit_code(tmp_path, home):
    (tmp_path / "train.py").write_text(SCRIPT)
    words = ["fit", "train.py", "-p", "loss=2", "-m", "loss=loss=(.*?);", "-r", "process", "--job-name", "job-1"]
    answer = run_launcher(*words, "--checkpoint-s3-uri", "kept", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    (tmp_path / "train.py").write_text("raise SystemExit('the folder has changed; the record has not')")
    answer = run_launcher("replay", "job-1", "--verify", "--job-name", "job-2", cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.endswith("job-1 and job-2: the same 4 files and metrics came out.\n")
    assert "checkpoints go to" in answer.stderr
    assert launcher.TrainingJob("job-2").describe()["CheckpointConfig"]["S3Uri"].endswith("job-2/checkpoints")


@pytest.mark.slow
def test_a_replay_with_other_results_names_them_and_exits_with_3(tmp_path, home):
    (tmp_path / "train.py").write_text(
        "import os, time; print(time.time_ns(), file=open(os.environ['SM_MODEL_DIR'] + '/t', 'w'))"
    )
    run_launcher("fit", "train.py", "-r", "process", "--job-name", "job-1", cwd=tmp_path)
    answer = run_launcher("replay", "job-1", "--verify", "--json", cwd=tmp_path)
    assert answer.returncode == 3, answer.stderr
    results = json.loads(answer.stdout)["sections"][-1]
    assert [entry["subject"] for entry in results["differences"]] == ["model/t"]
    answer = run_launcher("diff", "job-1", "latest", "--exit-code", "-s", "results", cwd=tmp_path)
    assert answer.returncode == 3
    assert "results: 1 of 1 differ\n  model/t\n    @@ -1 +1 @@\n    -" in answer.stdout
    answer = run_launcher("diff", "job-1", "latest", "--exit-code", "-s", "results", "--ignore", "*/t", cwd=tmp_path)
    assert answer.returncode == 0


def test_a_replay_of_a_job_whose_source_is_gone_starts_nothing(make_job, store):
    job = make_job("job-1")
    Path(job.keys.source.removeprefix("file://")).unlink()
    with pytest.raises(BadInputError, match=r"sourcedir\.tar\.gz"):
        launcher.replay_job(job)
    with pytest.raises(BadInputError, match="own name"):
        launcher.replay_job("job-1", job_name="job-1")
    assert store.names() == ["job-1"]
