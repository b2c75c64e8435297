"""Where random requests go: each engine takes a request, and gives back what it has of it."""

import contextlib
import copy
import io
import json
import shlex
import subprocess
import tarfile
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.elsewhere.connection import borrow, give_back
from launcher.elsewhere.sending import Sender
from launcher.errors import LauncherError
from launcher.jobs.store import JobStore
from launcher.jobs.tags import read_tags
from launcher.remote.client import WireClient
from launcher.remote.place import Place
from launcher.requests.describe import describe_record
from launcher.running.accepting import accept, plan_job, record_job
from launcher.running.artifacts import write_archive
from launcher.running.driving import drive_detached
from launcher.runtimes import get_runtime
from launcher.sdk.aws_training import submission_for_aws
from launcher.storage import bucket_storage, which_s3
from tests.random_requests import ROLE, Surroundings, differences, make_data

WAITS = "import time; time.sleep(600)\n"


@dataclass(frozen=True)
class Answer:
    """What an engine has of a request.

    Attributes:
        description: as DescribeTrainingJob answers.
        tags: the pairs.
        request: as its record has it; None where only AWS could know.
    """

    description: Mapping[str, Any]
    tags: Mapping[str, str]
    request: Mapping[str, Any] | None = None


def losses(document, answer):
    """Return a line for everything that did not come back as it was sent."""
    lines = differences(document, answer.description)
    tags = {tag["Key"]: tag["Value"] for tag in document.get("Tags", ())}
    if answer.tags != tags:
        lines.append(f"Tags are {answer.tags}, and were {tags}")
    if answer.request is not None and answer.request != document:
        lines.append(f"the record has another request: {answer.request}")
    return lines


class ThisMachine:
    """Records requests for a runtime of this machine, and reads them from the disk again.

    Args:
        runtime: its name.
        folder: a new one, for what the jobs read and write.
        home: ``LAUNCHER_HOME``.
        images: that the runtime has; none where it runs sources alone.
        limits: members of ``Surroundings``.
    """

    def __init__(self, runtime, folder, home, images=(), **limits):
        self.store = JobStore(Path(home))
        folder = Path(folder)
        self.there = Surroundings(
            data=make_data(folder / "rows", _stored_here(folder)),
            results=[f"file://{folder}/results", "s3://results", "s3://results/deep/er"],
            source="" if images else f"file://{_source(folder)}",
            images=tuple(images),
            runtime=runtime,
            **limits,
        )

    def send(self, document):
        """Record a job as it is submitted; return its name, and a line for what its hosts would not get.

        Raises:
            LauncherError: it is refused; nothing was recorded.
        """
        job = accept(document)
        plan = plan_job(job, self.store)
        with self.store.claim(job.spec.job_name) as claim:
            record_job(job, claim)
        return document["TrainingJobName"], _not_given(document, plan)

    def answer(self, name):
        """Return what the record says, read anew."""
        record = JobStore(self.store.home).load(name)
        return Answer(describe_record(record), read_tags(self.store, name, record), record.request)

    def submit(self, name):
        """Give a recorded job a driver, which starts it."""
        drive_detached(self.store, name)


class OverSsh(ThisMachine):
    """Sends requests to another machine as a job's driver does, and asks that machine what it has.

    Args:
        box: from ``tests.sshd``, which ``LAUNCHER_HOST`` names.
    """

    def __init__(self, box, folder, home, **limits):
        super().__init__("process", folder, home, **limits)
        self._box = box

    def send(self, document):
        """Send a job and have it stopped: its request is there from now on."""
        name, lines = super().send(document)
        record = self.store.load(name)
        runtime = get_runtime(record.training_spec.runtime)
        connection = borrow(runtime.address)
        try:
            sender = Sender(record.training_spec, record.request, self.store.folder(name), connection)
            sent = sender.send(runtime.inner_name)
            connection.ask("submit", document=sent, origin=f"{self.store.home} {record.created!r}")
            connection.ask("stop", name=name)
            self._home = connection.facts["home"]
        finally:
            give_back(connection)
        return name, lines

    def answers_there(self, names):
        """Return what that machine says of each job, asked as somebody who is logged in there."""
        program = (
            "import json\n"
            "from launcher.jobs.store import JobStore\n"
            "from launcher.jobs.tags import read_tags\n"
            "from launcher.requests.describe import describe_record\n"
            "from launcher.settings import home_path\n"
            "store = JobStore(home_path())\n"
            "for name in store.names():\n"
            "    record = store.load(name)\n"
            "    print(json.dumps([name, describe_record(record), read_tags(store, name, record)], default=str))\n"
        )
        code = next((self._box.home / ".cache/launcher/code").iterdir())
        printed = self._box.run(f"PYTHONPATH={code} {self._box.python}/bin/python -c {shlex.quote(program)}")
        answers = {name: Answer(said, tags) for name, said, tags in map(json.loads, printed.splitlines())}
        return {name: answers[name] for name in names}

    def brought_home(self, document, answer):
        """Return an answer with the places here instead of those there, each of which has to be where files go."""
        said, sent = copy.deepcopy(dict(answer.description)), f"file://{self._home}/sent/"
        for asked, channel in zip(document.get("InputDataConfig", ()), said["InputDataConfig"], strict=True):
            _replace(channel["DataSource"]["S3DataSource"], asked["DataSource"]["S3DataSource"], "S3Uri", sent)
        _replace(said["OutputDataConfig"], document["OutputDataConfig"], "S3OutputPath", f"file://{self._home}/jobs")
        if "CheckpointConfig" in document:
            _replace(said["CheckpointConfig"], document["CheckpointConfig"], "S3Uri", sent)
        _replace(said["HyperParameters"], document["HyperParameters"], "sagemaker_submit_directory", sent)
        return Answer(said, answer.tags)


