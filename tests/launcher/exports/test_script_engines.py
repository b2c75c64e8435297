"""``launcher export skypilot`` and ``dstack``: documents of the published forms, whose script is run here."""

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time

import pytest
import yaml
from typer.testing import CliRunner

from launcher.cli.main import app
from launcher.errors import BadInputError
from launcher.exports.dstack import dstack_task
from launcher.exports.skypilot import skypilot_task
from launcher.exports.yaml_text import as_yaml
from launcher.requests.training import check_training_request
from tests.documents import changed

REQUEST = {
    "TrainingJobName": "cartpole-07",
    "RoleArn": "arn:aws:iam::000000000000:role/launcher",
    "AlgorithmSpecification": {"TrainingImage": "registry.example/rl:1", "TrainingInputMode": "File"},
    "HyperParameters": {
        "rate": "1e-3",
        "words": "it's $HOME",
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": "s3://code/sourcedir.tar.gz",
    },
    "Environment": {"WORKERS": "2", "API_TOKEN": "abc"},
    "InputDataConfig": [
        {
            "ChannelName": "train",
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://logs/cartpole/"}},
        },
        {
            "ChannelName": "truth",
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "file:///data/truth.csv"}},
        },
    ],
    "OutputDataConfig": {"S3OutputPath": "s3://results/jobs"},
    "CheckpointConfig": {"S3Uri": "s3://checkpoints/here"},
    "EnableManagedSpotTraining": True,
    "ResourceConfig": {"InstanceType": "ml.p4de.24xlarge", "InstanceCount": 2, "VolumeSizeInGB": 50},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
    "Tags": [{"Key": "team", "Value": "rl"}, {"Key": "cost:center", "Value": "4"}],
    "Launcher": {"S3": {"Kind": "aws", "Region": "eu-west-1"}},
}
VOLUMES = {"results": "results/rl", "checkpoints": "/mnt/checkpoints", "source": "code"}
CHANNELS = {"train": "data/train"}


def skypilot(request, **options):
    return skypilot_task(request, **options)


def dstack(request, **options):
    return dstack_task(request, **{"volumes": VOLUMES, "channels": CHANNELS, **options})


def fits(value, form):
    """Return whether a value has the documented form: a type, a pattern, several forms, or the members of a mapping."""
    if isinstance(form, str):
        return isinstance(value, str) and re.fullmatch(form, value, re.DOTALL) is not None
    if isinstance(form, tuple):
        return any(fits(value, other) for other in form)
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(entry, form[0]) for entry in value)
    if isinstance(form, dict):
        keys = {key: next((other for other in form if re.fullmatch(other, key)), None) for key in value}
        return None not in keys.values() and all(fits(value[key], form[other]) for key, other in keys.items())
    return value is None if form is None else type(value) is form


NAME = "[A-Za-z_][A-Za-z0-9_]*"
SKYPILOT = {
    "name": str,
    "num_nodes": int,
    "resources": {
        "image_id": "docker:.+",
        "cpus": r"\d+\+?",
        "memory": r"\d+\+?",
        "accelerators": {"[A-Za-z0-9-]+": int},
        "disk_size": int,
        "use_spot": bool,
        "labels": {".+": str},
    },
    "envs": {NAME: str},
    "secrets": {NAME: None},
    "file_mounts": {"/.+": ("(s3:/)?/.+", {"source": "s3://[^/]+", "mode": "MOUNT_CACHED"})},
    "run": str,
}
SIZE = r"\d+GB(\.\.)?"
DSTACK = {
    "type": "task",
    "name": "[a-z][a-z0-9-]{1,40}",
    "nodes": int,
    "image": str,
    "commands": [str],
    "env": {NAME: str},
    "resources": {"cpu": r"\d+\.\.", "memory": SIZE, "shm_size": SIZE, "disk": SIZE, "gpu": r"[A-Z]\w+:\d+GB:\d+"},
    "volumes": [({"name": "[^/]+", "path": "/.+"}, {"instance_path": "/.+", "path": "/.+"})],
    "files": [{"local_path": "/.+", "path": "/.+"}],
    "max_duration": r"\d+s",
    "stop_duration": r"\d+s",
    "spot_policy": "spot|on-demand|auto",
    "retry": {"on_events": ["no-capacity|interruption|error"], "duration": r"\d+s"},
    "tags": {"[A-Za-z0-9_-]{1,60}": "[A-Za-z0-9 .:/=_+@-]{0,256}"},
}


