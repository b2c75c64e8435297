"""Documents that SageMaker's own SDKs wrote, as they are, with the source that these upload before: they run here.

``tests/recorded`` holds what SDK 2.257.7 (an ``Estimator``) and SDK 3.27.0 (a ``ModelTrainer``) sent to
CreateTrainingJob, recorded from an endpoint that answered in the place of AWS.
"""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

import launcher
from launcher.requests.training import check_training_request
from launcher.runtimes.docker_engine.runtime import DockerRuntime
from launcher.runtimes.image import image_tag
from tests.shell import run_launcher

RECORDED = Path(__file__).parents[1] / "recorded"
BUCKET = "sdk-bucket"
IMAGE = "sdk-recorded:1"  # the name in the documents
SCRIPT = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--rate", type=float)
parser.add_argument("--name")
arguments = parser.parse_args()
paths = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir()
rows = [float(row) for path in paths for row in path.read_text().split()]
print(f"total={sum(rows)}; {arguments}")
pathlib.Path("/opt/ml/model/total").write_text(f"{sum(rows)} {arguments.epochs} {arguments.rate} {arguments.name}")
"""
# What version 3 of the SDK sends in the channel sm_drivers, by what it does to the tree: it is made executable in its
# place, writes variables beside the channels, and runs the source from the channel code.
DRIVER = """#!/bin/bash
set -e
python3 /opt/ml/input/data/sm_drivers/scripts/environment.py
source /opt/ml/input/sm_training.env
cd /opt/ml/input/data/code
python3 train.py --epochs "$SM_HP_EPOCHS" --rate "$SM_HP_RATE" --name "$SM_HP_NAME"
"""
ENVIRONMENT = """
import json, shlex
values = json.load(open("/opt/ml/input/config/hyperparameters.json"))
channels = json.load(open("/opt/ml/input/config/inputdataconfig.json"))
with open("/opt/ml/input/sm_training.env", "w") as file:
    for name, value in values.items():
        print(f"export SM_HP_{name.upper()}={shlex.quote(value)}", file=file)
    for name in channels:
        print(f"export SM_CHANNEL_{name.upper()}=/opt/ml/input/data/{name}", file=file)
"""


@pytest.fixture(scope="module")
def image():
    """The name that the documents have, for the bundled image."""
    runtime = DockerRuntime()
    plan = launcher.Estimator(entry_point=__file__, runtime="docker").plan()
    runtime.prepare(plan.containers[0])
    subprocess.run(["docker", "tag", image_tag(), IMAGE], check=True)
    yield IMAGE
    subprocess.run(["docker", "rmi", IMAGE], check=True, capture_output=True)


@pytest.fixture
def upload(tmp_path, home):
    """A function that puts text or bytes to a key of the bucket that the documents name."""
    session = launcher.Session(mode="s3", default_bucket=BUCKET)
    session.default_bucket()

    def put(key, content):
        path = tmp_path / "uploads" / Path(key).name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        session.upload_data(path, key_prefix=str(Path(key).parent))

    put("rows/a.csv", "1\n2\n")
    return put


def archive(name, text):
    """Return a sourcedir.tar.gz with one file, as the SDK makes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(text.encode())
        tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def upload_source(document, put):
    """Put the source to where the document says it is: in an archive (version 2), or in channels (version 3)."""
    name = document["TrainingJobName"]
    if "sagemaker_submit_directory" in document["HyperParameters"]:
        location = json.loads(document["HyperParameters"]["sagemaker_submit_directory"])
        put(location.removeprefix(f"s3://{BUCKET}/"), archive("train.py", SCRIPT))
        return
    places = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"].removeprefix(f"s3://{BUCKET}/")
        for channel in document["InputDataConfig"]
    }
    assert name in places["code"]
    put(f"{places['code']}/train.py", SCRIPT)
    put(f"{places['sm_drivers']}/sm_train.sh", DRIVER)
    put(f"{places['sm_drivers']}/scripts/environment.py", ENVIRONMENT)


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
@pytest.mark.parametrize("sdk", ["sdk-2.257.7", "sdk-3.27.0"])
def test_a_document_of_the_real_sdk_runs_without_a_change(sdk, runtime, upload, request, tmp_path):
    if runtime == "docker":
        request.getfixturevalue("image")
    path = RECORDED / f"{sdk}.json"
    document = json.loads(path.read_text())
    upload_source(document, upload)
    answer = run_launcher("run", str(path), "--runtime", runtime, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "total=3.0;" in answer.stdout
    job = launcher.TrainingJob(document["TrainingJobName"])
    assert (job.outputs.model_path / "total").read_text() == "3.0 3 0.5 two words"
    assert (
        job.model_data == f"{document['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job.name}/output/model.tar.gz"
    )
    description = job.describe()
    assert description["HyperParameters"] == document["HyperParameters"]
    assert description["AlgorithmSpecification"]["TrainingImage"] == IMAGE
    not_used = f"the image {IMAGE} is not used"
    assert any(not_used in line for line in job.warnings) == (runtime == "process"), "nothing is silently ignored"
    if sdk == "sdk-2.257.7":
        assert [(entry["MetricName"], entry["Value"]) for entry in description["FinalMetricDataList"]] == [
            ("total", 3.0)
        ]


@pytest.mark.parametrize("sdk", ["sdk-2.257.7", "sdk-3.27.0"])
def test_nothing_of_a_recorded_document_is_lost(sdk):
    document = json.loads((RECORDED / f"{sdk}.json").read_text())
    spec = check_training_request(document)
    assert spec.job_name == document["TrainingJobName"]
    assert spec.brings_code


def test_a_job_cannot_change_what_its_code_channels_were_made_of(upload, tmp_path):
    """The copies are the job's own: the stored objects stay as they were."""
    document = json.loads((RECORDED / "sdk-3.27.0.json").read_text())
    upload_source(document, upload)
    places = [
        entry["DataSource"]["S3DataSource"]["S3Uri"]
        for entry in document["InputDataConfig"]
        if entry["ChannelName"] == "sm_drivers"
    ]
    key = places[0].removeprefix(f"s3://{BUCKET}/") + "/sm_train.sh"
    upload(key, DRIVER + "echo changed > /opt/ml/input/data/sm_drivers/scripts/environment.py\n")
    document["TrainingJobName"] = "again"
    (tmp_path / "request.json").write_text(json.dumps(document))
    answer = run_launcher("run", "request.json", "--runtime", "process", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    key = key.replace("sm_train.sh", "scripts/environment.py")
    assert launcher.Session(mode="s3", default_bucket=BUCKET).read_s3_file(BUCKET, key) == ENVIRONMENT
