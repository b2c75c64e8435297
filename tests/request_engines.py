"""Where random requests go: each engine takes a request, and gives back what it has of it."""

import contextlib
import copy
import io
import json
import math
import subprocess
import tarfile
import time
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
from launcher.runtimes.slurm_commands import own_jobs
from launcher.sdk.aws_training import submission_for_aws
from launcher.storage import bucket_storage, which_s3
from tests.random_requests import ROLE, Surroundings, differences, make_data, placed
from tests.waiting import wait_until

WAITS = "import time; time.sleep(600)\n"
_DESCRIBES_ALL = """
import json
from launcher.jobs.store import JobStore
from launcher.jobs.tags import read_tags
from launcher.requests.describe import describe_record
from launcher.settings import home_path
store = JobStore(home_path())
for name in store.names():
    record = store.load(name)
    print(json.dumps([name, describe_record(record), read_tags(store, name, record)], default=str))
"""


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


def _losses(document, answer):
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
        self._sent = {}
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
        """Record a job as it is submitted; return a line for everything that its hosts would not get.

        Raises:
            LauncherError: it is refused; nothing was recorded.
        """
        job = accept(document)
        plan = plan_job(job, self.store)
        with self.store.claim(job.spec.job_name) as claim:
            record_job(job, claim)
        self._sent[document["TrainingJobName"]] = document
        return _not_given(document, plan)

    def losses(self, document):
        """Return a line for everything that the record, read anew, does not give back."""
        name = document["TrainingJobName"]
        record = JobStore(self.store.home).load(name)
        answer = Answer(describe_record(record), read_tags(self.store, name, record), record.request)
        return _losses(document, answer)

    def end(self):
        """Return such lines for what can only be asked when all have been sent: what was refused left nothing."""
        return [f"{name} was refused, and is there" for name in self.store.names() if name not in self._sent]


class OnHeldSlurm(ThisMachine):
    """Gives some of the jobs to a cluster that holds them, and has them stopped there.

    Args:
        held: how many.
    """

    def __init__(self, folder, home, held):
        super().__init__("slurm", folder, home, most_cpus=4, most_hosts=2, longest_seconds=6 * 86400)
        self._left = held

    def losses(self, document):
        """Compare before and after the cluster has the job, and after its end."""
        lines = super().losses(document)
        self._left -= 1
        if self._left < 0:
            return lines
        name = document["TrainingJobName"]
        drive_detached(self.store, name)
        wait_until(lambda: "job" in self.store.load(name).executions.get("algo-1", {}))
        assert own_jobs()[self.store.load(name).executions["algo-1"]["job"]]["job"] == name
        lines += super().losses(document)
        self.store.folder(name).request_stop()
        wait_until(lambda: self.store.load(name).terminal)
        return lines + super().losses(document)


class OverSsh(ThisMachine):
    """Sends requests to another machine as a job's driver does, and asks that machine what it has.

    Args:
        box: from ``tests.sshd``, which ``LAUNCHER_HOST`` names.
    """

    def __init__(self, box, folder, home):
        super().__init__("process", folder, home, most_hosts=2)
        self._box = box

    def send(self, document):
        """Send a job and have it stopped: its request is there from now on."""
        lines = super().send(document)
        name = document["TrainingJobName"]
        record, folder = self.store.load(name), self.store.folder(name)
        runtime = get_runtime(record.training_spec.runtime)
        connection = borrow(runtime.address)
        try:
            sent = Sender(record.training_spec, record.request, folder, connection).send(runtime.inner_name)
            connection.ask("submit", document=sent, origin=f"{self.store.home} {record.created!r}")
            connection.ask("stop", name=name)
            self._home = connection.facts["home"]
        except LauncherError as error:
            del self._sent[name]
            lines.append(f"{name} was taken here and refused there: {error}")
        finally:
            give_back(connection)
        return lines

    def end(self):
        """Ask that machine what it has of each job, as somebody who is logged in there."""
        printed = self._box.python_there(_DESCRIBES_ALL)
        answers = {name: Answer(said, tags) for name, said, tags in map(json.loads, printed.splitlines())}
        return [
            f"{name}, there: {line}"
            for name, document in self._sent.items()
            for line in _losses(document, self._brought_home(document, answers[name]))
        ]

    def _brought_home(self, document, answer):
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

    Boto3's own variables name the server, which runs one job at a time.

    Args:
        folder: a new one, for what the jobs read.
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
        self._occupy()

    def send(self, document):
        """Ask for a job."""
        submission_for_aws(document).send(self._wire)
        return []

    def losses(self, document):
        """Describe the job by a request, list its tags by another one, and have it stopped meanwhile."""
        said = self._wire.describe(document["TrainingJobName"])
        tags = self._wire.ask("sagemaker", "ListTags", ResourceArn=said["TrainingJobArn"])["Tags"]
        self._stopping.append(self._threads.submit(self._wire.stop, document["TrainingJobName"]))
        for asked, channel in zip(document.get("InputDataConfig", ()), said["InputDataConfig"], strict=True):
            if asked["DataSource"]["S3DataSource"]["S3Uri"].startswith("file://"):  # it was uploaded
                place = channel["DataSource"]["S3DataSource"]
                _replace(place, asked["DataSource"]["S3DataSource"], "S3Uri", "s3://results/launcher/inputs/")
        return _losses(document, Answer(said, {tag["Key"]: tag["Value"] for tag in tags}))

    def end(self):
        """Wait until every job is being stopped, and the one that ran has ended."""
        with self._threads:
            for stop in self._stopping:
                stop.result()
        self._wire.stop("first")
        wait_until(lambda: self._wire.describe("first")["TrainingJobStatus"] == "Stopped")
        return []

    def _occupy(self):
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


def send_until(engine, documents, count, seconds=math.inf):
    """Send requests until so many were taken, or for so long, and compare what comes back.

    Returns:
        How many were taken; a line for everything that was lost; the error of each request that was refused.
    """
    taken, lines, refusals, end = 0, [], [], time.monotonic() + seconds
    for number, document in enumerate(documents):
        if taken == count or time.monotonic() > end:
            break
        document = placed(document, engine.there, number)
        try:
            lines += engine.send(document)
        except LauncherError as error:
            refusals.append(error)
        else:
            taken += 1
            lines += [f"{document['TrainingJobName']}: {line}" for line in engine.losses(document)]
    return taken, lines + engine.end(), refusals


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
