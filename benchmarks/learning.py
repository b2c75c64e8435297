"""Learning from logged episodes, against d3rlpy's DiscreteBCQ: the same data, process and thread; processor time."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import Aim, Row

_ROOT = Path(__file__).resolve().parents[1]
_PRESET = _ROOT / "presets" / "preset-cartpole-ddqnbcq.yaml"
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_UPDATES = 70  # per measurement of speed
_D3RLPY_UPDATES = 4000  # of the whole training: with its step size falling along a cosine it then holds its policy
_DATASETS = 3
_EPISODES = 100
# d3rlpy asks for an old gymnasium by its exact version, so it can be no extra of the project.
_MISSING = (
    "d3rlpy is not installed: pip install --no-deps d3rlpy gym gym-notices && "
    "pip install h5py structlog dataclasses-json colorama tqdm scikit-learn"
)


def learning_rows(runs: int) -> list[Row]:
    """Measure in a process of its own, whose libraries are held to one thread before they load."""
    if importlib.util.find_spec("d3rlpy") is None:
        return [Row("learning", "learning, against d3rlpy", skipped=_MISSING)]
    command = [sys.executable, str(Path(__file__).resolve()), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | _THREADS)
    if done.returncode:
        return [Row("learning", "learning, against d3rlpy", skipped=done.stderr.strip().splitlines()[-1])]
    values: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])

    def row(title: str, key: str, *aims: Aim, unit: str = "ms", note: str = "") -> Row:
        floor, ours = values[f"{key}, d3rlpy"], values[f"{key}, ours"]
        return Row("learning", title, unit=unit, floor=floor, ours=ours, aims=aims, note=note)

    return [
        row(
            "update of a 64x64 network, batch 128, against d3rlpy's DiscreteBCQ",
            "64x64",
            Aim("ratio", 0.1),
            unit="µs",
            note="Drawing the batch and the gradient step, one network; ours also keeps its statistics.",
        ),
        row("... of a 256x512 network", "256x512", Aim("ratio", 0.4), unit="µs"),
        row(
            "default preset's training, 500 episodes, against d3rlpy's, tuned",
            "training",
            Aim("ratio", 0.1),
            note=f"d3rlpy: one network of 64x64 for {_D3RLPY_UPDATES} updates, the preset's other values, the step "
            "size on a cosine. Neither evaluates meanwhile.",
        ),
        row("... with one network instead of the preset's ensemble", "one network", Aim("ratio", 0.1)),
        row(
            f"mean return of {_EPISODES} episodes of CartPole-v0, after these trainings",
            "return",
            unit="reward",
            note=f"{_DATASETS} datasets; docs/learning.md has the counts of 60.",
        ),
    ]


def _measure(runs: int) -> dict[str, list[float]]:
    import numpy as np
    import torch

    from batch_rl.acting.policies import greedy_policy, uniform_policy
    from batch_rl.acting.rollout import collect_episodes
    from batch_rl.data.episodes import Episodes, join_episodes
    from batch_rl.learning.training import TrainingRun
    from batch_rl.presets.reading import load_preset
    from batch_rl.presets.schema import TrainingPreset

    torch.set_num_threads(1)

    def logged(seed: int) -> Episodes:
        played = collect_episodes(
            "CartPole-v0", seed, uniform_policy(2), num_envs=100, episodes_each=5, time_limit=False
        )
        return join_episodes(episode for environment in played for episode in environment)

    def mean_return(q_values: Callable[[Any], Any]) -> float:
        played = collect_episodes(
            "CartPole-v0", 1, greedy_policy(q_values), num_envs=_EPISODES, episodes_each=1, time_limit=True
        )
        return float(np.mean([episode.total_reward for (episode,) in played]))

    def ours(data: Episodes, **overrides: Any) -> TrainingRun:
        return TrainingRun(data, load_preset(_PRESET, TrainingPreset, overrides))

    values: dict[str, list[float]] = {}

    def note(key: str, value: float) -> None:
        values.setdefault(key, []).append(value)

    first = logged(0)
    for sizes in ((64, 64), (256, 512)):
        key = "x".join(map(str, sizes))
        run = ours(first, **{"agent.hidden_sizes": list(sizes), "agent.members": 1, "training.epochs": 10 * runs})
        theirs, buffer = _d3rlpy(first, sizes)
        for number in range(max(3, runs // 3) + 1):
            started = time.process_time()
            for _ in range(_UPDATES):
                theirs.update(buffer.sample_transition_batch(128))
            middle = time.process_time()
            run.learner.run_epoch()
            ended = time.process_time()
            if number:
                note(f"{key}, d3rlpy", (middle - started) * 1e6 / _UPDATES)
                note(f"{key}, ours", (ended - middle) * 1e6 / run.learner.updates_per_epoch)
    for seed in range(_DATASETS):
        data = logged(seed)
        started = time.process_time()
        theirs, buffer = _d3rlpy(data, (64, 64))
        for _ in range(_D3RLPY_UPDATES):
            theirs.update(buffer.sample_transition_batch(128))
        note("training, d3rlpy", (time.process_time() - started) * 1000)
        note("return, d3rlpy", mean_return(lambda observations, agent=theirs: _d3rlpy_values(agent, observations)))
        for key, overrides in (("training", {}), ("one network", {"agent.members": 1})):
            started = time.process_time()
            run = ours(data, **overrides)
            run.fit()
            note(f"{key}, ours", (time.process_time() - started) * 1000)
            if not overrides:
                note("return, ours", mean_return(run.policy().q_array))
    values["one network, d3rlpy"] = values["training, d3rlpy"]
    return values


def _d3rlpy(data: Any, sizes: tuple[int, ...]) -> tuple[Any, Any]:
    """Return a DiscreteBCQ with the preset's values, and its buffer."""
    import d3rlpy
    import numpy as np

    d3rlpy.seed(0)
    buffer = d3rlpy.dataset.MDPDataset(
        data.observations, data.actions[:, None], data.rewards[:, None].astype(np.float32), data.ends.astype(np.float32)
    )
    scaler = d3rlpy.preprocessing.StandardObservationScaler(
        mean=data.observations.mean(axis=0), std=data.observations.std(axis=0)
    )
    optimizer = d3rlpy.optimizers.AdamFactory(
        lr_scheduler_factory=d3rlpy.optimizers.CosineAnnealingLRFactory(T_max=_D3RLPY_UPDATES)
    )
    agent = d3rlpy.algos.DiscreteBCQConfig(
        learning_rate=1e-3,
        optim_factory=optimizer,
        encoder_factory=d3rlpy.models.VectorEncoderFactory(list(sizes)),
        observation_scaler=scaler,
        batch_size=128,
        gamma=0.99,
        target_update_interval=200,
    ).create(device="cpu:0")
    agent.build_with_dataset(buffer)
    return agent, buffer


def _d3rlpy_values(agent: Any, observations: Any) -> Any:
    """Return a value per action that is highest for the action that d3rlpy's policy takes."""
    import numpy as np

    return np.eye(2)[agent.predict(observations)]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    sys.path.insert(0, str(_ROOT / "entrypoints"))
    print(json.dumps(_measure(int(sys.argv[1]))))
