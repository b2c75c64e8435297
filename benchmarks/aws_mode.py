"""``mode="aws"`` up to CreateTrainingJob, against version 2 of SageMaker's SDK: the same estimator, the same fake AWS.

The fake is moto's server. Each program is a process of its own, in turn; the SDK lives in the environment that
``tests/clients`` makes, since its packages are not the launcher's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from measuring import Aim, Row, interleave

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.clients.environments import client_python

_BUCKET, _ROLE = "the-users-bucket", "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
_MOTO = """
import logging, time
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(1e6)
"""
# What both programs do, after each has imported its own names and made its own session.
_FIT = f"""
estimator = Estimator(
    "any-image:1", {_ROLE!r}, 1, "ml.m5.large", entry_point="train.py", source_dir=sys.argv[1],
    sagemaker_session=session, hyperparameters={{"epochs": 3}},
)
estimator.fit({{"train": "s3://{_BUCKET}/rows"}}, wait=False, logs=False)
if len(sys.argv) < 3:
    os._exit(0)  # as far as CreateTrainingJob, and nothing after it
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter()
    estimator.fit({{"train": "s3://{_BUCKET}/rows"}}, wait=False, logs=False)
    print(time.perf_counter() - begun, flush=True)
"""
_SDK = f"""
import os, sys, time
from sagemaker import Session
from sagemaker.estimator import Estimator
session = Session(default_bucket="{_BUCKET}")
{_FIT}"""
_OURS = f"""
import os, sys, time
from launcher import Estimator, Session
session = Session(mode="aws", default_bucket="{_BUCKET}")
{_FIT}"""


def aws_mode_rows(scratch: Path, runs: int) -> list[Row]:
    """Return the time from the start of a program to its first CreateTrainingJob, and that of each further ``fit``."""
    source = scratch / "aws-mode-source"
    source.mkdir()
    (source / "train.py").write_text("print('trained')\n")
    programs = {"floor": [client_python("sagemaker-2"), _SDK], "ours": [sys.executable, _OURS]}
    with _fake_aws() as url:
        environment = {**os.environ, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}
        environment |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_CONFIG_FILE": os.devnull}

        def run(name: str, *further: str) -> list[float]:
            python, program = programs[name]
            command = [python, "-W", "ignore", "-c", program, str(source), *further]
            answer = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=scratch, check=True)
            return [1000 * float(line) for line in answer.stdout.splitlines() if further and line[:1].isdigit()]

        first = interleave({name: partial(run, name) for name in programs}, min(runs, 5))
        again = {name: run(name, str(runs)) for name in programs}
    aims = (Aim("ratio", 0.5),)
    return [
        Row("aws-mode", "program up to CreateTrainingJob, against the SDK's", **first, aims=aims),
        Row("aws-mode", "a further fit(wait=False)", **again, aims=aims),
    ]


@contextmanager
def _fake_aws() -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", _MOTO], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        import boto3

        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket=_BUCKET)
        yield url
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAUNCHER_HOME"] = f"{folder}/home"
        for row in aws_mode_rows(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 5):
            print(json.dumps(row.to_dict()))
