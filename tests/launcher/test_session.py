"""One script, folders or S3: a session's calls do the same in both modes."""

import inspect
import json
import subprocess
import sys
from functools import partial

import pytest

import launcher
from launcher import errors
from launcher.s3_server import service
from launcher.settings import DEFAULT_BUCKET
from launcher.storage import to_uri
from tests.fakes import FakeRuntime

MODES = ["local", "s3"]
WRITES = """
import os
for name in ("SM_MODEL_DIR", "SM_OUTPUT_DATA_DIR", "SM_OUTPUT_INTERMEDIATE_DIR"):
    open(os.path.join(os.environ[name], "worker_0.csv"), "w").write("Epoch\\n1\\n")
"""


class NoServerRuntime(FakeRuntime):
    """A job that the embedded S3's server cannot be reached from, so that none is started."""

    @property
    def host_address(self):
        raise errors.RuntimeUnavailableError("no way back.")


@pytest.fixture(params=MODES)
def session(request):
    return launcher.Session(mode=request.param)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.csv").write_text("a")
    (folder / "deep" / "b.csv").write_text("b")
    return folder


@pytest.fixture
def fit(make_source):
    """Run a job whose code needs no S3; return its estimator."""

    def run(script=WRITES, inputs=None, job_name="job-1", **options):
        estimator = launcher.Estimator(
            entry_point="train.py", source_dir=make_source(script), runtime=NoServerRuntime(), **options
        )
        estimator.fit(inputs, logs=False, job_name=job_name)
        return estimator

    return run


def test_the_data_calls_have_the_sdks_signatures():
    """SageMaker Python SDK 2.257, class Session."""
    signatures = {
        "upload_data": "(path, bucket=None, key_prefix='data', callback=None, extra_args=None)",
        "download_data": "(path, bucket, key_prefix='', extra_args=None)",
        "read_s3_file": "(bucket, key_prefix)",
        "list_s3_files": "(bucket, key_prefix)",
        "default_bucket": "()",
    }
    for name, expected in signatures.items():
        parameters = list(inspect.signature(getattr(launcher.Session, name)).parameters.values())[1:]
        bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
        assert str(inspect.Signature(bare)) == expected, name


def test_the_default_bucket_has_the_sdks_name_and_is_made(session):
    assert session.default_bucket() == DEFAULT_BUCKET == "sagemaker-us-east-1-000000000000"
    assert session.list_s3_files(session.default_bucket(), "") == []
    assert launcher.Session(default_bucket="mine-1", mode=session.mode).default_bucket() == "mine-1"


def test_a_folder_is_uploaded_listed_read_and_downloaded(session, data, tmp_path):
    sizes = []
    uri = session.upload_data(data, key_prefix="logs/cartpole", callback=sizes.append)
    bucket = session.default_bucket()
    assert uri == session.uri(bucket, "logs/cartpole")
    assert session.list_s3_files(bucket, "logs/") == ["logs/cartpole/a.csv", "logs/cartpole/deep/b.csv"]
    assert session.read_s3_file(bucket, "logs/cartpole/a.csv") == "a"
    assert sizes == [1, 1]
    paths = session.download_data(tmp_path / "copy", bucket, "logs/cartpole")
    assert paths == [str(tmp_path / "copy" / "a.csv"), str(tmp_path / "copy" / "deep" / "b.csv")]
    (tmp_path / "copy" / "a.csv").write_text("a copy is the caller's own")
    assert session.read_s3_file(bucket, "logs/cartpole/a.csv") == "a"


def test_a_file_is_uploaded_under_its_own_name_and_replaced(session, data):
    for text in ("1", "2"):
        (data / "a.csv").write_text(text)
        uri = session.upload_data(str(data / "a.csv"))
        assert uri == session.uri(session.default_bucket(), "data/a.csv")
        assert session.read_s3_file(session.default_bucket(), "data/a.csv") == text
    assert (data / "a.csv").exists()