class AsAws:
    """Sends requests to a server in the role of AWS, as ``mode="aws"`` does.

    Args:
        folder: a new one, for what the jobs read.
    Boto3's own variables name the server.
    """

    def __init__(self, folder):
        self._wire = WireClient(Place("AWS", "us-east-1"))
        self._threads, self._stopping = ThreadPoolExecutor(4), []
        folder = Path(folder)
        for bucket in ("rows", "results"):
            self._wire.storage.make_bucket(f"s3://{bucket}")
        self._wire.storage.put_file(_source(folder), "s3://results/source.tar.gz")
        self.there = Surroundings(
            data=make_data(folder / "rows", _stored(self._wire.storage, folder)),
            results=["s3://results", "s3://results/deep/er"],
            source="s3://results/source.tar.gz",
            roles=(ROLE,),
            local_types=False,
            needed={
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
                "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
            },
        )

    def send(self, document):
        """Ask for a job."""
        return submission_for_aws(document).send(self._wire).name, []

    def answer(self, name):
        """Describe the job by a request, list its tags by another one, and have it stopped meanwhile."""
        said = self._wire.describe(name)
        tags = self._wire.ask("sagemaker", "ListTags", ResourceArn=said["TrainingJobArn"])["Tags"]
        self._stopping.append(self._threads.submit(self._wire.stop, name))
        return Answer(said, {tag["Key"]: tag["Value"] for tag in tags})

    def brought_home(self, document, answer):
        """Return an answer with the folders of this machine that were uploaded."""
        said = copy.deepcopy(dict(answer.description))
        for asked, channel in zip(document.get("InputDataConfig", ()), said["InputDataConfig"], strict=True):
            if asked["DataSource"]["S3DataSource"]["S3Uri"].startswith("file://"):
                place = channel["DataSource"]["S3DataSource"]
                _replace(place, asked["DataSource"]["S3DataSource"], "S3Uri", "s3://results/launcher/inputs/")
        return Answer(said, answer.tags)

    def end(self):
        """Wait until every job is being stopped."""
        with self._threads:
            for stop in self._stopping:
                stop.result()

    def occupy(self):
        """Take the one place that the server has for jobs, so that the following ones wait."""
        document = {
            "TrainingJobName": "first",
            "RoleArn": ROLE,
            "AlgorithmSpecification": {"TrainingImage": "any", "TrainingInputMode": "File"},
            "HyperParameters": {
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": self.there.source,
            },
            "OutputDataConfig": {"S3OutputPath": "s3://results"},
            **self.there.needed,
        }
        self.send(document)


def _replace(said, asked, member, place):
    """Put a place that was asked for instead of that of the other side, if that is below ``place``."""
    if said[member].startswith(place):
        said[member] = asked[member]


def _not_given(document, plan):
    """Return a line for each hyperparameter, variable and word of a request that its hosts would not get."""
    lines = []
    asked = document.get("HyperParameters", {})
    if json.loads(plan.config_files["input/config/hyperparameters.json"]) != asked:
        lines.append("hyperparameters.json has others")
    algorithm = document["AlgorithmSpecification"]
    words = [*algorithm.get("ContainerEntrypoint", ()), *algorithm.get("ContainerArguments", ())]
    for container in plan.containers:
        lines += [
            f"{name} of Environment does not reach {container.host}"
            for name, text in document.get("Environment", {}).items()
            if container.environment.get(name) != text
        ]
        if words and [*container.entry_point, *container.arguments] != words:
            lines.append(f"{container.host} runs {container.entry_point} {container.arguments}")
    channels = json.loads(plan.config_files["input/config/inputdataconfig.json"])
    if sorted(channels) != sorted(channel["ChannelName"] for channel in document.get("InputDataConfig", ())):
        lines.append(f"inputdataconfig.json has the channels {sorted(channels)}")
    return lines


def _source(folder):
    """Return a source archive whose ``train.py`` waits."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "train.py"
    script.write_text(WAITS)
    write_archive([("train.py", script)], folder / "source.tar.gz", durable=False)
    return folder / "source.tar.gz"


def _stored_here(folder):
    storage = bucket_storage(which_s3())
    for bucket in ("rows", "results"):
        storage.make_bucket(f"s3://{bucket}")
    return _stored(storage, folder)


def _stored(storage, folder):
    """Return a function that stores a text at a URI."""

    def put(uri, text):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "text").write_text(text)
        storage.put_file(folder / "text", uri)

    return put


def send_until(engine, documents, count, refused):
    """Send requests until that many were taken; yield each document with its name and what its hosts would not get.

    Args:
        refused: called with each document that the engine refuses, and its error.
    """
    for document in documents:
        try:
            name, lines = engine.send(document)
        except LauncherError as error:
            refused(document, error)
        else:
            yield document, name, lines
            count -= 1
            if not count:
                return


@contextlib.contextmanager
def an_empty_image():
    """Yield the name of an image without a file, which the Docker engine has meanwhile."""
    name = f"launcher-test-{uuid.uuid4().hex[:8]}:1"
    with tarfile.open(fileobj=(archive := io.BytesIO()), mode="w"):
        pass
    subprocess.run(["docker", "import", "-", name], input=archive.getvalue(), check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run(["docker", "image", "rm", "--force", name], check=True, capture_output=True)
