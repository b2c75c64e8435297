"""How well each estimate chooses among the checkpoints of a run, over fresh logs in five settings.

Each log is one of interval_coverage.py's, but for Acrobot, where it is that of the presets. A preset learns from it,
and the episodes that are held out judge some of its epochs' policies. Printed are, over the logs, Spearman's rank
correlation of estimates and true values, and the regret: how much the best of these policies is worth above the one
that comes first by the estimate, in discounted reward without any limit, as the scored policies are played. "the last
one" takes the last epoch's without any estimate; a name with "Low" is the lower end of that estimate's interval. In
CartPole the greedy policies are played as well, in CartPole-v0, where the most is 200, for their reward. Below that:
how often the intervals of the last epoch hold its policy's true value. Of several settings a table of all follows,
with regrets as shares of what lies between the best and the worst checkpoint of a run.

    python benchmarks/checkpoint_ranking.py 9100 9130 --fqe                        # CartPole, seeds 9100 to 9129
    python benchmarks/checkpoint_ranking.py 9100 9130 --only chain --only bandit   # other settings, see SETTINGS
    python benchmarks/checkpoint_ranking.py 9100 9130 --record ranking.jsonl       # goes on where it was ended
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import interval_coverage
import numpy as np
from interval_coverage import LONGEST, ROOT, World

TRUE_EPISODES, GREEDY_EPISODES = 200, 100
LAST = "the last one"
ORIGINAL = "cartpole"  # the setting whose greedy policies are played


@dataclass(frozen=True)
class Setting:
    """What learns from which log.

    Args:
        world: the log's, in ``interval_coverage.WORLDS``.
        values: of the preset, by dotted key.
        every: so many epochs from checkpoint to checkpoint.
        episodes: the first so many of the log alone, which takes less time.
    """

    world: str
    preset: str
    every: int
    episodes: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


SETTINGS = {
    ORIGINAL: Setting("cartpole", "preset-cartpole-ddqnbcq", 10),
    # Double Q-learning with nothing that smooths values, targets copied every 20 updates, and fewer episodes.
    "cartpole, plain": Setting(
        "cartpole",
        "preset-cartpole-ddqn-offline",
        6,
        200,
        {
            "agent.target_temperature": 0,
            "agent.weight_decay": 0,
            "agent.learning_rate_schedule": "constant",
            "agent.target_copy_updates": 20,
            "agent.members": 1,
            "agent.snapshot_updates": 0,
        },
    ),
    "acrobot": Setting("acrobot", "preset-acrobot", 3),
    "bandit": Setting("bandit", "preset-email-campaign", 5, values={"training.epochs": 40}),
    "chain": Setting("chain", "preset-cartpole-ddqnbcq", 5),
}


def world_of(setting: Setting) -> World:
    """Return where a setting's logs come from; its policies are not asked for."""
    from batch_rl.acting.policies import uniform_policy

    # The policies of these two worlds take long to learn, and to play.
    if setting.world == "cartpole":
        return World(interval_coverage.random_cartpole, uniform_policy(2), cartpole_value, [])
    if setting.world == "acrobot":
        from learning_seeds import behavior_log

        return World(behavior_log("acrobot"), interval_coverage.following(0.5), acrobot_value, [])
    return interval_coverage.bandit(100_000) if setting.world == "bandit" else interval_coverage.chain()


def cartpole_value(policy: Any) -> float:
    """Return a policy's mean discounted return in 200 episodes."""
    from batch_rl.acting.cartpole import play_cartpoles
    from batch_rl.data.episodes import join_episodes

    played = play_cartpoles(TRUE_EPISODES, 99, policy, episodes_each=1, step_limit=LONGEST)
    return float(join_episodes([turn[0] for turn in played]).returns(0.99).mean())


def acrobot_value(policy: Any) -> float:
    """Return a policy's mean discounted return in 200 episodes."""
    return float(interval_coverage.play_acrobot(policy, 7, TRUE_EPISODES, LONGEST).returns(0.99).mean())


def greedy_reward(q_array: Any) -> float:
    """Return the mean reward in CartPole-v0 of the greedy policy."""
    from batch_rl.acting.cartpole import STEP_LIMITS, play_cartpoles
    from batch_rl.acting.policies import greedy_policy

    limit = STEP_LIMITS["CartPole-v0"]
    played = play_cartpoles(GREEDY_EPISODES, 98, greedy_policy(q_array), episodes_each=1, step_limit=limit)
    return float(np.mean([turn[0].total_reward for turn in played]))


def fqe(episodes: Any, policy: Any, *, discount: float, seed: int) -> tuple[float, float, float]:
    """Return FQE's estimate and its interval's ends, as ``launcher ope`` and ``launcher select`` make them."""
    from batch_rl import ope

    refits = ope.refit_values(episodes, policy, discount=discount, seed=seed)
    ends = ope.refitted_interval(refits.replicates, level=interval_coverage.LEVEL, bounds=refits.bounds)
    return float(refits.replicates.mean()), ends.lower, ends.upper


