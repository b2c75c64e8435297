"""One job's result as the next one's input, on the command line and in Python."""

import json
import tarfile
from pathlib import Path

import pytest

from launcher import Estimator, Model, TrainingInput
from launcher.errors import ChannelError
from launcher.sdk.bundled import bundled_inputs
from launcher.sdk.inputs import make_channels
from launcher.sdk.job_results import referred_location, results_path
from tests.fakes import FakeRuntime
from tests.shell import run_launcher

MAKER = """
import pathlib
ml = pathlib.Path(__import__('os').environ['SM_OUTPUT_DIR']).parent
(ml / 'output/data/checkpoint').mkdir(parents=True)
(ml / 'output/data/log.csv').write_text('a,b')
(ml / 'output/data/checkpoint/epoch-1.pt').write_text('weights')
(ml / 'model/policy.pt').write_text('policy')
print('Dataset: /opt/ml/output/data/log.csv', flush=True)
"""


@pytest.fixture
def make_job(make_source):
    def make(name, script=MAKER):
        estimator = Estimator(
            entry_point="train.py", source_dir=make_source(script, f"source-{name}"), runtime=FakeRuntime()
        )
        estimator.fit(job_name=name, logs="None")
        return estimator.latest_training_job

    return make


def uri_of(inputs):
    (channel,) = make_channels(inputs)
    return channel["DataSource"]["S3DataSource"]["S3Uri"]


def test_a_job_stands_for_what_the_channel_reads(make_job):
    job = make_job("job-1")
    unpacked = job.path / "unpacked"
    assert uri_of({"train": job}) == f"file://{unpacked}/output"
    assert uri_of({"train": job.outputs}) == f"file://{unpacked}/output"
    assert uri_of(job) == f"file://{unpacked}/output"
    assert uri_of({"checkpoint": job}) == f"file://{unpacked}/output/checkpoint"
    assert uri_of({"model": job}) == f"file://{unpacked}/model"
    assert uri_of({"train": TrainingInput(job, content_type="text/csv")}) == f"file://{unpacked}/output"
    assert uri_of(bundled_inputs("evaluate.py", job)) == f"file://{unpacked}/output/checkpoint"
    assert Model(model_data=job).model_data == job.model_data


def test_a_job_without_output_data_stands_for_its_model(make_job):
    job = make_job("job-1", "import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('1')")
    assert uri_of({"train": job}) == f"file://{job.path}/unpacked/model"


def test_the_next_job_reads_what_the_last_one_left_and_its_record_says_which(make_job, make_source):
    job = make_job("job-1")
    reader = Estimator(
        entry_point="train.py",
        source_dir=make_source("import os; print(open(os.environ['SM_CHANNEL_TRAIN'] + '/log.csv').read())"),
        runtime=FakeRuntime(),
    )
    reader.fit({"train": job}, logs="None")
    assert "a,b" in reader.latest_training_job.logs()
    source = reader.latest_training_job.describe()["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert source["S3Uri"] == f"file://{job.path}/unpacked/output"


@pytest.mark.parametrize(
    ("text", "channel", "path"),
    [
        ("job-1", "train", "output"),
        ("latest", "train", "output"),
        ("job-1", "checkpoint", "output/checkpoint"),
        ("job-1:output", "checkpoint", "output"),
        ("job-1:model", "train", "model"),
        ("job-1:model/policy.pt", "train", "model/policy.pt"),
        ("latest:output/log.csv", "train", "output/log.csv"),
        ("job-1/output/log.csv", "train", "output/log.csv"),
    ],
)
def test_a_word_of_the_command_line_names_a_job_and_a_part_of_it(text, channel, path, make_job):
    job = make_job("job-1")
    said = []
    assert referred_location(text, channel, said.append) == f"{job.path}/unpacked/{path}"
    assert bool(said) == text.startswith("latest")


def test_paths_and_uris_stay_what_they_are(make_job, tmp_path, monkeypatch):
    make_job("job-1")
    monkeypatch.chdir(tmp_path)
    Path("job-1").mkdir()
    for text in ("job-1", "s3://bucket/job-1", "data/log.csv", "log.csv", "./job-1", "file:///data"):
        assert referred_location(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("job-2", "Did you mean the job 'job-1'?"),
        ("elsewhere", "Jobs that have output, the newest first: job-1."),
        ("job-1:outputs/log.csv", "Write job-1:PART or job-1:PART/FILE"),
        ("job-1:output/log.cvs", "Did you mean job-1:output/log.csv?"),
        ("job-1:output/../../x", "leaves the results"),
        ("job-1:intermediate", "has written nothing"),
    ],
)
def test_what_no_job_has_left_is_refused_with_what_there_is(text, words, make_job):
    make_job("job-1")
    with pytest.raises(ChannelError) as error:
        referred_location(text, "train")
    assert words in str(error.value)


def test_a_job_that_left_nothing_names_those_that_did(make_job):
    make_job("job-1")
    empty = make_job("job-2", "pass")
    with pytest.raises(ChannelError, match="newest first: job-1") as error:
        results_path(empty.outputs, "", "train")
    assert "job 'job-2', which is Completed, has no output" in str(error.value)


def test_a_bundled_program_gets_the_files_of_an_archive_that_a_job_left(make_job):
    job = make_job("job-1")
    unpacked = job.path / "unpacked"
    for given in (job.path / "output", job.path / "output/output.tar.gz", f"file://{job.path}/output/output.tar.gz"):
        assert bundled_inputs("train.py", given) == {"train": f"{unpacked}/output"}
    assert bundled_inputs("evaluate.py", f"{job.path}/output/output.tar.gz") == {
        "checkpoint": f"{unpacked}/output/checkpoint"
    }
    assert bundled_inputs("train.py", {"train": job.path / "output/model.tar.gz"}) == {"train": f"{unpacked}/model"}


def test_another_archive_for_a_bundled_program_is_refused_before_the_start(tmp_path):
    (tmp_path / "log.csv").write_text("1")
    with tarfile.open(tmp_path / "log.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "log.csv", "log.csv")
    with pytest.raises(ChannelError, match="is an archive") as error:
        bundled_inputs("train.py", tmp_path / "log.tar.gz")
    assert "tar -xzf log.tar.gz -C data" in str(error.value)


def test_a_users_own_program_gets_an_archive_as_it_is(make_job):
    """As on SageMaker, where a channel's object is handed over whole."""
    job = make_job("job-1")
    assert uri_of({"model": job.model_data}) == job.model_data


def test_fit_reads_another_job_by_its_name(make_job, tmp_path):
    job = make_job("job-1")
    (tmp_path / "next.py").write_text("")
    answer = run_launcher("fit", "next.py", "-i", "train=latest", "--dry-run", "--json", "-r", "process", cwd=tmp_path)
    (channel,) = json.loads(answer.stdout)["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == f"file://{job.path}/unpacked/output"
    assert f"latest is {job.path}" in answer.stderr
    answer = run_launcher("fit", "next.py", "-i", "train=job-9", "--dry-run", cwd=tmp_path)
    assert answer.returncode == 2
    assert "neither a file or folder nor a job" in answer.stderr
