"""Metric files under the names that Coach gives them, a row appended and flushed per epoch or episode.

The columns are Coach's, in its order, without ``Wall-Clock Time``: the file is the same, byte for byte,
for the same data, preset and seed. What has no value without an environment stays empty. Unlike in Coach,
an epoch's estimates stand on its own row, those of the last epoch included, and losses are per batch, not
their running sum. Columns of this library follow after Coach's; those of trajectory estimators that
the preset does not ask for stay empty.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from batch_rl.learning.training import EpochResult, TrainingRun
from batch_rl.ope import EstimatedValue, PolicyEvaluation
from batch_rl.presets.schema import ESTIMATORS

BATCH_FILE_NAME = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
EPISODE_FILE_NAME = "worker_0.simple_rl_graph.main_level.main_level.agent_0.csv"
WIS = "Weighted Importance Sampling"
SEQUENTIAL_DR = "Sequential Doubly Robust"
LOGGED_RETURN = "Logged Discounted Return"
EFFECTIVE_SAMPLE_SIZE = "Effective Sample Size"
TRAJECTORY = {name: f"{name} (trajectory)" for name in ESTIMATORS}  # columns by estimator
FQE = "FQE"  # on the last epoch's row
LOWER, UPPER = " Low", " High"  # suffixes of a column's name: the ends of the estimate's interval

_SIGNALS = ("Loss", "Learning Rate", "Grads (unclipped)", "Discounted Return", "Q")
_STATISTICS = ("Mean", "Stdev", "Max", "Min")
BATCH_COLUMNS = (
    "Epoch",
    "Update Target Network",
    "Training Iter",
    "Episode #",
    "In Heatup",
    "ER #Transitions",
    "ER #Episodes",
    "Episode Length",
    "Total steps",
    "Epsilon",
    "Shaped Training Reward",
    "Training Reward",
    "Evaluation Reward",
    "Shaped Evaluation Reward",
    "Success Rate",
    "Inverse Propensity Score",
    "Direct Method Reward",
    "Doubly Robust",
    WIS,
    SEQUENTIAL_DR,
    *(f"{signal}/{statistic}" for signal in _SIGNALS for statistic in _STATISTICS),
    EFFECTIVE_SAMPLE_SIZE,
    "Mean Importance Weight",
    "Largest Weight Share",
    LOGGED_RETURN,
    "Evaluated Policy",
    *(f"{column}{end}" for column in TRAJECTORY.values() for end in ("", LOWER, UPPER)),
    "Interval Level",
    *(f"{FQE}{end}" for end in ("", LOWER, UPPER)),
)
EPISODE_COLUMNS = ("Episode #", "Evaluation Reward", "Episode Length", "Success Rate")


class MetricsFile:
    """A CSV file that grows by whole rows and can be read at any time.

    Args:
        path: is replaced if it exists.
        columns: names in order; every row may fill some of them.
        earlier: the text, with its header, that an earlier run of the job wrote; columns that it lacks stay empty.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, earlier: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, columns, restval="", lineterminator="\n")
        if earlier and earlier.splitlines()[0] != ",".join(columns):  # of a version that had fewer
            self._writer.writeheader()
            self._writer.writerows(csv.DictReader(io.StringIO(earlier)))
        elif earlier:
            self._file.write(earlier)
        else:
            self._writer.writeheader()
        self._file.flush()

    def text(self) -> str:
        """Return all that has been written."""
        return self.path.read_text(encoding="utf-8")

    def append(self, row: Mapping[str, object]) -> None:
        """Write a row; a value that is None, like one that is left out, is an empty field."""
        self._writer.writerow(row)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def epoch_row(run: TrainingRun, result: EpochResult) -> dict[str, object]:
    """Return an epoch's row for ``BATCH_COLUMNS``."""
    estimates = result.estimates
    return {
        "Epoch": result.epoch,
        "Update Target Network": result.updates // run.preset.agent.target_copy_updates,
        "Training Iter": result.updates,
        "In Heatup": 0,
        "ER #Transitions": run.data.training_rows,
        "ER #Episodes": run.data.training_episodes,
        "Epsilon": 0.0,
        "Inverse Propensity Score": estimates.one_step_ips,
        "Direct Method Reward": estimates.one_step_dm,
        "Doubly Robust": estimates.one_step_dr,
        WIS: estimates.wis,
        SEQUENTIAL_DR: estimates.sequential_dr,
        **_statistics("Loss", result.losses),
        **_statistics("Learning Rate", result.learning_rates),
        **_statistics("Grads (unclipped)", result.gradient_norms),
        **_statistics("Q", result.batch_q),
        EFFECTIVE_SAMPLE_SIZE: estimates.weights.effective_sample_size,
        "Mean Importance Weight": estimates.weights.mean_weight,
        "Largest Weight Share": estimates.weights.largest_share,
        LOGGED_RETURN: run.logged_return,
        "Evaluated Policy": run.scored_policy,
        **_trajectory(estimates.trajectory),
        **_refitted(estimates.fqe),
    }


def _trajectory(evaluation: PolicyEvaluation | None) -> dict[str, object]:
    row: dict[str, object] = {}
    for estimate in evaluation.values.values() if evaluation else ():
        column = TRAJECTORY[estimate.name]
        row[column] = estimate.value
        if estimate.interval:
            row |= {column + LOWER: estimate.interval.lower, column + UPPER: estimate.interval.upper}
            row["Interval Level"] = estimate.interval.level
    return row


def _refitted(estimate: EstimatedValue | None) -> dict[str, object]:
    if estimate is None:
        return {}
    row: dict[str, object] = {FQE: estimate.value}
    if estimate.interval:
        row |= {FQE + LOWER: estimate.interval.lower, FQE + UPPER: estimate.interval.upper}
        row["Interval Level"] = estimate.interval.level
    return row


def _statistics(signal: str, values: NDArray[np.float64]) -> dict[str, object]:
    numbers = (values.mean(), values.std(), values.max(), values.min())
    return {f"{signal}/{name}": float(number) for name, number in zip(_STATISTICS, numbers, strict=True)}