def measure(name: str, world: World, seed: int, *, with_fqe: bool) -> dict[str, Any]:
    """Return the estimates by estimator, and what the checkpoints earn, in their order."""
    from batch_rl import ope
    from batch_rl.acting.policies import softmax_policy
    from batch_rl.learning.training import TrainingRun
    from batch_rl.presets.reading import load_preset
    from batch_rl.presets.schema import TrainingPreset

    setting = SETTINGS[name]
    values = {**setting.values, "seed": seed}
    preset = load_preset(ROOT / f"presets/{setting.preset}.yaml", TrainingPreset, values)
    log = world.log(seed)
    run = TrainingRun(log if setting.episodes is None else log.select(np.arange(setting.episodes)), preset)
    estimates: dict[str, list[float]] = {}
    truths, rewards = [], []
    while run.epoch < run.epochs:
        result = run.run_epoch()
        assert result is not None
        if run.epoch % setting.every:
            continue
        q_array = run.policy().q_array
        policy = softmax_policy(q_array, run.temperature)
        answers: dict[str, tuple[float, float | None, float | None]] = {}
        if with_fqe:
            answers[ope.FQE] = fqe(run.held_out, policy, discount=world.discount, seed=seed)
        assert result.estimates.trajectory is not None
        for estimate in result.estimates.trajectory.values.values():
            interval = estimate.interval
            ends = (interval.lower, interval.upper) if interval else (None, None)
            answers[estimate.name] = (estimate.value, *ends)
        answers["Coach's sequential DR"] = (result.estimates.sequential_dr, None, None)
        for estimator, (value, lower, _) in answers.items():
            estimates.setdefault(estimator, []).append(value)
            if estimator in (ope.FQE, "WIS", "weighted PDIS", "WDR"):
                estimates.setdefault(f"{estimator} Low", []).append(math.nan if lower is None else lower)
        truths.append(world.value(policy))
        if name == ORIGINAL:
            rewards.append(greedy_reward(q_array))
    return {
        "environment": name, "seed": seed, "estimates": estimates, "values": truths, "rewards": rewards,
        "truth": truths[-1], "answers": answers,
    }  # fmt: skip


def by_estimate(estimates: list[float]) -> list[int]:
    """Return the checkpoints' places, the highest estimate first; one that is not finite comes last."""
    return sorted(range(len(estimates)), key=lambda i: -estimates[i] if math.isfinite(estimates[i]) else math.inf)


def table(lines: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table, a row for each estimator."""
    from batch_rl.ope.comparison import rank_correlation

    greedy = all(line["rewards"] for line in lines)
    heads = ["estimator", "rank correlation, mean", "lowest", "regret, mean", "largest", "of the first three, mean"]
    heads += ["regret in CartPole-v0, mean", "largest"] if greedy else []
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in [LAST, *lines[0]["estimates"]]:
        correlations, first, third, rewards = [], [], [], []
        for line in lines:
            values = line["values"]
            estimates = line["estimates"].get(name, list(range(len(values))))
            # NaN where all estimates are the same, or none is defined.
            correlation = rank_correlation(np.nan_to_num(estimates, nan=-np.inf), values)
            correlations += [correlation] if math.isfinite(correlation) else []
            order = by_estimate(estimates)
            first.append(max(values) - values[order[0]])
            third.append(max(values) - max(values[i] for i in order[:3]))
            if greedy:
                rewards.append(max(line["rewards"]) - line["rewards"][order[0]])
        of_ranks = [np.mean(correlations), min(correlations)] if correlations else [math.nan, math.nan]
        numbers = [*of_ranks, np.mean(first), max(first), np.mean(third)]
        numbers += [np.mean(rewards), max(rewards)] if greedy else []
        digits = 2 if max(abs(value) for line in lines for value in line["values"]) > 2 else 4
        rows.append("| " + " | ".join([name, *(f"{number:.{digits}f}" for number in numbers)]) + " |")
    return rows


def shares(lines_of: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Return a Markdown table of regrets as shares of what lies between a run's best and its worst checkpoint."""
    heads = [f"{name}, {len(lines)} logs" for name, lines in lines_of.items()]
    rows = ["| estimator | " + " | ".join(heads) + " | mean |", "|" + "---|" * (len(heads) + 2)]
    names = [name for name in next(iter(lines_of.values()))[0]["estimates"] if not name.startswith("FQE")]
    for name in [LAST, *names]:
        means = []
        for lines in lines_of.values():
            of_runs = []
            for line in lines:
                values = line["values"]
                first = by_estimate(line["estimates"].get(name, list(range(len(values)))))[0]
                of_runs.append((max(values) - values[first]) / (max(values) - min(values)))
            means.append(float(np.mean(of_runs)))
        rows.append("| " + " | ".join([name, *(f"{mean:.0%}" for mean in [*means, float(np.mean(means))])]) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("--only", choices=SETTINGS, action="append", help=f"default: {ORIGINAL}")
    parser.add_argument("--fqe", action="store_true", help="FQE too, which takes 1.5 s a checkpoint")
    parser.add_argument(
        "--record", type=Path, help="append each run's numbers to this file, and leave out those it has"
    )
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    record = interval_coverage.read_record(options.record)
    lines_of = {}
    for name in options.only or [ORIGINAL]:
        world = world_of(SETTINGS[name])
        for seed in range(options.first, options.end):
            if (name, seed) in record:
                continue
            record[name, seed] = line = measure(name, world, seed, with_fqe=options.fqe)
            if options.record:
                with options.record.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            print(name, seed, [round(value, 3) for value in line["values"]], line["rewards"], flush=True)
        lines = [record[name, seed] for seed in range(options.first, options.end)]
        print("", f"{name}: {len(lines)} logs", "", *table(lines), "", sep="\n")
        print(*interval_coverage.table(lines), sep="\n", flush=True)
        lines_of[name] = lines
    if len(lines_of) > 1:
        print("", "Regret as a share of what lies between the best and the worst:", "", *shares(lines_of), sep="\n")


if __name__ == "__main__":
    main()
