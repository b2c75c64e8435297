"""What becomes of each option on each runtime, before anything starts: the table of docs/runtimes.md, held true."""

import json
import re
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launcher import Estimator
from launcher.cli.main import app
from launcher.errors import BadInputError, LauncherError
from launcher.jobs.store import JobStore
from launcher.running.accepting import accept, plan_job
from launcher.runtimes import get_runtime
from launcher.runtimes.image import image_tag
from tests.documents import changed

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"
HEAD = "| option |"
OUTCOMES = ("works", "warning", "refused")
COLUMNS = {"docker": pytest.mark.docker}  # the others run wherever their command is

_GROUPS = {
    "InstanceGroups": [
        {"InstanceGroupName": name, "InstanceType": "ml.m5.large", "InstanceCount": 1} for name in ("first", "second")
    ],
    "VolumeSizeInGB": 30,
}
_SPOT = {"EnableManagedSpotTraining": True, "StoppingCondition.MaxWaitTimeInSeconds": 90000}
_SOURCE = "data"  # the folder of the only channel

# Of each row of the table: the members that ask for it, and the word by which a message has to name it.
OPTIONS = {
    "`image_uri`, nothing else to run": ({"HyperParameters": {}}, "image"),
    "`image_uri`, nothing else to run, `LAUNCHER_SLURM_CONTAINERS=podman`": (
        {"HyperParameters": {}, "LAUNCHER_SLURM_CONTAINERS": "podman"},
        "image",
    ),
    "`image_uri` with a source": ({}, "image"),
    "`container_entry_point`, `container_arguments`": (
        {
            "AlgorithmSpecification.ContainerEntrypoint": ["python3"],
            "AlgorithmSpecification.ContainerArguments": ["-V"],
        },
        "Container",
    ),
    "several hosts, `distribution`": (
        {
            "ResourceConfig.InstanceCount": 2,
            "HyperParameters.sagemaker_torch_distributed_enabled": "true",
        },
        "distribution",
    ),
    "`instance_groups`": ({"ResourceConfig": _GROUPS}, "InstanceGroups"),
    "an instance type without GPUs": ({"ResourceConfig.InstanceType": "ml.m5.large"}, "InstanceType"),
    "a type with GPUs, `LAUNCHER_GPUS=none`": (
        {"ResourceConfig.InstanceType": "ml.g5.xlarge", "LAUNCHER_GPUS": "none"},
        "LAUNCHER_GPUS",
    ),
    "`enable_network_isolation`, one host": ({"EnableNetworkIsolation": True}, "enable_network_isolation"),
    "`enable_network_isolation`, several hosts": (
        {"EnableNetworkIsolation": True, "ResourceConfig.InstanceCount": 2},
        "enable_network_isolation",
    ),
    "channels in mode FastFile": ({"InputDataConfig.0.InputMode": "FastFile"}, "FastFile"),
    "channels in mode Pipe": ({"InputDataConfig.0.InputMode": "Pipe"}, "stream"),
    "`ShardedByS3Key`": (
        {
            "InputDataConfig.0.DataSource.S3DataSource.S3DataDistributionType": "ShardedByS3Key",
            "ResourceConfig.InstanceCount": 2,
        },
        "ShardedByS3Key",
    ),
    "`writable` channels": ({"Launcher.WritableChannels": ["train"]}, "WritableChannels"),
    "`checkpoint_s3_uri`": ({"CheckpointConfig": {"S3Uri": "file:///FOLDER/checkpoints"}}, "checkpoint"),
    "`checkpoint_local_path` outside `/opt/ml`": (
        {"CheckpointConfig": {"S3Uri": "file:///FOLDER/checkpoints", "LocalPath": "/mnt/checkpoints"}},
        "/mnt/checkpoints",
    ),
    "`use_spot_instances`, `max_wait`": (_SPOT, "spot"),
    "`max_retry_attempts`": ({"RetryStrategy": {"MaximumRetryAttempts": 2}}, "RetryStrategy"),
    "`max_run`": ({"StoppingCondition.MaxRuntimeInSeconds": 60}, "max_run"),
    "`keep_alive_period_in_seconds`": ({"ResourceConfig.KeepAlivePeriodInSeconds": 60}, "KeepAlivePeriodInSeconds"),
    "`metric_definitions`": (
        {"AlgorithmSpecification.MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*)"}]},
        "MetricDefinitions",
    ),
    "`debug`": ({"Launcher.Debug": True}, "debug"),
    '`faults="kill"`, `faults="delay"`': ({"Launcher.Faults": ["kill", "delay"]}, "fault"),
    '`faults="slow"`': ({"Launcher.Faults": ["slow"]}, "slow"),
    '`faults="cut"`, several hosts': ({"Launcher.Faults": ["cut"], "ResourceConfig.InstanceCount": 2}, "cut"),
    "`LAUNCHER_SHM_SIZE`": ({"LAUNCHER_SHM_SIZE": "1GiB"}, "LAUNCHER_SHM_SIZE"),
    "`LAUNCHER_ULIMITS`": ({"LAUNCHER_ULIMITS": "nofile=256:256"}, "LAUNCHER_ULIMITS"),
    "`LAUNCHER_MOUNTS` below `/opt/ml`": ({"LAUNCHER_MOUNTS": "FOLDER:/opt/ml/shared"}, "/opt/ml/shared"),
    "`LAUNCHER_MOUNTS` elsewhere": ({"LAUNCHER_MOUNTS": "FOLDER:/mnt/shared"}, "/mnt/shared"),
}


