"""All estimators of off-policy evaluation on a million transitions, against SCOPE-RL and against padded numpy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Aim, Row, interleave

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "entrypoints"))

EPISODES, MEAN_LENGTH, LONGEST, DISCOUNT = 45_300, 22.3, 155, 0.99
SCOPE_RL_PYTHON = "SCOPE_RL_PYTHON"

# Runs under the other interpreter: reads the padded arrays once, then answers every line with a time and its results.
_WORKER = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np
if not hasattr(np, "bool8"):
    np.bool8 = np.bool_  # an old gym, which SCOPE-RL imports, names it
from scope_rl.ope.discrete import (
    DirectMethod, DoublyRobust, PerDecisionImportanceSampling, SelfNormalizedDR, SelfNormalizedPDIS,
    SelfNormalizedTIS, TrajectoryWiseImportanceSampling,
)
data = dict(np.load(sys.argv[1]))
arguments = dict(
    step_per_trajectory=int(data["longest"]), action=data["action"], reward=data["reward"],
    pscore=data["propensity"], evaluation_policy_action_dist=data["target"],
    state_action_value_prediction=data["q_hat"], gamma=float(data["discount"]),
)
estimators = [
    kind() for kind in (
        TrajectoryWiseImportanceSampling, SelfNormalizedTIS, PerDecisionImportanceSampling, SelfNormalizedPDIS,
        DirectMethod, DoublyRobust, SelfNormalizedDR,
    )
]
print("ready", flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    values = [float(estimator.estimate_policy_value(**arguments)) for estimator in estimators]
    print(json.dumps([(time.perf_counter() - started) * 1000, values]), flush=True)
"""


