"""A processing job on a runtime that runs everything in the test's own folders."""

import textwrap
from pathlib import Path

import pytest

from launcher.errors import JobFailedError
from launcher.jobs.store import ProcessingStore
from launcher.sdk.processing import ScriptProcessor
from launcher.sdk.processing_inputs import ProcessingInput, ProcessingOutput
from tests.fakes import FakeRuntime

BASE = "import os, pathlib; base = pathlib.Path(os.environ.get('SAGEMAKER_BASE_DIR', '/opt/ml'))\n"


class Bench:
    """Writes scripts and data, and runs scripts over the data.

    Attributes:
        data: a folder with two files and a folder.
        output: the folder of this machine that the output goes to.
    """

    def __init__(self, tmp_path, home):
        self.path, self.store = tmp_path, ProcessingStore(home)
        self.data, self.output = tmp_path / "data", tmp_path / "out"
        for name, text in (("a.csv", "a"), ("b.csv", "b"), ("deep/c.csv", "c")):
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def script(self, text, name="clean.py"):
        """Write a script that finds ``/opt/ml``, wherever it is, as ``base``."""
        path = self.path / name
        path.write_text(BASE + textwrap.dedent(text))
        return path

    def input(self, source=None, path="input/data", **options):
        return ProcessingInput(str(source or self.data), f"/opt/ml/processing/{path}", **options)

    def outputs(self, mode="EndOfJob", destination=None):
        place = str(destination or self.output)
        return [ProcessingOutput("/opt/ml/processing/output", place, "result", s3_upload_mode=mode)]

    def submit(self, text, runtime=None, *, job_name="job-1", outputs=None, inputs=(), arguments=None, **options):
        processor = ScriptProcessor(runtime=runtime or FakeRuntime(), **options)
        return processor.submit(
            processor.program(self.script(text)),
            inputs=list(inputs),
            outputs=self.outputs() if outputs is None else outputs,
            arguments=arguments,
            job_name=job_name,
        )

    def run(self, text, runtime=None, **options):
        """Return the job when it has ended, however it did."""
        job = self.submit(text, runtime, **options)
        try:
            job.wait(logs=False)
        except JobFailedError as error:
            job.error = error
        return job

    def written(self, folder=None):
        root = Path(folder or self.output)
        return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def bench(tmp_path, home):
    return Bench(tmp_path, home)
