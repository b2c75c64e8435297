"""Engines of their own, each in an empty network: one that was started a moment ago, and one without any bridge."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from tests.shell import launcher_environment

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.getuid() != 0, reason="only root may start an engine"),
    pytest.mark.skipif(not shutil.which("dockerd"), reason="no dockerd here to start another engine with"),
]
IMAGE = "launcher-test-asks-s3:1"
# The image's only program asks its S3, and prints what it was told.
TRAIN = """#!/bin/bash
echo "endpoint <$AWS_ENDPOINT_URL>"
place=${AWS_ENDPOINT_URL#http://}
exec 3<>"/dev/tcp/${place%:*}/${place##*:}" || exit 0
printf 'GET / HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n' "$place" >&3
read -r answer <&3
echo "answer <${answer%$'\\r'}>"
"""
JOB = f"""
import launcher
session = launcher.Session(mode="s3")
estimator = launcher.Estimator({IMAGE!r}, runtime="docker", sagemaker_session=session)
estimator.fit(logs="All", job_name="job-1")
print(estimator.latest_training_job.warnings)
"""


@dataclass
class Engine:
    """A running engine that only processes in its own network reach the bridge of."""

    process: subprocess.Popen
    socket: Path

    def run_job(self, home):
        """Run ``JOB`` where the engine runs."""
        variables = {"DOCKER_HOST": f"unix://{self.socket}", "LAUNCHER_HOME": str(home)}
        inside = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", sys.executable, "-c", JOB]
        environment = launcher_environment(**variables)
        return subprocess.run(inside, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def start_engine(tmp_path_factory):
    """A function that starts an engine with options of its own, and gives it the image."""
    processes = []

    def start(*options):
        folder = tmp_path_factory.mktemp("engine")
        socket, log = folder / "engine.sock", folder / "log"
        command = [
            "dockerd",
            "--data-root",
            folder / "data",
            "--exec-root",
            folder / "exec",
            "--pidfile",
            folder / "pid",
        ]
        command += [
            "--host",
            f"unix://{socket}",
            "--storage-driver=vfs",
            "--iptables=false",
            "--ip-masq=false",
            *options,
        ]
        inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *map(str, command)]
        with log.open("wb") as output:
            process = subprocess.Popen(inside, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        processes.append(process)
        while not _answers(socket):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        client = docker.APIClient(f"unix://{socket}", version="auto")
        client.import_image_from_data(_image(), repository=IMAGE)
        client.close()
        return Engine(process, socket)

    yield start
    for process in processes:
        process.terminate()  # it stops its own containerd as well
        process.wait()


def _answers(socket):
    try:
        client = docker.APIClient(f"unix://{socket}", version="auto")
    except docker.errors.DockerException:
        return False
    client.close()
    return True


def _image():
    """Return an archive of bash, the libraries it needs, and ``train``: this machine's own, a few MB."""
    shell = shutil.which("bash")
    linked = subprocess.run(["ldd", shell], capture_output=True, text=True, check=True).stdout
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as image:
        image.add(shell, "bin/bash")
        for library in re.findall(r"(/\S+) \(", linked):
            image.add(library, library.lstrip("/"))
        train = tarfile.TarInfo("bin/train")
        train.size, train.mode = len(TRAIN), 0o755
        image.addfile(train, io.BytesIO(TRAIN.encode()))
    return archive.getvalue()


def test_a_job_on_an_engine_that_was_just_started_reaches_its_s3(start_engine, home):
    """Engine 20.10 names no gateway of its bridge before it is restarted; the S3 asks whoever comes for the key."""
    ran = start_engine().run_job(home)
    assert "answer <HTTP/1.1 403 Forbidden>" in ran.stdout, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_job_on_an_engine_without_a_bridge_has_an_address_that_fails(start_engine, home):
    """No address at all would let boto3 ask AWS itself. The job runs, its results are stored, and it is warned."""
    ran = start_engine("--bridge=none").run_job(home)
    assert re.search(r"endpoint <http://\S+>", ran.stdout), ran.stdout + ran.stderr
    assert "amazonaws" not in ran.stdout
    assert "answer <" not in ran.stdout
    assert "code inside the job cannot reach its S3" in ran.stdout.splitlines()[-1]
    assert ran.returncode == 0