def test_one_object_is_downloaded_as_the_sdk_does(session, data, tmp_path):
    session.upload_data(data, key_prefix="p")
    bucket = session.default_bucket()
    assert session.download_data(tmp_path, bucket, "p/a.csv") == [str(tmp_path / "a.csv")]
    assert session.download_data(tmp_path, bucket, "none") == []
    assert session.download_data(tmp_path / "half", bucket, "p/de") == [str(tmp_path / "half" / "deep" / "b.csv")]


def test_what_is_not_there_is_named(session, tmp_path):
    bucket = session.default_bucket()
    with pytest.raises(errors.StorageError, match=r"NoSuchKey"):
        session.read_s3_file(bucket, "none")
    with pytest.raises(errors.StorageError, match=r"NoSuchBucket"):
        session.list_s3_files("no-such-bucket", "")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(errors.BadInputError, match="no file, nor a folder with files"):
            session.upload_data(path)


@pytest.mark.parametrize("key", ["../outside", "a/../../outside"])
def test_no_key_leads_out_of_a_bucket(session, key, data, home):
    with pytest.raises(errors.BadInputError):
        session.upload_data(data, key_prefix=key)
    assert not list(home.parent.rglob("outside"))


def test_no_key_is_downloaded_to_outside_of_the_folder(tmp_path, data):
    session = launcher.Session(mode="s3")
    session.upload_data(data / "a.csv", key_prefix="p/x/../../q")
    with pytest.raises(errors.BadInputError, match="would leave"):
        session.download_data(tmp_path / "copy", session.default_bucket(), "p/x")
    assert not (tmp_path / "copy").exists()


def test_what_of_the_sdk_is_not_emulated_raises():
    with pytest.raises(errors.UnsupportedOptionError, match="boto_session"):
        launcher.Session(object())
    with pytest.raises(errors.UnsupportedOptionError, match="sagemaker_config"):
        launcher.Session(sagemaker_config={"SchemaVersion": "1.0"})
    with pytest.raises(errors.UnsupportedOptionError, match="extra_args"):
        launcher.Session().upload_data(".", extra_args={"ACL": "private"})


def test_bad_modes_and_buckets_are_refused_at_once(monkeypatch):
    with pytest.raises(errors.BadInputError, match=r"mode='cloud'.*\n.*local, s3"):
        launcher.Session(mode="cloud")
    with pytest.raises(errors.BadInputError, match="bucket is not valid"):
        launcher.Session(default_bucket="No_Bucket")
    monkeypatch.setenv("LAUNCHER_MODE", "S3")
    with pytest.raises(errors.SettingsError, match=r"LAUNCHER_MODE is 'S3'.*\n.*local, s3"):
        launcher.Session()


def test_the_address_of_our_own_server_means_our_own_files(monkeypatch, home, data):
    """As in a shell that was told of it for other programs: eval "$(launcher storage up)"."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", service.ensure(home))
    session = launcher.Session(mode="s3")
    assert session.s3.kind == "embedded"
    session.upload_data(data, key_prefix="input")
    service.stop(home)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    assert launcher.Session(mode="s3").list_s3_files(DEFAULT_BUCKET, "input/a") == ["input/a.csv"]


def test_the_local_accounts_bucket_is_never_looked_for_on_aws(monkeypatch):
    monkeypatch.setenv("LAUNCHER_S3_ENDPOINT", "aws")
    with pytest.raises(errors.BadInputError, match="anybody's"):
        launcher.Session(mode="s3").default_bucket()


def test_the_word_comes_from_the_argument_then_the_variable(monkeypatch):
    assert launcher.Session().mode == "local"
    monkeypatch.setenv("LAUNCHER_MODE", "s3")
    assert launcher.Session().mode == "s3"
    assert launcher.Session(mode="local").mode == "local"


def test_a_role_is_at_hand():
    assert launcher.get_execution_role() == "arn:aws:iam::000000000000:role/launcher-local"


def test_a_job_leaves_the_same_keys_in_both_modes(fit, data):
    """The managed layout, in the session's bucket."""
    listings = {}
    for mode in MODES:
        session = launcher.Session(mode=mode)
        uri = session.upload_data(data, key_prefix="input")
        estimator = fit(inputs={"train": uri}, sagemaker_session=session, job_name=f"job-{mode}")
        job = estimator.latest_training_job
        assert estimator.model_data == session.uri(DEFAULT_BUCKET, f"job-{mode}/output/model.tar.gz")
        assert job.describe()["ModelArtifacts"]["S3ModelArtifacts"] == estimator.model_data
        assert (job.outputs.model_path / "worker_0.csv").exists()
        assert (job.outputs.data_path / "worker_0.csv").exists()
        assert len(job.metrics()) == 1
        submitted = json.loads(job.describe()["HyperParameters"]["sagemaker_submit_directory"])
        assert submitted == session.uri(DEFAULT_BUCKET, f"job-{mode}/source/sourcedir.tar.gz")
        keys = session.list_s3_files(DEFAULT_BUCKET, f"job-{mode}/")
        listings[mode] = [key.removeprefix(f"job-{mode}/") for key in keys]
    assert listings["local"] == listings["s3"]
    assert listings["s3"] == [
        "output/intermediate/worker_0.csv",
        "output/model.tar.gz",
        "output/output.tar.gz",
        "source/sourcedir.tar.gz",
    ]


