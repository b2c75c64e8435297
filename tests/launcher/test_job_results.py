"""One job's result as the next one's input, on the command line and in Python."""

import json
import re
import tarfile
from pathlib import Path

import pytest

import launcher
from launcher import Estimator, Model, TrainingInput
from launcher.cli.printing import print_table
from launcher.cli.results import by_folder, print_results
from launcher.errors import ArtifactError, ChannelError, JobFailedError, RuntimeUnavailableError
from launcher.runtimes import get_runtime
from launcher.sdk.bundled import bundled_inputs
from launcher.sdk.inputs import make_channels
from launcher.sdk.job_results import referred_location, results_path
from launcher.settings import DEFAULT_BUCKET
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


WORDS_FOR_JOBS = (
    ("job-1", "train", "output"),
    ("latest", "train", "output"),
    ("job-1", "checkpoint", "output/checkpoint"),
    ("job-1:output", "checkpoint", "output"),
    ("job-1:model", "train", "model"),
    ("job-1:model/policy.pt", "train", "model/policy.pt"),
    ("latest:output/log.csv", "train", "output/log.csv"),
    ("job-1/output/log.csv", "train", "output/log.csv"),
)


def test_a_word_of_the_command_line_names_a_job_and_a_part_of_it(make_job):
    job = make_job("job-1")
    for text, channel, path in WORDS_FOR_JOBS:
        said = []
        assert referred_location(text, channel, said.append) == f"{job.path}/unpacked/{path}", text
        assert bool(said) == text.startswith("latest")


def test_paths_and_uris_stay_what_they_are(make_job, tmp_path, monkeypatch):
    make_job("job-1")
    monkeypatch.chdir(tmp_path)
    Path("job-1").mkdir()
    for text in ("job-1", "s3://bucket/job-1", "data/log.csv", "log.csv", "./job-1", "file:///data"):
        assert referred_location(text) == text


WRONG_WORDS = (
    ("job-2", "Did you mean the job 'job-1'?"),
    ("elsewhere", "Jobs that have output or model, the newest first: job-1."),
    ("job-1:outputs/log.csv", "Write job-1:PART or job-1:PART/FILE"),
    ("job-1:output/log.cvs", "Did you mean job-1:output/log.csv?"),
    ("job-1:output/../../x", "leaves the results"),
    ("job-1:intermediate", "has written nothing"),
)


def test_what_no_job_has_left_is_refused_with_what_there_is(make_job):
    make_job("job-1")
    for text, words in WRONG_WORDS:
        with pytest.raises(ChannelError) as error:
            referred_location(text, "train")
        assert words in str(error.value), text


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


@pytest.mark.slow
def test_fit_takes_variables_metrics_and_dependencies(tmp_path):
    (tmp_path / "helper.py").write_text("WORD = 'score: 4'")
    (tmp_path / "hello.py").write_text("import os, helper; print(helper.WORD + os.environ['DIGIT'])")
    options = ["-e", "DIGIT=2", "-m", "score=score: ([0-9.]+)", "--dependencies", "helper.py", "--job-name", "job-1"]
    answer = run_launcher("fit", "hello.py", "-r", "process", *options, cwd=tmp_path)
    assert "score: 42" in answer.stdout
    assert run_launcher("metrics", "job-1", "--csv", cwd=tmp_path).stdout.splitlines() == [
        "timestamp,metric_name,value",
        "0.0,score,42.0",
    ]
    assert json.loads(run_launcher("metrics", "latest", "--json", cwd=tmp_path).stdout) == [
        {"timestamp": 0.0, "metric_name": "score", "value": 42.0}
    ]
    assert "score" in run_launcher("metrics", "job-1", cwd=tmp_path).stdout
    for option in (["-e", "DIGIT"], ["-m", "score"]):
        assert run_launcher("fit", "hello.py", *option, cwd=tmp_path).returncode == 2


