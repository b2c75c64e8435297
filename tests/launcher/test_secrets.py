"""What is secret is kept from other users and is not shown; the job gets it as it is."""

import json
import os
import stat

import pytest

import launcher
from launcher.errors import JobFailedError
from launcher.secrets import is_secret, masked, masked_json, masked_text
from tests.fakes import FakeRuntime
from tests.shell import run_launcher

SECRETS = {"password": "hunter2-a", "api_key": "hunter2-b", "url": "https://me:hunter2-c@example.org/x"}
VARIABLES = {"AWS_SECRET_ACCESS_KEY": "hunter2-d", "githubToken": "hunter2-e", "PLAIN": "seen"}
PRINTS = "import os, sys; assert os.environ['githubToken'] == 'hunter2-e' and 'hunter2-a' in sys.argv, sys.argv"


@pytest.mark.parametrize(
    "name",
    [
        *("password", "DB_PASSWORD", "PGPASSWORD", "dbPasswd", "passphrase", "client_secret", "AWS_SECRET_ACCESS_KEY"),
        *("AWS_ACCESS_KEY_ID", "token", "HF_TOKEN", "githubToken", "api-key", "apiKey", "APIKey", "key", "CREDENTIALS"),
        *("pwd", "auth", "model.token"),
    ],
)
def test_names_that_say_that_their_value_is_secret(name):
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("agent.learning_rate", "max_tokens", "tokenizer", "keypoints", "monkey", "author", "keep_alive", "path"),
        *("seed", "pattern", "pinned", "RLCOACH_PRESET", "sagemaker_program", "passes", "batch_size"),
    ],
)
def test_names_of_ordinary_values(name):
    assert not is_secret(name)


def test_values_are_masked_and_others_stay():
    assert masked({"key": "a", "empty_key": "", "n": "3"}) == {"key": "***", "empty_key": "", "n": "3"}
    assert masked_json('{"token":"x","n":"3"}') == '{"token":"***","n":"3"}'
    assert masked_json('{"train":{"key":"x"}}') == '{"train":{"key":"x"}}', "no hyperparameters: those are texts"
    assert masked_text("redis://:pw@h/0 and s3://bucket/a@b") == "redis://:***@h/0 and s3://bucket/a@b"
    assert masked_text("python train.py --epochs 3 --api-key 'a b' --pwd=x") == (
        "python train.py --epochs 3 --api-key *** --pwd=***"
    )


@pytest.fixture
def fit(make_source):
    def fit(script=PRINTS, **options):
        estimator = launcher.Estimator(
            entry_point="train.py",
            source_dir=make_source(script),
            hyperparameters=SECRETS,
            environment=VARIABLES,
            **options,
        )
        estimator.fit(logs=False, job_name="job-1")
        return estimator

    return fit


def test_a_plan_shows_no_secrets_and_has_them(make_source):
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source(PRINTS),
        hyperparameters=SECRETS,
        environment=VARIABLES,
        runtime=FakeRuntime(),
    )
    plan = estimator.plan()
    text = str(plan)
    assert "hunter2" not in text
    assert "variable githubToken=***" in text
    assert "variable PLAIN=seen" in text
    assert "https://me:***@example.org/x" in text
    assert plan.containers[0].environment["githubToken"] == "hunter2-e"
    assert "hunter2-a" in plan.config_files["input/config/hyperparameters.json"]


def test_the_command_line_shows_them_only_when_asked_and_python_always(fit, tmp_path):
    job = fit(runtime="process").latest_training_job
    assert job.status == "Completed"
    assert job.describe()["Environment"]["githubToken"] == "hunter2-e"
    for arguments in (["describe", "job-1"], ["describe", "latest", "--json"]):
        said = run_launcher(*arguments, cwd=tmp_path).stdout
        assert "***" in said
        assert "hunter2" not in said
    shown = run_launcher("describe", "job-1", "--json", "--show-secrets", cwd=tmp_path).stdout
    assert json.loads(shown)["Environment"] == VARIABLES


def test_the_reason_of_a_failure_shows_no_arguments_that_are_secret(fit, tmp_path):
    """It holds the command that failed."""
    with pytest.raises(JobFailedError) as caught:
        fit("raise ValueError('no')", runtime="process")
    assert "ValueError: no" in str(caught.value)
    assert "--password ***" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in run_launcher("describe", "job-1", cwd=tmp_path).stdout


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_umask")
def test_a_home_is_its_users_alone(fit, home):
    fit(runtime="process")
    assert (mode(home), mode(home / "jobs"), mode(home / "jobs" / "job-1" / "job.json")) == (0o700, 0o700, 0o600)


@pytest.mark.usefixtures("usual_umask")
def test_a_home_that_buckets_are_made_in_first_is_its_users_alone(home):
    launcher.Session().default_bucket()
    assert (mode(home), mode(home / "s3")) == (0o700, 0o700)


@pytest.mark.usefixtures("usual_umask")
def test_what_an_earlier_version_left_open_is_closed(fit, home, monkeypatch):
    """A folder that LAUNCHER_HOME names, such as /tmp, may be others' as well: only what is in it is ours."""
    (home / "jobs").mkdir(parents=True)
    fit(runtime="process")
    assert (mode(home), mode(home / "jobs")) == (0o755, 0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("LAUNCHER_HOME")
    (home / ".launcher").mkdir()
    fit(runtime="process")
    assert mode(home / ".launcher") == 0o700