def test_an_object_is_the_same_whoever_names_it_in_either_mode(session, fit, data, tmp_path, monkeypatch):
    """By the session's calls, by s3:// and the bucket's name put together by hand, and by a job."""
    monkeypatch.setenv("LAUNCHER_MODE", session.mode)
    bucket = session.default_bucket()
    assert session.upload_data(data, key_prefix="logs") == f"s3://{bucket}/logs"
    script = (
        "import os, shutil\n"
        "shutil.copy(os.path.join(os.environ['SM_CHANNEL_TRAIN'], 'a.csv'), os.environ['SM_OUTPUT_INTERMEDIATE_DIR'])"
    )
    estimator = fit(script, {"train": "s3://{}/logs".format(bucket)}, output_path="s3://{}/".format(bucket))  # noqa: UP032
    assert estimator.model_data == f"s3://{bucket}/job-1/output/model.tar.gz"
    key = "job-1/output/intermediate/a.csv"
    assert key in session.list_s3_files(bucket, "job-1/")
    assert session.read_s3_file(bucket, key) == "a"
    assert launcher.wait_for_s3_object(bucket, key, tmp_path / "here", training_job_name="job-1")
    assert session.download_data(tmp_path / "copy", bucket, key) == [str(tmp_path / "copy" / "a.csv")]
    other = launcher.Session(mode="local" if session.mode == "s3" else "s3")
    assert other.read_s3_file(bucket, key) == "a"


def test_who_sets_no_mode_gets_folders_under_the_home_and_no_s3(fit, home):
    job = fit().latest_training_job
    assert job.model_data == f"file://{home}/jobs/job-1/output/model.tar.gz"
    assert sorted(path.name for path in home.iterdir()) == [".places", "jobs"]
    assert not job.warnings


def test_one_variable_turns_a_script_without_session_to_s3(fit, monkeypatch):
    monkeypatch.setenv("LAUNCHER_MODE", "s3")
    assert fit().model_data == f"s3://{DEFAULT_BUCKET}/job-1/output/model.tar.gz"


def test_a_mode_of_the_estimator_is_the_same_as_a_session(fit):
    assert fit(mode="s3").model_data == f"s3://{DEFAULT_BUCKET}/job-1/output/model.tar.gz"
    with pytest.raises(errors.BadInputError, match="contradicts its session"):
        fit(mode="s3", sagemaker_session=launcher.Session(mode="local"))


def test_either_kind_of_uri_is_read_in_either_mode(fit, data):
    script = "import os; print(sorted(os.listdir(os.environ['SM_CHANNEL_TRAIN'])))"
    uri = launcher.Session(mode="s3").upload_data(data, key_prefix="input")
    for number, (mode, inputs) in enumerate(
        [("local", uri), ("local", str(data)), ("s3", uri), ("s3", f"file://{data}"), ("s3", f"{uri}/a.csv")]
    ):
        job = fit(script, {"train": inputs}, job_name=f"job-{number}", mode=mode).latest_training_job
        assert job.logs().strip().endswith("['a.csv']" if inputs.endswith(".csv") else "['a.csv', 'deep']")


