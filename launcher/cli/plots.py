"""Pictures of a job, drawn by the entry points' own library from what the job left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from launcher.errors import BadInputError, LauncherError
from launcher.sdk.training_job import TrainingJob
from launcher.settings import data_path


def plot_job(job: TrainingJob, output: Path | None) -> Path:
    """Draw loss and off-policy estimates of a training job over its epochs.

    Args:
        job: it has written at least one row of metrics.
        output: a file; its ending, .png or .html, says what is drawn. Default: a PNG beside the metrics.
    Raises:
        BadInputError: the job has no metrics, or the file has another ending.
        LauncherError: it could not be drawn.
    """
    folder = job.outputs.intermediate_path
    files = sorted(folder.glob("worker_*.batch_rl_graph.*.csv"))
    if not files:
        raise BadInputError(
            f"job '{job.name}' has written no off-policy estimates to {folder}.",
            "Only offline training does, after its first epoch.",
        )
    if output is not None and output.suffix.lower() not in (".png", ".html"):
        raise BadInputError(f"{output}: a plot is drawn as PNG or HTML.", "Let its name end in .png or .html.")
    target = (output or folder / "off_policy_evaluation.png").resolve()
    answer = subprocess.run(
        [sys.executable, "-m", "batch_rl.reporting.plots", str(files[0]), str(target)],
        capture_output=True,
        text=True,
        cwd=data_path("entrypoints"),
        check=False,
    )
    if answer.returncode != 0:
        raise LauncherError(
            f"{target} could not be drawn: {answer.stderr.strip()[-500:]}",
            "launcher doctor says whether a library is missing.",
        )
    return target
