"""Tuning jobs whose training jobs are small scripts, by the fake runtime or as processes."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from launcher.jobs.store import JobStore, TuningStore
from launcher.running import artifacts
from launcher.running.driving import drive
from launcher.tuning.submission import submit_tuning
from tests.fakes import FakeRuntime

ROLE = "arn:aws:iam::111122223333:role/service-role/r"
SCRIPT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float, default=0)
parser.add_argument("--layers", type=int, default=1)
parser.add_argument("--kind", default="a")
options, _ = parser.parse_known_args()
print(f"score={-(options.rate - 3) ** 2 + options.layers}", flush=True)
"""
RANGES = {"ContinuousParameterRanges": [{"Name": "rate", "MinValue": "-10", "MaxValue": "10"}]}


class Tuning:
    """Submits tuning jobs of one script and drives them in this process."""

    def __init__(self, tmp_path, home):
        self.home, self.tmp_path = home, tmp_path
        self.store, self.jobs = TuningStore(home), JobStore(home)
        self.runtime = FakeRuntime()
        self.outputs = tmp_path / "outputs"
        self.outputs.mkdir()
        self.set_script(SCRIPT)

    def set_script(self, text):
        script = self.tmp_path / "train.py"
        script.write_text(text)
        self.archive = self.tmp_path / "sourcedir.tar.gz"
        artifacts.write_archive([("train.py", script)], self.archive, mtime=0, durable=False)

    def definition(self, **members):
        return {
            "AlgorithmSpecification": {
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "score", "Regex": "^score=([-0-9.e]+)"}],
            },
            "StaticHyperParameters": {
                "sagemaker_program": json.dumps("train.py"),
                "sagemaker_submit_directory": json.dumps(f"file://{self.archive}"),
            },
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": f"file://{self.outputs}"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **members,
        }

    def request(
        self,
        name="tune-1",
        *,
        strategy="Random",
        jobs=3,
        parallel=1,
        ranges=RANGES,
        seed=1,
        objective="Maximize",
        config=None,
        limits=None,
        definition=None,
        **members,
    ):
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": strategy,
                "HyperParameterTuningJobObjective": {"Type": objective, "MetricName": "score"},
                "ResourceLimits": {
                    **({"MaxNumberOfTrainingJobs": jobs} if jobs else {}),
                    "MaxParallelTrainingJobs": parallel,
                    **(limits or {}),
                },
                "ParameterRanges": ranges,
                "RandomSeed": seed,
                **(config or {}),
            },
            "TrainingJobDefinition": self.definition(**(definition or {})),
            **members,
        }

    def submit(self, name="tune-1", **options):
        return submit_tuning(self.request(name, **options), self.home, self.runtime).name

    def run(self, name="tune-1", **options):
        """Return the record of the tuning job when it has ended, however it did."""
        self.submit(name, **options)
        return drive(self.store, name, runtime=self.runtime)

    def await_metrics(self, count, name="tune-1"):
        """Wait until so many training jobs have emitted a value."""
        deadline = time.monotonic() + 30
        while True:
            jobs = [trial.job for trial in self.store.load(name).trials]
            if sum(self.jobs.folder(job).metrics_path.exists() for job in jobs) >= count:
                return
            assert time.monotonic() < deadline, jobs
            time.sleep(0.05)

    def values(self, name="tune-1"):
        return [trial.values for trial in self.store.load(name).trials]


@pytest.fixture
def tuning(tmp_path, home):
    return Tuning(tmp_path, home)


@pytest.fixture
def in_thread():
    """Run something beside the test; the thread has ended when the test has."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda call: pool.submit(call)