def _table():
    """Return the outcomes of the page, by runtime and option."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    head = next(line for line in lines if line.startswith(HEAD))
    names = [re.search("`(.*)`", cell)[1] for cell in head.strip("|").split("|")[1:]]
    outcomes = {name: {} for name in names}
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return outcomes
        option, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for name, cell in zip(names, cells, strict=True):
            outcomes[name][option] = cell
    return outcomes


TABLE = _table()


def _asked(request, members, folder, monkeypatch):
    """Return the request with the members of a row; those in capitals are variables."""
    for path, value in members.items():
        if path.startswith("LAUNCHER_"):
            monkeypatch.setenv(path, value.replace("FOLDER", str(folder)))
            continue
        if path == "CheckpointConfig":
            value = {**value, "S3Uri": value["S3Uri"].replace("/FOLDER", str(folder))}
        request = changed(request, path, value)
    return request


def _request(runtime, folder):
    data, code = folder / _SOURCE, folder / "train.py"
    data.mkdir()
    (data / "log.csv").write_text("1\n")
    code.write_text("print('done')")
    with tarfile.open(folder / "sourcedir.tar.gz", "w:gz") as archive:
        archive.add(code, "train.py")
    return {
        "TrainingJobName": "planned",
        "RoleArn": "arn:aws:iam::000000000000:role/launcher",
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "HyperParameters": {
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": f"file://{folder}/sourcedir.tar.gz",
        },
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"file://{data}"}},
            }
        ],
        "OutputDataConfig": {"S3OutputPath": f"file://{folder}/results"},
        "ResourceConfig": {"InstanceType": "local", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "Launcher": {"Runtime": runtime},
    }


def _outcome(request, store):
    """Return what becomes of a request, and what is said about it."""
    try:
        job = accept(request)
        plan_job(job, store)
    except LauncherError as error:
        return "refused", [str(error)]
    return "warning" if job.warnings else "works", job.warnings


@pytest.mark.parametrize("name", [pytest.param(name, marks=COLUMNS.get(name, ())) for name in TABLE])
def test_the_table_of_options_is_true(name, home, tmp_path, monkeypatch, request):
    """An option that is refused or has no effect is named, and nothing is written in either case."""
    if name == "slurm":
        request.getfixturevalue("slurm")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    job = _request(name, tmp_path)
    assert _outcome(job, JobStore(home)) == ("works", ())
    wrong = []
    for option, cell in TABLE[name].items():
        members, word = OPTIONS[option]
        with monkeypatch.context() as patch:
            asked = _asked(job, members, tmp_path, patch)
            if "image_uri" in option:
                asked = changed(asked, "AlgorithmSpecification.TrainingImage", image_tag())
            outcome, lines = _outcome(asked, JobStore(home))
        conditional = "else refused" in cell and outcome == "refused"
        if not cell.startswith(outcome) and not conditional:
            wrong.append(f"{option}: {cell}; it is {outcome}: {lines}")
        if outcome != "works" and word not in "".join(lines):
            wrong.append(f"{option}: {outcome}, and {word!r} is not in: {lines}")
    assert not wrong, "\n".join(wrong)
    assert not (home / "jobs").exists()


def test_each_row_of_the_table_is_tried_and_says_one_of_three_words():
    for name, cells in TABLE.items():
        assert list(cells) == list(OPTIONS), name
        assert all(cell.startswith(OUTCOMES) for cell in cells.values())


def test_a_runtime_that_can_do_little_refuses_by_name(home, tmp_path, monkeypatch):
    """What a class of a package inherits is a refusal, and no silence."""
    runtime = get_runtime("process")
    monkeypatch.setattr(type(runtime), "no_entry", "nobody may enter")
    request = changed(_request("process", tmp_path), "Launcher.Debug", True)
    with pytest.raises(BadInputError, match="none gets into those of the process runtime: nobody may enter"):
        accept(request)


def test_the_command_plans_a_document_or_a_job_on_any_runtime(home, tmp_path, make_source):
    """The plan names containers, mounts and results, and nothing is written."""
    document = tmp_path / "request.json"
    request = changed(_request("auto", tmp_path), "ResourceConfig.KeepAlivePeriodInSeconds", 60)
    document.write_text(json.dumps(request))
    answer = CliRunner().invoke(app, ["plan", str(document), "--runtime", "process"])
    assert answer.exit_code == 0, answer.output
    assert "runtime    process" in answer.output
    assert "/opt/ml/input/data/train" in answer.output
    place = {"S3Uri": f"file://{tmp_path}/checkpoints", "LocalPath": "/mnt/checkpoints"}
    document.write_text(json.dumps(changed(request, "CheckpointConfig", place)))
    answer = CliRunner().invoke(app, ["plan", str(document), "--runtime", "process"])
    assert answer.exit_code == 2
    assert "/mnt/checkpoints" in answer.output
    document.write_text(json.dumps({"ProcessingJobName": "job"}))
    answer = CliRunner().invoke(app, ["plan", str(document)])
    assert answer.exit_code == 2
    assert "launcher run" in answer.output
    document.write_text(json.dumps(request))
    answer = CliRunner().invoke(app, ["plan", str(document), "--runtime", "nowhere"])
    assert answer.exit_code == 2
    assert "'nowhere' is no runtime" in answer.output
    assert not (home / "jobs").exists()
    Estimator(entry_point="train.py", source_dir=make_source("print('done')"), runtime="process").fit(job_name="first")
    answer = CliRunner().invoke(app, ["plan", "first", "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.output)["runtime"] == "process"
    assert JobStore(home).names() == ["first"]