def ope_rows(scratch: Path, runs: int) -> list[Row]:
    """Measure one policy on one log; the log is read, and padded, before the clock starts."""
    from batch_rl import ope
    from batch_rl.ope.rows import weigh

    rows, target, q_hat = _log()
    log = ope.read_rows(rows)
    padded = _padded(rows, target, q_hat)

    def ours() -> list[float]:
        steps, _ = weigh(log, target, discount=DISCOUNT, q_hat=q_hat)
        ope.describe_weights(steps)
        estimators = (ope.ips, ope.wis, ope.pdis, ope.weighted_pdis, ope.dm, ope.sequential_dr, ope.wdr)
        return [estimator(steps) for estimator in estimators]

    short = max(3, runs // 3)
    times = interleave({"ours": ours, "padded": lambda: _by_padding(**padded)}, short)
    _must_agree("padded numpy", _by_padding(**padded), ours())
    size = f"{len(target):,} transitions, {EPISODES:,} episodes, one thread"
    title = "off-policy evaluation, 7 estimators and ESS"
    answer = [
        Row("ope", f"{title}, padded numpy", floor=times["padded"], ours=times["ours"], note=size),
        _against_scope_rl(scratch, padded, ours, short, title, size),
    ]
    started = time.perf_counter()
    ope.evaluate(log, target, q_hat, discount=DISCOUNT)
    milliseconds = (time.perf_counter() - started) * 1000
    return [*answer, Row("ope", "... with MAGIC and 1000 bootstrap samples of all eight", ours=[milliseconds])]


def _against_scope_rl(
    scratch: Path, padded: dict[str, Any], ours: Callable[[], list[float]], runs: int, title: str, size: str
) -> Row:
    python = os.environ.get(SCOPE_RL_PYTHON)
    title = f"{title}, SCOPE-RL"
    if not python:
        return Row("ope", title, skipped=f"{SCOPE_RL_PYTHON} names no interpreter that has scope-rl")
    path = scratch / "padded.npz"
    np.savez(path, **padded)
    floor, own, values = [], [], []
    with subprocess.Popen(
        [python, "-c", _WORKER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        while (line := worker.stdout.readline()) != "ready\n":
            if not line:
                return Row("ope", title, skipped=f"{python} cannot run scope-rl")
        for number in range(runs + 1):
            worker.stdin.write("\n")
            worker.stdin.flush()
            milliseconds, values = json.loads(worker.stdout.readline())
            started = time.perf_counter()
            ours()
            if number:
                floor.append(milliseconds)
                own.append((time.perf_counter() - started) * 1000)
        worker.stdin.close()
    _must_agree("SCOPE-RL", values, ours(), tolerance=1e-6)  # its denominators hold 1e-10 more
    return Row("ope", title, floor=floor, ours=own, aims=(Aim("ratio", 1 / 50),), note=size)


def _must_agree(name: str, theirs: list[float], ours: list[float], tolerance: float = 1e-9) -> None:
    if not np.allclose(theirs, ours, rtol=tolerance, atol=tolerance):
        raise SystemExit(f"{name} answers {theirs}, ours {ours}: they measure different things")


def _log() -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return a log of a uniform policy, the evaluated policy's probabilities, and a model."""
    generator = np.random.default_rng(0)
    lengths = np.minimum(generator.geometric(1 / MEAN_LENGTH, size=EPISODES), LONGEST)
    lengths[0] = LONGEST
    count = int(lengths.sum())
    first = generator.uniform(0.3, 0.7, size=count)
    ends = np.zeros(count, dtype=bool)
    ends[np.cumsum(lengths) - 1] = True
    rows = {
        "episode": np.repeat(np.arange(EPISODES), lengths),
        "t": np.arange(count) - np.repeat(np.cumsum(lengths) - lengths, lengths),
        "action": generator.integers(0, 2, size=count),
        "reward": np.ones(count),
        "propensity": np.full(count, 0.5),
        "terminated": ends,
        "truncated": np.zeros(count, dtype=bool),
    }
    return rows, np.stack([first, 1 - first], axis=1), generator.normal(10, 1, size=(count, 2))


def _padded(rows: dict[str, Any], target: np.ndarray, q_hat: np.ndarray) -> dict[str, Any]:
    """Return tables in which every episode has the longest one's steps; added ones have ratio 1 and value 0."""
    places = rows["episode"] * LONGEST + rows["t"]
    size = EPISODES * LONGEST

    def spread(values: np.ndarray, empty: Any) -> np.ndarray:
        table = np.tile(np.asarray(empty, dtype=values.dtype), (size, 1) if values.ndim == 2 else size)
        table[places] = values
        return table

    return {
        "action": spread(rows["action"], 0),
        "reward": spread(rows["reward"], 0),
        "propensity": spread(rows["propensity"], 1),
        "target": spread(target, [1, 0]),
        "q_hat": spread(q_hat, [0, 0]),
        "longest": LONGEST,
        "discount": DISCOUNT,
    }


def _by_padding(
    *, action: Any, reward: Any, propensity: Any, target: Any, q_hat: Any, longest: int, discount: float
) -> list[float]:
    """Compute the seven estimators as one would at first: a table of episodes by steps, and numpy on all of it."""
    row = np.arange(len(action))
    ratios = (target[row, action] / propensity).reshape(-1, longest)
    weights = np.cumprod(ratios, axis=1)
    before = np.concatenate([np.ones((len(weights), 1)), weights[:, :-1]], axis=1)
    gamma = discount ** np.arange(longest)
    rewards = reward.reshape(-1, longest)
    q = q_hat[row, action].reshape(-1, longest)
    v = (target * q_hat).sum(axis=1).reshape(-1, longest)
    last, returns = weights[:, -1], (rewards * gamma).sum(axis=1)
    shares, shares_before = weights / weights.sum(axis=0), before / before.sum(axis=0)
    _ = last.sum() ** 2 / np.square(last).sum()  # the effective sample size
    return [
        float((last * returns).mean()),
        float((last * returns).sum() / last.sum()),
        float((gamma * weights * rewards).sum(axis=1).mean()),
        float((gamma * shares * rewards).sum()),
        float(v[:, 0].mean()),
        float((gamma * (weights * (rewards - q) + before * v)).sum(axis=1).mean()),
        float((gamma * (shares * (rewards - q) + shares_before * v)).sum()),
    ]