@pytest.mark.slow
def test_outputs_lists_unpacks_and_prints_where(make_job, tmp_path):
    job = make_job("job-1")
    answer = run_launcher("outputs", "job-1", cwd=tmp_path)
    lines = answer.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("model/", "output/"))] == [
        "model/policy.pt",
        "output/checkpoint/epoch-1.pt",
        "output/log.csv",
    ]
    assert f"{job.path}/output/output.tar.gz" in answer.stdout
    assert not (job.path / "unpacked").exists(), "to list is not to unpack"
    names = [entry["name"] for entry in json.loads(run_launcher("outputs", "latest", "--json", cwd=tmp_path).stdout)]
    assert names == ["model/policy.pt", "output/checkpoint/epoch-1.pt", "output/log.csv"]
    answer = run_launcher("outputs", "job-1", "output/log.csv", cwd=tmp_path)
    assert answer.stdout == f"{job.path}/unpacked/output/log.csv\n"
    answer = run_launcher("outputs", "job-1", "--to", "mine", cwd=tmp_path)
    assert answer.stdout == f"{tmp_path}/mine\n"
    assert (tmp_path / "mine/output/log.csv").read_text() == "a,b"
    assert (tmp_path / "mine/model/policy.pt").read_text() == "policy"
    answer = run_launcher("outputs", "job-1", "output/log.csv", "--to", "mine", cwd=tmp_path)
    assert answer.stdout == f"{tmp_path}/mine/log.csv\n"
    answer = run_launcher("outputs", "job-1", "output/log.csv", "--to", "mine", cwd=tmp_path)
    assert answer.returncode == 2, "nothing of the user's is overwritten"
    assert "is there already" in answer.stderr


def test_the_end_of_fit_names_files_by_paths_of_this_machine_and_the_next_command(tmp_path, home):
    (tmp_path / "make.py").write_text(MAKER)
    answer = run_launcher("fit", "make.py", "-r", "process", "--job-name", "job-1", cwd=tmp_path)
    results = home / "jobs/job-1/output"
    assert f"job-1: Completed. Results: {results}" in answer.stdout
    assert "  /opt/ml/output/data/log.csv is output/log.csv\n" in answer.stdout
    assert "  model.tar.gz: policy.pt\n" in answer.stdout
    assert "  output.tar.gz: checkpoint/epoch-1.pt, log.csv\n" in answer.stdout
    assert "Files: launcher outputs job-1 --to FOLDER\nNext: launcher fit SCRIPT -i CHANNEL=job-1\n" in answer.stdout
    ours = answer.stdout[answer.stdout.index("job-1: Completed") :].splitlines()[1:]
    assert max(map(len, ours)) <= 80


def test_the_end_of_fit_names_files_in_s3_and_those_of_a_job_that_failed(tmp_path, home):
    (tmp_path / "make.py").write_text(MAKER + "\nraise SystemExit(3)\n")
    answer = run_launcher("fit", "make.py", "-r", "process", "--mode", "s3", "--job-name", "job-1", cwd=tmp_path)
    assert answer.returncode == 1
    assert f"job-1: Failed. What it left: s3://{DEFAULT_BUCKET}/job-1/output\n" in answer.stdout
    assert "  /opt/ml/output/data/log.csv is output/log.csv\n" in answer.stdout
    assert "  output.tar.gz: checkpoint/epoch-1.pt, log.csv\n" in answer.stdout
    assert "Next" not in answer.stdout


@pytest.mark.parametrize(
    ("script", "commands"),
    [
        ("collect.py", ["launcher fit --preset PRESET -i train=mine"]),
        ("train.py", ["launcher ope -d log -c mine", "launcher fit evaluate.py --preset PRESET -i checkpoint=mine"]),
        ("evaluate.py", []),
    ],
)
def test_the_end_of_a_bundled_job_names_what_people_do_next(script, commands, make_job, tmp_path, home, capsys):
    """Scripts of these names stand for the bundled ones; the job is given what another one left."""
    make_job("log")
    (tmp_path / script).write_text(MAKER)
    estimator = Estimator(
        entry_point=script, source_dir=str(tmp_path), hyperparameters={"preset": "any"}, runtime=FakeRuntime()
    )
    estimator.fit({"train": launcher.TrainingJob("log")}, job_name="mine", logs="None")
    print_results(launcher.TrainingJob("mine"))
    said = capsys.readouterr().out
    assert re.findall(r"^(?:Next|  or): (.*)$", said, re.MULTILINE) == commands


def test_the_files_of_a_folder_are_counted_and_not_named():
    names = ["checkpoint/a", "checkpoint/b", "log.csv", "one/only"]
    assert by_folder(names) == ["checkpoint/ (2 files)", "log.csv", "one/only"]


