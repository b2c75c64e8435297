"""Where a job finds its files: the ``/opt/ml`` tree, or the same tree under another base folder."""

import os
from pathlib import Path
from typing import NamedTuple

DEFAULT_BASE = "/opt/ml"


class JobPaths(NamedTuple):
    """Every folder and file of the contract between a job and the platform; all below ``base``."""

    base: Path
    input_config: Path
    input_data: Path
    model: Path
    output: Path
    output_data: Path
    intermediate: Path
    failure: Path
    checkpoints: Path
    code: Path


def job_paths() -> JobPaths:
    """Return the tree under ``$SAGEMAKER_BASE_DIR``, or under ``/opt/ml`` where that is unset or empty."""
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR") or DEFAULT_BASE)
    output = base / "output"
    return JobPaths(
        base=base,
        input_config=base / "input" / "config",
        input_data=base / "input" / "data",
        model=base / "model",
        output=output,
        output_data=output / "data",
        intermediate=output / "intermediate",
        failure=output / "failure",
        checkpoints=base / "checkpoints",
        code=base / "code",
    )