@pytest.mark.parametrize(("export", "form"), [(skypilot, SKYPILOT), (dstack, DSTACK)])
@pytest.mark.parametrize("instance_type", ["ml.p4de.24xlarge", "ml.m5.large", "local"])
def test_a_job_is_a_task_of_the_documented_form_without_its_secrets(export, form, instance_type):
    export = export(changed(REQUEST, "ResourceConfig.InstanceType", instance_type))
    text = as_yaml(export.document, export.warnings)
    assert yaml.safe_load(text) == export.document
    assert fits(export.document, form), text
    assert "abc" not in text
    for words in ("API_TOKEN", "cost:center", "MaxRuntimeInSeconds=3600", "entry point"):
        assert any(words in line for line in export.warnings), words
    assert any("is not in the table" in line for line in export.warnings) == (instance_type == "local")


def test_skypilot_asks_for_the_machines_and_brings_what_the_job_reads():
    """By AWS's documents: ml.p4de.24xlarge has 96 CPUs, 1,152 GiB and 8 A100 of 80 GB."""
    document = skypilot(REQUEST).document
    assert document["resources"] == {
        "image_id": "docker:registry.example/rl:1", "use_spot": True, "cpus": "96+", "memory": "1152+",
        "accelerators": {"A100-80GB": 8}, "disk_size": 50, "labels": {"team": "rl"},
    }  # fmt: skip
    assert document["file_mounts"] == {
        "/launcher/channels/train": "s3://logs/cartpole/",
        "/launcher/channels/truth/truth.csv": "/data/truth.csv",
        "/launcher/source/sourcedir.tar.gz": "s3://code/sourcedir.tar.gz",
        "/launcher/buckets/checkpoints": {"source": "s3://checkpoints", "mode": "MOUNT_CACHED"},
        "/launcher/buckets/results": {"source": "s3://results", "mode": "MOUNT_CACHED"},
    }
    assert [document["num_nodes"], document["secrets"]] == [2, {"API_TOKEN": None}]
    assert document["envs"]["TRAINING_JOB_NAME"] == "cartpole-07"
    assert "timeout --kill-after=5s 3600s train &" in document["run"]


def test_dstack_asks_for_the_machines_and_mounts_what_the_job_reads():
    document = dstack(REQUEST).document
    assert document["resources"]["gpu"] == "A100:80GB:8"
    assert document["volumes"] == [
        {"path": "/launcher/volumes/data", "name": "data"},
        {"path": "/launcher/volumes/code", "name": "code"},
        {"path": "/launcher/machine/mnt/checkpoints", "instance_path": "/mnt/checkpoints"},
        {"path": "/launcher/volumes/results", "name": "results"},
    ]
    assert document["files"] == [{"local_path": "/data/truth.csv", "path": "/launcher/channels/truth/truth.csv"}]
    assert document["env"]["API_TOKEN"] == "${{ secrets.API_TOKEN }}"
    assert [document["nodes"], document["max_duration"], document["spot_policy"]] == [2, "3600s", "spot"]
    assert document["retry"] == {"on_events": ["interruption"], "duration": "7200s"}