def test_file_uris_with_two_slashes_are_relative_paths(fit, data, monkeypatch):
    """The SDK's local mode takes file://data/train so; both as an input and for results."""
    monkeypatch.chdir(data.parent)
    script = "import os; print(sorted(os.listdir(os.environ['SM_CHANNEL_TRAIN'])))"
    job = fit(script, {"train": "file://data/"}, output_path="file://results").latest_training_job
    assert job.logs().strip() == "['a.csv', 'deep']"
    assert job.model_data == f"file://{data.parent}/results/job-1/output/model.tar.gz"
    assert to_uri("file://localhost/data") == to_uri("file:///data") == "file:///data"
    assert to_uri("file://./data") == to_uri("data") == f"file://{data}"


def test_results_go_to_a_bucket_in_local_mode_too(fit):
    session = launcher.Session(mode="s3")
    job = fit(output_path=f"s3://{session.default_bucket()}/results/").latest_training_job
    assert job.model_data == f"s3://{DEFAULT_BUCKET}/results/job-1/output/model.tar.gz"
    assert "results/job-1/output/model.tar.gz" in session.list_s3_files(DEFAULT_BUCKET, "results/")


def test_results_that_are_there_already_are_not_written_over(fit, data):
    session = launcher.Session(mode="s3")
    session.upload_data(data / "a.csv", key_prefix="job-1/output/model.tar.gz")
    with pytest.raises(errors.OutputPathError, match="is there already"):
        fit(mode="s3")


def test_a_job_remembers_which_s3_it_was_submitted_for(fit, monkeypatch):
    """Another process, with another environment, finds its results."""
    job = fit(mode="s3").latest_training_job
    monkeypatch.setenv("LAUNCHER_S3_ENDPOINT", "http://127.0.0.1:9")
    assert (launcher.TrainingJob("job-1").outputs.model_path / "worker_0.csv").exists()
    assert launcher.Estimator.attach("job-1").model_data == job.model_data


def test_a_dry_run_shows_what_will_be_mounted_and_writes_no_object(make_source, data, home):
    session = launcher.Session(mode="s3")
    uri = session.upload_data(data, key_prefix="input")
    before = session.list_s3_files(DEFAULT_BUCKET, "")
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source(WRITES), runtime=NoServerRuntime(), sagemaker_session=session
    )
    text = str(estimator.plan({"train": uri}, job_name="job-1"))
    assert f"/opt/ml/input/data/train <- {home}/jobs/job-1/work/channels/train (read-only)" in text
    assert f"writes     s3://{DEFAULT_BUCKET}/job-1/output/model.tar.gz" in text
    assert session.list_s3_files(DEFAULT_BUCKET, "") == before
    assert not (home / "jobs").exists()


def test_waiting_copies_what_has_come(session, data, tmp_path):
    session.upload_data(data, key_prefix="job/intermediate")
    paths = launcher.wait_for_s3_object(
        session.default_bucket(), "job/intermediate/a.csv", tmp_path, "here", sagemaker_session=session
    )
    assert paths == [str(tmp_path / "here" / "a.csv")]
    everything = {"s3_bucket": session.default_bucket(), "key": "job/", "local_dir": tmp_path}
    last = launcher.wait_for_s3_object(**everything, limit=1, sagemaker_session=session)
    assert last == [str(tmp_path / "b.csv")]
    wanted = launcher.wait_for_s3_object(
        **everything, fetch_only=lambda name: "deep" not in name.key, sagemaker_session=session
    )
    assert wanted == [str(tmp_path / "a.csv")]


