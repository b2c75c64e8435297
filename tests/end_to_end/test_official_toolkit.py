"""An image with SageMaker's own training toolkit in it, which nobody here has a hand in."""

import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import docker
import pytest

import launcher
from launcher import errors
from launcher.settings import build_settings

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.whole]
# What the toolkit imports to run a script on one host. All that it asks for would be 80 MB more.
PACKAGES = ("sagemaker-training==5.1.4", "inotify-simple==1.2.1", "retrying", "six", "psutil", "boto3", "botocore")
PACKAGES += ("jmespath", "python-dateutil", "s3transfer", "urllib3")
PACKAGES += ("paramiko", "bcrypt", "cryptography", "cffi", "pycparser", "pynacl", "invoke")
DOCKERFILE = """\
FROM {base}
COPY wheels /wheels
RUN python -m pip install --no-index --no-deps --no-cache-dir --no-compile --quiet /wheels/*.whl
COPY baked.py /opt/ml/code/
"""
BAKED = {"SAGEMAKER_PROGRAM": "baked.py"}
SCRIPT = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float)
parser.add_argument("--text")
parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
arguments = parser.parse_args()
data = pathlib.Path(arguments.train, "x.csv").read_text()
pathlib.Path(os.environ["SM_MODEL_DIR"], "m").write_text(f"{name} {{arguments.alpha + 1}} {{arguments.text}} {{data}}")
if arguments.text == "bad":
    raise ValueError("no transitions")
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Wheels are made here, because the toolkit is only there as source and the image has no compiler."""
    engine, folder = docker.from_env(), tmp_path_factory.mktemp("image")
    base, tag = build_settings().base_image, f"launcher-test-{uuid.uuid4().hex[:8]}:1"
    version = engine.containers.run(base, ["python", "-c", "import sys; print(*sys.version_info[:2])"], remove=True)
    if version.decode().split() != [str(part) for part in sys.version_info[:2]]:
        pytest.skip(f"wheels of this Python do not fit the image's, {version.decode().strip()}")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", *PACKAGES]
    made = subprocess.run(pip, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"pip can bring no wheels: {made.stderr.strip().splitlines()[-1]}")
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    (folder / "baked.py").write_text(SCRIPT.format(name="baked"))
    engine.images.build(path=str(folder), tag=tag, rm=True, forcerm=True)
    shutil.rmtree(folder)
    yield tag
    engine.images.remove(tag, force=True)


@pytest.fixture
def train(image, tmp_path):
    """A function that trains with the image, and returns what the script wrote."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.csv").write_text("1,2")

    def train(text, **options):
        estimator = launcher.Estimator(image, hyperparameters={"alpha": 0.5, "text": text}, **options)
        estimator.fit({"train": str(tmp_path / "data")}, logs=False, job_name="job-1")
        return Path(estimator.latest_training_job.outputs.model_path, "m").read_text()

    return train


def test_it_runs_the_script_that_the_image_carries(train):
    assert train("a b", environment=BAKED) == "baked 1.5 a b 1,2"


def test_it_runs_the_callers_script_in_place_of_the_images(train, make_source):
    source = make_source(SCRIPT.format(name="mine"))
    assert train("good", entry_point="train.py", source_dir=source) == "mine 1.5 good 1,2"


def test_its_failure_file_is_the_reason(train, store):
    with pytest.raises(errors.JobFailedError) as caught:
        train("bad", environment=BAKED)
    assert caught.value.exit_code_of_job == 1
    assert "ExecuteUserScriptError" in store.load("job-1").failure_reason
    assert "ValueError: no transitions" in launcher.TrainingJob("job-1").logs()
