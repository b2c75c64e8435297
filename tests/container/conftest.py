"""A small ``/opt/ml`` tree, and the toolkit as a process that runs a job in it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CONTAINER = Path(__file__).parents[2] / "container"


@dataclass
class JobTree:
    base: Path

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def write_hyperparameters(self, hyperparameters: Mapping[str, object]) -> None:
        self.write("input/config/hyperparameters.json", json.dumps(hyperparameters))

    def write_channels(self, *names: str) -> None:
        arrival = {"TrainingInputMode": "File"}
        self.write("input/config/inputdataconfig.json", json.dumps(dict.fromkeys(names, arrival)))
        for name in names:
            (self.base / "input" / "data" / name).mkdir(parents=True, exist_ok=True)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "job_toolkit", *arguments]

    def variables(self, **others: str) -> dict[str, str]:
        own = {"SAGEMAKER_BASE_DIR": str(self.base), "PYTHONPATH": str(CONTAINER)}
        return {**os.environ, **own, **others}

    def run(self, *arguments: str, script: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``job_toolkit``; ``script`` becomes ``code/train.py`` first."""
        if script is not None:
            self.write("code/train.py", script)
        return self.run_command(self.command(*(arguments or ("train",))), **variables)

    def run_command(self, command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.variables(**variables), capture_output=True, text=True, timeout=60, check=False
        )

    @property
    def failure(self) -> str | None:
        path = self.base / "output" / "failure"
        return path.read_text() if path.exists() else None


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobTree:
    """An empty tree; code under test in this process sees it, too."""
    base = tmp_path / "opt_ml"
    base.mkdir()
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    monkeypatch.delenv("TRAINING_JOB_NAME", raising=False)
    return JobTree(base)