@pytest.mark.parametrize(
    ("script", "status"), [("print('nothing')", "Completed"), ("raise ValueError('no')", "Failed")]
)
def test_waiting_ends_with_the_job_that_was_to_write_the_object(session, fit, tmp_path, script, status):
    try:
        fit(script, sagemaker_session=session)
    except errors.JobFailedError:
        assert status == "Failed"
    with pytest.raises(
        errors.MissingObjectError, match=rf"job 'job-1' is {status} and left no .*worker_0.csv"
    ) as caught:
        launcher.wait_for_s3_object(
            session.default_bucket(),
            "job-1/worker_0.csv",
            tmp_path,
            training_job_name="job-1",
            sagemaker_session=session,
        )
    assert isinstance(caught.value, FileNotFoundError)
    assert ("ValueError: no" in str(caught.value)) == (status == "Failed")


def test_waiting_ends_when_the_time_is_up(session, tmp_path):
    with pytest.raises(errors.MissingObjectError, match="did not appear within 0 seconds"):
        launcher.wait_for_s3_object(session.default_bucket(), "none", tmp_path, timeout=0, sagemaker_session=session)


def test_waiting_for_the_object_of_an_unknown_job_is_refused(session, tmp_path):
    with pytest.raises(errors.JobNotFoundError):
        launcher.wait_for_s3_object(
            session.default_bucket(), "none", tmp_path, training_job_name="none", sagemaker_session=session
        )


def test_a_session_describes_prints_and_waits_for_jobs(fit, capsys):
    session = launcher.Session()
    fit("print('a line')")
    description = session.describe_training_job("job-1")
    assert description["TrainingJobStatus"] == "Completed"
    assert session.wait_for_job("job-1") == description
    capsys.readouterr()
    session.logs_for_job("job-1")
    session.logs_for_job("job-1", wait=True)
    assert capsys.readouterr().out == "a line\n" * 2
    session.stop_training_job("job-1")  # it has ended already
    assert session.account_id() == "000000000000"
    for act in (session.describe_training_job, session.logs_for_job, session.wait_for_job, session.stop_training_job):
        with pytest.raises(errors.JobNotFoundError):
            act("none")
    with pytest.raises(errors.UnsupportedOptionError, match="timeout"):
        session.logs_for_job("job-1", timeout=5)


def test_waiting_for_a_failed_job_raises(fit):
    with pytest.raises(errors.JobFailedError):
        fit("raise ValueError('no')")
    with pytest.raises(errors.JobFailedError, match="ValueError: no"):
        launcher.Session().wait_for_job("job-1")


def test_the_prefix_of_the_bucket_is_that_of_results_and_of_uploads(fit, data):
    """As the SDK: not where a bucket is named."""
    session = launcher.Session(default_bucket_prefix="team/rl/")
    assert launcher.Session().default_bucket_prefix is None
    assert session.upload_data(data, key_prefix="logs") == f"s3://{DEFAULT_BUCKET}/team/rl/logs"
    assert session.upload_data(data, DEFAULT_BUCKET, "logs") == f"s3://{DEFAULT_BUCKET}/logs"
    assert fit(sagemaker_session=session).model_data == f"s3://{DEFAULT_BUCKET}/team/rl/job-1/output/model.tar.gz"


def test_boto3_of_a_session_reaches_the_sessions_own_s3(session, data, home):
    """By client and by resource, and again when the server has ended."""
    uri = session.upload_data(data / "a.csv", key_prefix="logs")
    boto_session = session.boto_session
    client = boto_session.client("s3")
    assert boto_session.region_name == session.boto_region_name == "us-east-1"
    assert client.get_object(Bucket=DEFAULT_BUCKET, Key="logs/a.csv")["Body"].read() == b"a"
    service.stop(home)
    client.put_object(Bucket=DEFAULT_BUCKET, Key="logs/b.csv", Body=b"b")
    names = [entry.key for entry in boto_session.resource("s3").Bucket(DEFAULT_BUCKET).objects.all()]
    assert names == session.list_s3_files(DEFAULT_BUCKET, "") == ["logs/a.csv", "logs/b.csv"]
    assert uri == f"s3://{DEFAULT_BUCKET}/logs/a.csv"


