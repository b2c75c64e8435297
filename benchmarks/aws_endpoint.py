"""The local AWS: DescribeTrainingJob against a plain moto server by the same clients, its first answers, its memory.

Both servers are processes of their own and have the same number of jobs. A client is a process with one connection,
where the server keeps it, that sends the request boto3 would send and reads the whole answer: what is measured is the
server and not boto3, which takes longer than either.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from engine import Engine, EngineMissingError, engine_for
from measuring import Aim, Row

from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import JobStore
from launcher.running.accepting import submit
from launcher.s3_server import service
from launcher.storage import bucket_storage, which_s3

_SECONDS = 2.0
_CLIENTS = (1, 8)
_JOBS = 1000
_NAME = "job-0007"
_TELL_TIME = ["date", "+%s.%N"]
_MOTO = """
import logging, time
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(1e6)
"""
_HEADERS = {
    "Content-Type": "application/x-amz-json-1.1",
    "Authorization": "AWS4-HMAC-SHA256 Credential=any/20261121/us-east-1/sagemaker/aws4_request, SignedHeaders=host,"
    " Signature=0",
}


def aws_rows(scratch: Path, home: Path, runs: int) -> list[Row]:
    """Return requests a second, the time of one, first answers, and memory after a thousand jobs."""
    rounds = min(runs, 3)
    first = [_first_answers(scratch / f"first-{number}") for number in range(max(3, min(runs, 5)))]
    rows = [
        Row(
            "aws",
            f"launcher up to the answer to {name}",
            ours=[times[name] for times in first],
            aims=(Aim("ours", 300),),
        )
        for name in first[0]
    ]
    _record_jobs(home)
    with _moto() as moto_url, _launched(home) as url:
        _create_in_moto(moto_url)
        speeds: dict[int, tuple[list[float], list[float]]] = {count: ([], []) for count in _CLIENTS}
        medians: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for count in _CLIENTS:
                for side, server in enumerate((moto_url, url)):
                    times = _load(server, count)
                    speeds[count][side].append(sum(map(len, times)) / _SECONDS)
                    if count == 1:
                        medians[side].append(statistics.median(times[0]) * 1000)
        rows += [
            Row(
                "aws", f"DescribeTrainingJob, {count} client{'s' if count > 1 else ''}, against moto", unit="1/s",
                floor=floor, ours=ours, aims=(Aim("ratio", 3, at_least=True),),
            )
            for count, (floor, ours) in speeds.items()
        ]  # fmt: skip
        rows.append(
            Row("aws", "DescribeTrainingJob, the middle one", floor=medians[0], ours=medians[1], aims=(Aim("ours", 3),))
        )
        rows.append(_memory_row(home, url))
        rows.append(_create_row(home, url, rounds))
    return rows


def _create_row(home: Path, url: str, runs: int) -> Row:
    """Compare the times until a program in a container says what time it is."""
    title = "CreateTrainingJob to a running container, against docker-py"
    try:
        with engine_for(home) as engine:
            client = boto3.client(
                "sagemaker", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any",
                aws_secret_access_key="any",
            )  # fmt: skip
            floor, ours = [], []
            for number in range(runs + 1):
                floor.append(_begun_by_engine(engine))
                ours.append(_begun_by_request(home, client, engine.tiny_image, f"create-{number}"))
            return Row("aws", title, floor=floor[1:], ours=ours[1:], aims=(Aim("ratio", 1.3),))
    except EngineMissingError as error:
        return Row("aws", title, skipped=str(error))


def _begun_by_engine(engine: Engine) -> float:
    began = time.time()
    config = engine.client.create_host_config(init=True)
    container = engine.client.create_container(engine.tiny_image, command=_TELL_TIME, host_config=config)["Id"]
    try:
        engine.client.start(container)
        engine.client.wait(container)
        return (float(engine.client.logs(container)) - began) * 1000
    finally:
        engine.client.remove_container(container, v=True, force=True)


def _begun_by_request(home: Path, client: Any, image: str, name: str) -> float:
    document = _document(name)
    document["AlgorithmSpecification"] |= {"TrainingImage": image, "ContainerEntrypoint": _TELL_TIME}
    began = time.time()
    client.create_training_job(**document)
    while client.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "InProgress":
        time.sleep(0.1)
    text = JobStore(home).folder(name).log_path("algo-1").read_text()
    return (float(text.split()[-1]) - began) * 1000


def _record_jobs(home: Path) -> None:
    """Make a thousand records of jobs that ended: what is asked for is the record, whoever ran the job."""
    store = JobStore(home)
    bucket_storage(which_s3()).make_bucket("s3://results")
    with _variable("LAUNCHER_RUNTIME", "process"):
        for number in range(_JOBS):
            name = f"job-{number:04}"
            submit(_document(name), store)
            with store.folder(name).driving(wait=True):
                record = store.load(name)
                record.move(Status.COMPLETED, SecondaryStatus.COMPLETED, "", time.time())
                store.save(name, record)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _document(name: str) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::000000000000:role/any",
        "AlgorithmSpecification": {
            "TrainingInputMode": "File", "ContainerEntrypoint": ["true"],
        },
        "OutputDataConfig": {"S3OutputPath": "s3://results/jobs"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "HyperParameters": {f"name-{n}": "value" for n in range(20)},
    }  # fmt: skip


def _create_in_moto(url: str) -> None:
    client = boto3.client(
        "sagemaker", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    for number in range(20):
        document = _document(f"job-{number:04}")
        document["AlgorithmSpecification"]["TrainingImage"] = "any:1"
        client.create_training_job(**document)


def _load(url: str, clients: int) -> list[list[float]]:
    """Return how long each request of each client took, in seconds, of those that began within the time."""
    with multiprocessing.get_context("fork").Pool(clients) as pool:
        return pool.map(_ask, [(url, time.monotonic() + 0.3)] * clients, chunksize=1)


def _ask(arguments: tuple[str, float]) -> list[float]:
    url, begin = arguments
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    body = json.dumps({"TrainingJobName": _NAME}).encode()
    headers = {**_HEADERS, "X-Amz-Target": "SageMaker.DescribeTrainingJob"}
    time.sleep(max(0.0, begin - time.monotonic()))
    times, end = [], time.monotonic() + _SECONDS
    while (began := time.monotonic()) < end:
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        times.append(time.monotonic() - began)
        if answer.status != 200 or _NAME.encode() not in text:
            raise RuntimeError(f"{answer.status}: {text[:300]!r}")
    connection.close()
    return times


def _first_answers(home: Path) -> dict[str, float]:
    """Return how long after ``launcher up`` was begun S3 and then DescribeTrainingJob were answered, in ms."""
    port = _free_port()
    environment = {**os.environ, "LAUNCHER_HOME": str(home)}
    answers = {}
    for name, status in (("S3", 200), ("DescribeTrainingJob", 400)):
        began = time.monotonic()
        command = [sys.executable, "-m", "launcher", "up", "--port", str(port)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            while _status(port, name) != status:
                if time.monotonic() - began > 30:
                    raise TimeoutError(name)
                time.sleep(0.002)
            answers[name] = (time.monotonic() - began) * 1000
            process.wait()
        service.stop(home)
    return answers


def _status(port: int, name: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        if name == "S3":
            connection.request("GET", "/")
        else:
            target = {**_HEADERS, "X-Amz-Target": f"SageMaker.{name}"}
            connection.request("POST", "/", b'{"TrainingJobName": "none"}', target)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def _free_port() -> int:
    from launcher.s3_server.listening import listen

    with listen("127.0.0.1") as listener:
        return int(listener.getsockname()[1])


def _memory_row(home: Path, url: str) -> Row:
    """List all jobs and describe each; what the server holds then."""
    client = boto3.client(
        "sagemaker", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    pages = client.get_paginator("list_training_jobs").paginate(MaxResults=100)
    names = [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]
    for name in names:
        client.describe_training_job(TrainingJobName=name)
    [server] = service.status(home)
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
    return Row("aws", f"memory after {len(names)} jobs were listed and described", unit="MiB", ours=[resident])


@contextmanager
def _launched(home: Path) -> Iterator[str]:
    from launcher.storage.own_s3 import ensure_server

    try:
        yield ensure_server(home)
    finally:
        service.stop(home)


@contextmanager
def _moto() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", _MOTO], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()