@pytest.mark.parametrize(
    ("export", "path", "value", "options", "words"),
    [
        (skypilot, "EnableNetworkIsolation", True, {}, "EnableNetworkIsolation"),
        (dstack, "InputDataConfig.0.InputMode", "Pipe", {}, "'train': InputMode=Pipe"),
        (skypilot, "HyperParameters.api_key", "abc", {}, "'api_key'"),
        (dstack, "HyperParameters.url", "postgres://me:abc@db/logs", {}, "'url'"),
        (skypilot, "Environment.URL", "postgres://me:abc@db/logs", {}, "Environment.URL"),
        (dstack, "Environment.TEMPLATE", "${{ x }}", {}, "'${{'"),
        (skypilot, "AlgorithmSpecification.TrainingImage", None, {}, "--image"),
        (skypilot, "AlgorithmSpecification.ContainerArguments", ["fast"], {}, "ContainerArguments"),
        (skypilot, "ResourceConfig.InstanceType", "ml.g7e.2xlarge", {}, "InstanceType=ml.g7e.2xlarge"),
        (
            skypilot,
            "Launcher.S3",
            {"Kind": "endpoint", "EndpointUrl": "http://s3.example"},
            {},
            "not from http://s3.ex",
        ),
        (skypilot, "Launcher.S3", {"Kind": "embedded"}, {}, "the S3 that is built in"),
        (skypilot, "InputDataConfig.1.DataSource.S3DataSource.S3Uri", "file:///data/$x", {}, "expand the $"),
        (skypilot, "OutputDataConfig.S3OutputPath", "file:///results", {}, "--results s3://BUCKET/PREFIX"),
        (dstack, "TrainingJobName", "Cartpole", {}, "--name"),
        (dstack, "Tags", [], {"channels": {}}, "--volume train=VOLUME[/FOLDER]"),
        (dstack, "Tags", [], {"channels": {"test": "data"}}, "there is no channel 'test'"),
        (dstack, "Tags", [], {"volumes": {**VOLUMES, "results": ""}}, "--results VOLUME[/FOLDER]"),
        (dstack, "Tags", [], {"volumes": {**VOLUMES, "source": "code/../other"}}, "--code VOLUME[/FOLDER]"),
        (dstack, "CheckpointConfig", None, {}, "checkpoints: /mnt/checkpoints"),
    ],
)
def test_what_no_task_can_do_is_refused_by_name(export, path, value, options, words):
    with pytest.raises(BadInputError) as error:
        export(changed(REQUEST, path, value), **options)
    assert words in str(error.value)


