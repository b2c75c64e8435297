"""How well each estimate ranks the checkpoints of a run: the default preset, datasets that nothing was tuned on.

Each dataset is 500 random episodes of CartPole; every fifth epoch's policy is played in the environment that logged
them, which has no time limit. Printed are, as means over the datasets, Spearman's rank correlation of estimates and
true values, and the regret: how much the best true value is above the best among the first k by the estimate.

    python benchmarks/checkpoint_ranking.py 9100 9108     # the datasets of seeds 9100 to 9107
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "entrypoints"))

EVERY = 5
TRUE_EPISODES, LONGEST = 200, 1500  # 0.99 ** 1500 is 3e-7


def measure(seed: int, scratch: Path) -> tuple[dict[str, list[float]], list[float]]:
    """Return the estimates by estimator, and the true values, of the checkpoints in their order."""
    from batch_rl.acting.cartpole import play_cartpoles
    from batch_rl.acting.policies import softmax_policy, uniform_policy
    from batch_rl.data.episodes import join_episodes
    from batch_rl.formats.coach_csv import write_csv
    from batch_rl.formats.loading import load_episodes
    from batch_rl.learning.training import TrainingRun
    from batch_rl.presets.reading import load_preset
    from batch_rl.presets.schema import TrainingPreset

    preset = load_preset(ROOT / "presets/preset-cartpole-ddqnbcq.yaml", TrainingPreset)
    logged = play_cartpoles(100, seed, uniform_policy(2), episodes_each=5, step_limit=None)
    path = scratch / f"{seed}.csv"
    write_csv(path, enumerate(join_episodes([episode for turn in logged for episode in turn])))
    run = TrainingRun(load_episodes(path)[1], preset)
    estimates: dict[str, list[float]] = {}
    truths = []
    while run.epoch < run.epochs:
        result = run.run_epoch()
        assert result is not None
        if run.epoch % EVERY:
            continue
        assert result.estimates.trajectory is not None
        values = {estimate.name: estimate.value for estimate in result.estimates.trajectory.values.values()}
        for name, value in {**values, "Coach's sequential DR": result.estimates.sequential_dr}.items():
            estimates.setdefault(name, []).append(value)
        policy = softmax_policy(run.policy().q_array, preset.ope.temperature)
        played = play_cartpoles(TRUE_EPISODES, 99, policy, episodes_each=1, step_limit=LONGEST)
        truths.append(float(join_episodes([episodes for (episodes,) in played]).returns(preset.agent.discount).mean()))
    return estimates, truths


def main() -> None:
    from batch_rl.ope.comparison import rank_correlation

    measured = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(int(sys.argv[1]), int(sys.argv[2])):
            measured.append(measure(seed, Path(scratch)))
            print(seed, [round(truth, 1) for truth in measured[-1][1]], flush=True)
    print("| estimator | rank correlation | lowest | regret@1 | regret@3 |")
    print("|---|---|---|---|---|")
    for name in measured[0][0]:
        correlations, first, third = [], [], []
        for estimates, truths in measured:
            values = estimates[name]
            correlations.append(rank_correlation(values, truths))
            order = sorted(range(len(values)), key=lambda i: -values[i] if math.isfinite(values[i]) else math.inf)
            first.append(max(truths) - truths[order[0]])
            third.append(max(truths) - max(truths[i] for i in order[:3]))
        means = [sum(numbers) / len(numbers) for numbers in (correlations, first, third)]
        print(f"| {name} | {means[0]:.2f} | {min(correlations):.2f} | {means[1]:.1f} | {means[2]:.1f} |")


if __name__ == "__main__":
    main()