@pytest.mark.slow
def test_jobs_are_listed_the_newest_first_and_removed_by_their_names(make_job, tmp_path, store):
    for number in (1, 2, 3):
        make_job(f"job-{number}", "pass")
    listed = json.loads(run_launcher("ls", "--json", "-n", "2", cwd=tmp_path).stdout)
    assert [entry["TrainingJobName"] for entry in listed] == ["job-3", "job-2"]
    path = store.folder("job-2").path
    assert run_launcher("rm", "job-2", "--dry-run", cwd=tmp_path).stdout == f"would remove {path}\n"
    assert path.exists()
    answer = run_launcher("rm", "job-2", "job-9", cwd=tmp_path)
    assert answer.returncode == 2, "a name that is wrong removes nothing of the others"
    assert path.exists()
    assert run_launcher("rm", "job-2", cwd=tmp_path).stdout == f"removed {path}\n"
    assert store.names() == ["job-1", "job-3"]


@pytest.mark.slow
def test_a_job_that_has_not_ended_is_not_removed(tmp_path, store):
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    run_launcher("fit", "slow.py", "-d", "-r", "process", "--job-name", "job-1", cwd=tmp_path)
    answer = run_launcher("rm", "job-1", cwd=tmp_path)
    assert answer.returncode == 2
    assert "has not ended" in answer.stderr
    assert store.names() == ["job-1"]


def test_a_table_fits_the_terminal_and_keeps_what_tells_names_apart(monkeypatch, capsys):
    name = "preset-cartpole-ddqnbcq-2026-01-02-03-04-05-678"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_table([["JOB", "STATUS"], [name, "x" * 46]], fit=True)
    row = capsys.readouterr().out.splitlines()[1]
    assert len(row) == 80
    assert row.startswith("preset-")
    assert "04-05-678  " in row


@pytest.mark.parametrize(
    ("words", "offered"), [("launcher logs ", "job-1"), ("launcher fit --preset ", "preset-email")]
)
def test_the_shell_completes_jobs_and_presets(words, offered, make_job, tmp_path):
    make_job("job-1", "pass")
    variables = {"_LAUNCHER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert offered in run_launcher(cwd=tmp_path, **variables).stdout


def test_presets_are_listed_with_a_line_on_what_each_does(tmp_path):
    lines = run_launcher("presets", "ls", cwd=tmp_path).stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("preset-cartpole-ddqnbcq ")]
    assert "Learns CartPole from logged episodes alone" in line
    assert all(len(line.split()) > 3 for line in lines)


def test_a_failing_scripts_traceback_is_shown_once(tmp_path):
    (tmp_path / "bad.py").write_text("raise ValueError('no rows')")
    answer = run_launcher("fit", "bad.py", "-r", "process", cwd=tmp_path)
    assert (answer.stdout + answer.stderr).count("Traceback") == 1
    assert 'ErrorMessage "ValueError: no rows"' in answer.stderr
    assert "job.log" in answer.stderr


def test_who_sees_no_log_gets_its_end_with_the_error(make_job):
    with pytest.raises(JobFailedError, match="Traceback"):
        make_job("job-1", "raise ValueError('no rows')")


def test_without_the_right_to_use_the_engines_socket_a_line_says_so(tmp_path, monkeypatch):
    """What a user sees who is not in the engine's group; the tests may run as root, who may use any socket."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
    with pytest.raises(RuntimeUnavailableError, match="you may not use the socket") as error:
        get_runtime("docker").leftovers(str(tmp_path))
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__, "the client's own tracebacks are no help"
    assert "usermod" in error.value.hint


def test_a_job_without_metrics_of_its_own_says_where_those_of_its_log_are(make_job):
    with pytest.raises(ArtifactError, match=r"has ended\. What patterns found in its log: launcher metrics job-1"):
        make_job("job-1").metrics()


@pytest.mark.slow
def test_results_of_a_job_that_runs_are_not_there_yet(tmp_path, store):
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    run_launcher("fit", "slow.py", "-d", "-r", "process", "--job-name", "job-1", cwd=tmp_path)
    with pytest.raises(ChannelError, match="job 'job-1' is InProgress; its results are packed when it has ended"):
        referred_location("job-1", "train")
    (tmp_path / "log.csv").write_text("1")
    answer = run_launcher("ope", "-d", "log.csv", "-c", "latest", cwd=tmp_path)
    assert answer.returncode == 2
    assert "launcher logs -f job-1" in answer.stderr