def run_script(script, folder, rank, train, **options):
    """Start a script with every folder of the node below ``folder``, and this program as the image's ``train``."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "train").write_text(f"#!{sys.executable}\n{train}")
    (programs / "train").chmod(0o755)
    for place in ("/opt/ml", "/launcher", "/etc/hosts"):
        script = script.replace(place, f"{folder}{place}")
    (folder / "etc").mkdir(exist_ok=True)
    environment = {
        **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "FOLDER": str(folder),
        "SKYPILOT_NODE_RANK": str(rank), "SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.6",
        "DSTACK_NODE_RANK": str(rank), "DSTACK_NODES_IPS": "10.0.0.5\n10.0.0.6",
    }  # fmt: skip
    return subprocess.Popen(["sh", "-c", script], env=environment, start_new_session=True, **options)


def node(folder):
    """Lay out what an engine brings to a node."""
    for name, text in {
        "channels/train/a.csv": "1", "channels/truth/truth.csv": "2", "volumes/data/train/a.csv": "1",
        "volumes/code/train.py": "pass", "source/train.py": "pass",
    }.items():  # fmt: skip
        path = folder / "launcher" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source = folder / "launcher/source"
    subprocess.run(["tar", "-czf", "sourcedir.tar.gz", "train.py"], cwd=source, check=True)


TRAIN = """
import os, pathlib
opt_ml = pathlib.Path(os.environ["FOLDER"], "opt/ml")
assert (opt_ml / "code/train.py").read_text() == "pass"
assert (opt_ml / "input/data/train/a.csv").read_text() == "1"
assert (opt_ml / "input/data/truth/truth.csv").read_text() == "2"
(opt_ml / "model/weights").write_text("3")
(opt_ml / "output/data/curve.csv").write_text("4")
(opt_ml / "checkpoints/last").write_text("5")
"""


@pytest.mark.parametrize(
    ("export", "results", "checkpoints"),
    [
        (skypilot, "buckets/results/jobs", "buckets/checkpoints/here"),
        (dstack, "volumes/results/rl", "machine/mnt/checkpoints"),
    ],
)
def test_the_script_lays_out_a_host_runs_it_and_packs_what_it_leaves(export, results, checkpoints, tmp_path):
    document = export(REQUEST).document
    script = document.get("run") or document["commands"][0]
    node(tmp_path)
    answer = run_script(script, tmp_path, 1, TRAIN, stderr=subprocess.PIPE, text=True)
    assert answer.communicate(timeout=60)[1] == ""
    assert answer.returncode == 0
    config = tmp_path / "opt/ml/input/config"
    resources = json.loads((config / "resourceconfig.json").read_text())
    assert [resources["current_host"], resources["hosts"]] == ["algo-2", ["algo-1", "algo-2"]]
    assert json.loads((config / "hyperparameters.json").read_text()) == check_training_request(REQUEST).hyperparameters
    assert (tmp_path / "etc/hosts").read_text() == "10.0.0.5 algo-1\n10.0.0.6 algo-2\n"
    packed = tmp_path / "launcher" / results / "cartpole-07/output/algo-2"
    for name, member in (("model", "./weights"), ("output", "./curve.csv")):
        with tarfile.open(packed / f"{name}.tar.gz") as archive:
            assert member in archive.getnames()
    assert (tmp_path / "launcher" / checkpoints / "last").read_text() == "5"


def test_the_script_hands_a_stop_on_and_ends_with_the_programs_code(tmp_path):
    """A failed job leaves its output and no model, as on AWS."""
    request = changed(changed(REQUEST, "ResourceConfig.InstanceCount", 1), "CheckpointConfig", None)
    node(tmp_path)
    train = (
        "import os, pathlib, signal, sys\n"
        "opt_ml = pathlib.Path(os.environ['FOLDER'], 'opt/ml')\n"
        "def end(*_):\n    (opt_ml / 'output/failure').write_text('stopped here')\n    sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "(opt_ml / 'ready').touch()\n"
        "while True: signal.pause()\n"
    )
    running = run_script(skypilot(request).document["run"], tmp_path, 0, train, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "opt/ml/ready").exists():
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert "stopped here" in running.communicate(timeout=60)[1]
    assert running.returncode == 3
    packed = tmp_path / "launcher/buckets/results/jobs/cartpole-07/output"
    assert [path.name for path in packed.iterdir()] == ["output.tar.gz"]


def test_the_commands_write_files_that_the_engines_read(tmp_path):
    request, path = tmp_path / "request.json", tmp_path / "task.yaml"
    request.write_text(json.dumps(REQUEST))
    places = ["--results", "/mnt/results", "--checkpoints", "checkpoints", "--code", "code"]
    for words, member in (
        (["skypilot", str(request)], "run"),
        (["dstack", str(request), "--volume", "train=data/train", *places], "commands"),
    ):
        answer = CliRunner().invoke(app, ["export", *words, "-o", str(path)])
        assert answer.exit_code == 0, answer.output
        assert path.read_text().startswith("# ")
        assert "\n    set -eu\n" in path.read_text() or "\n  set -eu\n" in path.read_text()
        assert member in yaml.safe_load(path.read_text())
    refused = CliRunner().invoke(app, ["export", "dstack", str(request), "--volume", "train"])
    assert refused.exit_code == 2
    assert "CHANNEL=VOLUME[/FOLDER]|/PATH" in refused.output
