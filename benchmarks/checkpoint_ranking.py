"""How well each estimate chooses among the checkpoints of a run: the default preset, fresh datasets.

Each dataset is 500 random episodes of CartPole, of which those that are held out, 75, judge every tenth epoch's policy.
The scored policy is played where the log comes from, which has no time limit, for its true discounted return; the
greedy one is played in CartPole-v0, where the most is 200, for its reward. Printed are, over the datasets, Spearman's
rank correlation of estimates and true values, and the regret: how much the best value is above that of the policy which
comes first by the estimate. Below that: how often the intervals of the last epoch hold its policy's true value.

    python benchmarks/checkpoint_ranking.py 9100 9130                          # the datasets of seeds 9100 to 9129
    python benchmarks/checkpoint_ranking.py 9100 9130 --record ranking.jsonl   # goes on where it was ended
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import interval_coverage
import numpy as np
from interval_coverage import LONGEST, ROOT

EVERY = 10
TRUE_EPISODES, GREEDY_EPISODES = 200, 100


def measure(seed: int) -> dict[str, Any]:
    """Return the estimates by estimator, and what the checkpoints earn, in their order."""
    from batch_rl import ope
    from batch_rl.acting.cartpole import STEP_LIMITS, play_cartpoles
    from batch_rl.acting.policies import greedy_policy, softmax_policy
    from batch_rl.data.episodes import join_episodes
    from batch_rl.learning.training import TrainingRun
    from batch_rl.presets.reading import load_preset
    from batch_rl.presets.schema import TrainingPreset

    preset = load_preset(ROOT / "presets/preset-cartpole-ddqnbcq.yaml", TrainingPreset, {"seed": seed})
    discount = preset.agent.discount
    run = TrainingRun(interval_coverage.random_cartpole(seed), preset)
    estimates: dict[str, list[float]] = {}
    values, rewards = [], []
    while run.epoch < run.epochs:
        result = run.run_epoch()
        assert result is not None
        if run.epoch % EVERY:
            continue
        q_array = run.policy().q_array
        policy = softmax_policy(q_array, run.temperature)
        refits = ope.refit_values(run.held_out, policy, discount=discount, seed=seed)
        assert result.estimates.trajectory is not None
        ends = ope.refitted_interval(refits.replicates, level=preset.ope.level, bounds=refits.bounds)
        answers = {ope.FQE: (float(refits.replicates.mean()), ends.lower, ends.upper)}
        for estimate in result.estimates.trajectory.values.values():
            interval = estimate.interval
            answers[estimate.name] = (estimate.value, *((interval.lower, interval.upper) if interval else (None, None)))
        answers["Coach's sequential DR"] = (result.estimates.sequential_dr, None, None)
        for name, (value, _, _) in answers.items():
            estimates.setdefault(name, []).append(value)
        played = play_cartpoles(TRUE_EPISODES, 99, policy, episodes_each=1, step_limit=LONGEST)
        values.append(float(join_episodes([turn[0] for turn in played]).returns(discount).mean()))
        limit = STEP_LIMITS["CartPole-v0"]
        greedy = play_cartpoles(GREEDY_EPISODES, 98, greedy_policy(q_array), episodes_each=1, step_limit=limit)
        rewards.append(float(np.mean([turn[0].total_reward for turn in greedy])))
    return {
        "environment": "cartpole", "seed": seed, "estimates": estimates, "values": values, "rewards": rewards,
        "truth": values[-1], "answers": answers,
    }  # fmt: skip


def table(lines: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table, a row for each estimator."""
    from batch_rl.ope.comparison import rank_correlation

    rows = [
        "| estimator | rank correlation, mean | lowest | regret, mean | largest | of the first three, mean | regret in "
        "CartPole-v0, mean | largest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in lines[0]["estimates"]:
        correlations, first, third, rewards = [], [], [], []
        for line in lines:
            estimates, values = line["estimates"][name], line["values"]
            correlations.append(rank_correlation(estimates, values))
            order = sorted(range(len(values)), key=lambda i: -estimates[i] if math.isfinite(estimates[i]) else math.inf)
            first.append(max(values) - values[order[0]])
            third.append(max(values) - max(values[i] for i in order[:3]))
            rewards.append(max(line["rewards"]) - line["rewards"][order[0]])
        cells = [
            name,
            f"{np.mean(correlations):.2f}",
            f"{min(correlations):.2f}",
            *(
                f"{number:.2f}"
                for number in (np.mean(first), max(first), np.mean(third), np.mean(rewards), max(rewards))
            ),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument(
        "--record", type=Path, help="append each run's numbers to this file, and leave out those it has"
    )
    options = parser.parse_args()
    record = interval_coverage.read_record(options.record)
    for seed in range(options.first, options.end):
        if ("cartpole", seed) in record:
            continue
        line = measure(seed)
        record["cartpole", seed] = line
        if options.record:
            with options.record.open("a") as file:
                file.write(json.dumps(line) + "\n")
        print(seed, [round(value, 1) for value in line["values"]], line["rewards"], flush=True)
    lines = [record["cartpole", seed] for seed in range(options.first, options.end)]
    print(*table(lines), "", *interval_coverage.table(lines), sep="\n")


if __name__ == "__main__":
    main()
