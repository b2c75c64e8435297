"""What the presets learn on fresh seeds, each the whole story: a log, a policy from that log alone, and its episodes.

    python benchmarks/learning_seeds.py cartpole --seeds 10 --first-seed 20000
    python benchmarks/learning_seeds.py acrobot --seeds 5
    python benchmarks/learning_seeds.py cartpole --scale 0.01,1,100 --shift 0,-3

Every run is printed, and none is left out. A seed decides everything in its run. For Acrobot and LunarLander the log is
that of a policy that learned online and was stopped early, as the presets have it; LunarLander needs the extra box2d.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
_ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(_ROOT / "entrypoints")]

import numpy as np  # noqa: E402

from batch_rl.acting.policies import epsilon_greedy_policy, greedy_policy, uniform_policy  # noqa: E402
from batch_rl.acting.rollout import collect_episodes, mean_interval, play_episodes  # noqa: E402
from batch_rl.data.episodes import Episodes, join_episodes  # noqa: E402
from batch_rl.learning.online import OnlineRun  # noqa: E402
from batch_rl.learning.training import TrainingRun  # noqa: E402
from batch_rl.presets.reading import load_preset  # noqa: E402
from batch_rl.presets.schema import CollectionPreset, EvaluationPreset, OnlinePreset, TrainingPreset  # noqa: E402

_PRESETS = _ROOT / "presets"
_CARTPOLE_EPISODES = 100  # of the learned policy


def _cartpole_log(seed: int) -> Episodes:
    preset = load_preset(_PRESETS / "preset-cartpole-random.yaml", CollectionPreset, {"seed": seed})
    played = collect_episodes(
        preset.environment.name,
        seed,
        uniform_policy(2),
        num_envs=preset.collection.num_envs,
        episodes_each=preset.collection.episodes_per_env,
        time_limit=False,
        step_limit=None,
    )
    return join_episodes(episode for episodes in played for episode in episodes)


def behavior_log(name: str) -> Callable[[int], Episodes]:
    """Return what logs a policy that learned online and was stopped early, by its seed."""

    def collect(seed: int) -> Episodes:
        run = OnlineRun(load_preset(_PRESETS / f"preset-{name}-behavior.yaml", OnlinePreset, {"seed": seed}))
        while not run.finished:
            run.run_episode()
            if run.evaluation_due:
                run.evaluate()
        preset = load_preset(_PRESETS / f"preset-{name}-log.yaml", CollectionPreset, {"seed": seed})
        played = collect_episodes(
            preset.environment.name,
            seed,
            epsilon_greedy_policy(run.policy().q_array, preset.collection.epsilon),
            num_envs=preset.collection.num_envs,
            episodes_each=preset.collection.episodes_per_env,
            time_limit=preset.collection.time_limit,
            step_limit=preset.environment.max_steps,
        )
        return join_episodes(episode for episodes in played for episode in episodes)

    return collect


@dataclasses.dataclass(frozen=True)
class _Task:
    preset: str
    environment: str
    log: Callable[[int], Episodes]


_TASKS = {
    "cartpole": _Task("preset-cartpole-ddqnbcq", "CartPole-v0", _cartpole_log),
    "acrobot": _Task("preset-acrobot", "Acrobot-v1", behavior_log("acrobot")),
    "lunarlander": _Task("preset-lunarlander", "LunarLander-v3", behavior_log("lunarlander")),
}


def _run(task: _Task, preset_name: str, seed: int, log: Episodes, overrides: dict[str, Any]) -> float:
    path = _PRESETS / f"{preset_name}.yaml"
    began = time.process_time()
    values = {"ope.estimators": [], **overrides, "seed": seed}
    run = TrainingRun(log, load_preset(path, TrainingPreset, values))
    run.fit()
    seconds = time.process_time() - began
    episodes = _CARTPOLE_EPISODES
    if task.preset != "preset-cartpole-ddqnbcq":
        episodes = load_preset(path, EvaluationPreset, {"seed": seed}).evaluation.episodes or episodes
    played = play_episodes(
        task.environment, seed + 1_000_000, greedy_policy(run.policy().q_array), episodes=episodes, step_limit=None
    )
    rewards = [episode.total_reward for episode in played]
    low, high = mean_interval(rewards, seed=seed)
    logged = log.returns(1.0)
    log_low, log_high = mean_interval(logged.tolist(), seed=seed)
    mean = float(np.mean(rewards))
    print(
        f"{preset_name} seed {seed}: log {logged.mean():.1f} ({log_low:.1f} to {log_high:.1f}), {len(log)} episodes; "
        f"policy {mean:.1f} ({low:.1f} to {high:.1f}), worst episode {min(rewards):.0f}; {seconds:.1f} s of CPU",
        flush=True,
    )
    return mean


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every seed, print each, then a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(_TASKS))
    parser.add_argument("--seeds", type=int, default=30, help="how many")
    parser.add_argument("--first-seed", type=int, default=20000, help="they count up from this one")
    parser.add_argument("--preset", help="of train.py; default: the task's own")
    parser.add_argument("--scale", type=_numbers, default=[1.0], help="factors of every reward, with commas")
    parser.add_argument("--shift", type=_numbers, default=[0.0], help="numbers added to every reward after that")
    parser.add_argument("-p", action="append", default=[], metavar="KEY=VALUE", help="a value of the preset")
    options = parser.parse_args(arguments)
    task = _TASKS[options.task]
    overrides = dict(text.split("=", 1) for text in options.p)
    returns: dict[tuple[float, float], list[float]] = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        log = task.log(seed)
        for scale in options.scale:
            for shift in options.shift:
                if (scale, shift) != (1.0, 0.0):
                    print(f"rewards times {scale:g} plus {shift:g}:", end=" ")
                changed = dataclasses.replace(log, rewards=log.rewards * scale + shift)
                mean = _run(task, options.preset or task.preset, seed, changed, overrides)
                returns.setdefault((scale, shift), []).append(mean)
    for (scale, shift), means in returns.items():
        print(
            f"rewards times {scale:g} plus {shift:g}: {len(means)} runs, mean {np.mean(means):.2f}, "
            f"lowest {min(means):.1f}, highest {max(means):.1f}"
        )


if __name__ == "__main__":
    main()
