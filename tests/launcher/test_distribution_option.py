"""``distribution=``: the SDK's dict, the hyperparameters that it becomes, and the ways that are refused by name."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import launcher
from launcher import errors
from launcher.cli.main import app
from launcher.running.accepting import accept
from launcher.sdk.frameworks import PyTorch
from tests.fakes import FakeRuntime

TOGETHER = {"torch_distributed": {"enabled": True}}


@pytest.fixture
def make(make_source):
    source = make_source("print('here')")

    def make(distribution, **options):
        own = {"entry_point": "train.py", "source_dir": source, "runtime": FakeRuntime(), "instance_count": 2}
        return launcher.Estimator(distribution=distribution, **own | options)

    return make


def asked(estimator):
    texts = estimator.request(job_name="job-1")["HyperParameters"]
    names = ("sagemaker_torch_distributed_enabled", "sagemaker_instance_type")
    return {name: texts[name] for name in names if name in texts}


def test_it_becomes_the_sdks_hyperparameters(make):
    wanted = {"sagemaker_torch_distributed_enabled": "true", "sagemaker_instance_type": '"ml.g5.12xlarge"'}
    assert asked(make(TOGETHER, instance_type="ml.g5.12xlarge", runtime="process", environment={})) == wanted


@pytest.fixture(autouse=True)
def _no_gpus(monkeypatch):
    monkeypatch.setenv("LAUNCHER_GPUS", "none")


@pytest.mark.parametrize("distribution", [None, {}, {"torch_distributed": {"enabled": False}}, {"mpi": {}}])
def test_without_a_way_the_request_has_none(distribution, make):
    assert asked(make(distribution)) == {}


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        ({"smdistributed": {"dataparallel": {"enabled": True}}}, "Estimator(distribution={'smdistributed': ...})"),
        ({"mpi": {"enabled": True, "processes_per_host": 2}}, "Estimator(distribution={'mpi': ...})"),
        ({"parameter_server": {"enabled": True}}, "distribution={'parameter_server': ...}"),
        ({"pytorchddp": {"enabled": True}}, "distribution={'pytorchddp': ...}"),
        ({"torch_distributed": {"enabled": True, "nproc": 2}}, "'nproc'"),
        ({"torch_distribute": {"enabled": True}}, "Did you mean 'torch_distributed'?"),
        ({"torch_distributed": True}, "is no dict"),
        ({"torch_distributed": {"enabled": "yes"}}, "neither True nor False"),
        ({**TOGETHER, "instance_groups": ["other"]}, "'other'"),
        ("torch_distributed", "distribution="),
    ],
)
def test_every_other_way_is_refused_by_its_name(distribution, words, make):
    with pytest.raises(errors.BadInputError, match=re.escape(words)):
        make(distribution)


def test_what_is_no_python_program_is_refused_before_the_start(make, make_source, home):
    Path(make_source(""), "go.sh").touch()
    with pytest.raises(errors.BadInputError, match=r"Python programs \(.py\) alone"):
        make(TOGETHER, entry_point="go.sh").submit()


@pytest.mark.parametrize(
    "name",
    ["sagemaker_mpi_enabled", "sagemaker_parameter_server_enabled", "sagemaker_distributed_dataparallel_enabled"],
)
def test_a_request_that_asks_the_bundled_image_for_another_way_is_refused(name, make):
    document = make(None).request(job_name="job-1")
    document["HyperParameters"][name] = "true"
    with pytest.raises(errors.UnsupportedOptionError, match=name):
        accept(document, FakeRuntime())


def test_an_image_of_ones_own_may_do_what_it_likes(make):
    document = make(None, image_uri="my-image").request(job_name="job-1")
    document["HyperParameters"]["sagemaker_mpi_enabled"] = "true"
    accept(document, FakeRuntime())


def test_attach_has_it_again_and_the_frameworks_take_it(make_source):
    estimator = PyTorch(
        "train.py",
        "2.1",
        "py310",
        make_source("print('here')"),
        runtime=FakeRuntime(),
        instance_count=2,
        instance_type="ml.c5.xlarge",
        distribution=TOGETHER,
    )
    estimator.fit(logs=False, job_name="job-1")
    job = estimator.latest_training_job
    assert any("has no GPUs, and the SDK then refuses torch_distributed" in line for line in job.warnings)
    attached = PyTorch.attach("job-1")
    assert attached.distribution == TOGETHER
    assert "sagemaker_instance_type" not in attached.hyperparameters()


def test_the_command_line_names_the_way(make_source):
    words = ["fit", "train.py", "--source-dir", make_source(""), "--instance-count", "2", "-r", "process"]
    told = CliRunner().invoke(app, [*words, "--distribution", "torch_distributed", "--dry-run", "--json"])
    assert told.exit_code == 0, told.output
    assert '"sagemaker_torch_distributed_enabled": "true"' in told.output
    refused = CliRunner().invoke(app, [*words, "--distribution", "mpi", "--dry-run"])
    assert refused.exit_code == 2
