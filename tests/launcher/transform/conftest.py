"""A transform job whose container is a server in the test."""

import json
import threading

import pytest

from launcher.jobs.store import ModelStore, TransformStore
from launcher.running.driving import drive
from launcher.sdk.transform_job import TransformJob
from launcher.serving.models import create_model
from launcher.transform.submission import submit_transform
from tests.fakes import FakeServing


def echo(_container, _headers, body):
    return 200, body


class Bench:
    """Submits transform jobs over files of the test and drives them in this process."""

    def __init__(self, tmp_path, home):
        self.inputs, self.outputs = tmp_path / "inputs", tmp_path / "outputs"
        self.store, self.models = TransformStore(home), ModelStore(home)
        create_model({"ModelName": "model-1", "PrimaryContainer": {"Environment": {"COLOUR": "red"}}}, self.models)
        self.runtime = FakeServing(echo)

    def write(self, **files):
        """Write input files; ``__`` in a name stands for a folder, and every name ends in .txt."""
        for name, content in files.items():
            path = self.inputs / f"{name.replace('__', '/')}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def request(self, *, data=None, given=None, put=None, own=None, job_name="job-1", count=1, **members):
        source = {"S3DataType": "S3Prefix", "S3Uri": data or f"file://{self.inputs}", **(own or {})}
        return {
            "TransformJobName": job_name,
            "ModelName": "model-1",
            "TransformInput": {"DataSource": {"S3DataSource": source}, "SplitType": "Line", **(given or {})},
            "TransformOutput": {"S3OutputPath": f"file://{self.outputs}", "AssembleWith": "Line", **(put or {})},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": count},
            **members,
        }

    def submit(self, **members):
        return submit_transform(self.request(**members), self.store, self.models, self.runtime).name

    def run(self, **members):
        """Return the job when it has ended, however it did."""
        name = self.submit(**members)
        drive(self.store, name, runtime=self.runtime)
        return TransformJob(name, self.store)

    def written(self):
        paths = sorted(path for path in self.outputs.rglob("*") if path.is_file())
        return {str(path.relative_to(self.outputs)): path.read_text() for path in paths}

    @property
    def requests(self):
        """The bodies that the containers got, in the order of their coming."""
        return [body for _, body in self.seen]

    @property
    def record(self):
        return json.loads((self.store.folder("job-1").record_path).read_text())


@pytest.fixture
def bench(tmp_path, home):
    bench = Bench(tmp_path, home)
    bench.seen, lock = [], threading.Lock()

    def noted(container, headers, body):
        with lock:
            bench.seen.append((dict(headers), body))
        return bench.answer(container, headers, body)

    bench.answer = echo
    bench.runtime.answer = noted
    yield bench
    assert bench.runtime.running == [], "a container still runs"