def test_boto3_of_a_session_reaches_the_local_aws_but_beside_another_s3_nothing_else(session, home):
    boto_session = session.boto_session
    assert boto_session.client("sts").get_caller_identity()["Account"] == "000000000000"
    sagemaker = boto_session.client("sagemaker")
    service.stop(home)
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []
    elsewhere = launcher.Session(s3_endpoint_url="http://127.0.0.1:9").boto_session
    for make in (elsewhere.client, elsewhere.resource):
        with pytest.raises(errors.UnsupportedOptionError, match="would talk to AWS"):
            make("sagemaker")


def test_the_sdks_settings_of_local_mode_are_taken_or_refused_by_name():
    session = launcher.LocalSession()
    assert (session.mode, session.config) == ("local", None)
    session.config = {"local": {"local_code": True}}
    assert session.config == {"local": {"local_code": True}}
    with pytest.raises(errors.UnsupportedOptionError, match=r"Session.config: local.container_config is not emulated"):
        session.config = {"local": {"local_code": True, "container_config": {"shm_size": "1G"}}}
    with pytest.raises(errors.UnsupportedOptionError, match="SageMaker is not emulated"):
        session.config = {"SageMaker": {}}
    for wrong in ("local", {"local": 5}, {"local": {"local_code": "yes"}}):
        with pytest.raises(errors.BadInputError, match=r"Session\.config"):
            session.config = wrong
    assert session.config == {"local": {"local_code": True}}


@pytest.mark.parametrize("name", ["sagemaker_client", "endpoint_from_job", "expand_role"])
def test_what_a_session_has_not_is_an_error_that_says_what_it_has(name):
    session = launcher.Session()
    with pytest.raises(errors.UnsupportedOptionError, match=rf"Session\.{name} is not emulated.*\n  .*training_job"):
        getattr(session, name)
    assert not hasattr(session, name)


def test_local_sessions_have_the_sdks_arguments():
    names = list(inspect.signature(launcher.LocalSession).parameters)
    assert names == [
        *("boto_session", "default_bucket", "s3_endpoint_url", "disable_local_code"),
        *("sagemaker_config", "default_bucket_prefix"),
    ]
    assert launcher.LocalSession(default_bucket="mine-1").default_bucket() == "mine-1"
    with pytest.raises(errors.UnsupportedOptionError, match="boto_session"):
        launcher.LocalSession(object())


@pytest.mark.parametrize(
    "text",
    [
        "sagemaker.session.Session()",
        "sagemaker.estimator.Estimator",
        "sagemaker.inputs.TrainingInput",
        "sagemaker.local.LocalSession()",
        "sagemaker.rl.RLEstimator",
        "sagemaker.analytics.TrainingJobAnalytics",
    ],
)
def test_the_sdks_modules_are_there_without_another_import(text):
    """In a fresh interpreter: an import before must not be what makes it work."""
    run = partial(subprocess.run, capture_output=True, text=True, check=False)
    answer = run([sys.executable, "-c", f"import launcher as sagemaker; {text}"])
    assert answer.returncode == 0, answer.stderr
    module, name = text.removesuffix("()").removeprefix("sagemaker.").split(".")
    answer = run([sys.executable, "-c", f"from launcher.{module} import {name}"])
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("from launcher import PyTorch", r"launcher.PyTorch is not emulated.*\n.*from launcher.pytorch import PyTorch"),
        ("from launcher.chainer import Chainer", r"launcher.chainer is not emulated.*\n.*launcher.Estimator"),
        ("import launcher.amazon.kmeans", r"launcher.amazon is not emulated.*\n.*image_uri"),
        ("launcher.automl", r"launcher.automl is not emulated.*\n.*launcher.HyperparameterTuner"),
        ("launcher.git_utils.git_clone_repo", r"launcher.git_utils is not emulated.*\n.*source_dir"),
    ],
)
def test_names_of_the_sdk_without_counterpart_say_what_to_use(statement, words):
    with pytest.raises(ImportError, match=words) as caught:
        exec(statement, {"launcher": launcher})
    assert isinstance(caught.value, errors.UnsupportedOptionError)


def test_names_that_nobody_has_are_plain_errors():
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = launcher.no_such_name
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'launcher\.no_such_name'"):
        exec("import launcher.no_such_name")
