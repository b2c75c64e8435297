"""How often the stated intervals hold the true value: the default preset, datasets that nothing was tuned on.

Each dataset is 500 random episodes of CartPole. The truth is the mean discounted return of the scored policy in the
environment that logged them, which has no time limit.

    python benchmarks/interval_coverage.py 2000 2020     # the datasets of seeds 2000 to 2019
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "entrypoints"))

TRUE_EPISODES, LONGEST = 500, 1500  # 0.99 ** 1500 is 3e-7


def measure(seed: int, scratch: Path) -> tuple[float, dict[str, tuple[float, float, float]]]:
    """Return a dataset's truth, and value, lower and upper end by estimator."""
    from batch_rl.acting.cartpole import play_cartpoles
    from batch_rl.acting.policies import softmax_policy, uniform_policy
    from batch_rl.data.episodes import join_episodes
    from batch_rl.formats.coach_csv import write_csv
    from batch_rl.formats.loading import load_episodes
    from batch_rl.judging import judge
    from batch_rl.learning.checkpoint import CheckpointFolder
    from batch_rl.learning.training import TrainingRun
    from batch_rl.presets.reading import load_preset
    from batch_rl.presets.schema import TrainingPreset

    preset = load_preset(ROOT / "presets/preset-cartpole-ddqnbcq.yaml", TrainingPreset)
    logged = play_cartpoles(100, seed, uniform_policy(2), episodes_each=5, step_limit=None)
    path = scratch / f"{seed}.csv"
    write_csv(path, enumerate(join_episodes([episode for turn in logged for episode in turn])))
    run = TrainingRun(load_episodes(path)[1], preset)
    while run.epoch < run.epochs:
        result = run.run_epoch()
    assert result is not None
    assert result.estimates.trajectory is not None
    evaluations = {"": result.estimates.trajectory}
    folder = CheckpointFolder(scratch / str(seed), run, keep=1)
    folder.save(None, "")
    (evaluations["launcher ope: "],) = judge(path, [folder.folder]).evaluations.values()
    policy = softmax_policy(run.policy().q_array, preset.ope.temperature)
    played = play_cartpoles(TRUE_EPISODES, 99, policy, episodes_each=1, step_limit=LONGEST)
    truth = float(join_episodes([episode for (episode,) in played]).returns(preset.agent.discount).mean())
    found = {
        prefix + one.name: (one.value, one.interval.lower, one.interval.upper)
        if one.interval
        else (one.value, np.nan, np.nan)
        for prefix, evaluation in evaluations.items()
        for one in evaluation.values.values()
    }
    return truth, found


def main() -> None:
    first, end = int(sys.argv[1]), int(sys.argv[2])
    truths, found = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(first, end):
            truth, values = measure(seed, Path(scratch))
            truths.append(truth)
            found.append(values)
            print(seed, f"{truth:.1f}", {name: [round(v, 1) for v in one] for name, one in values.items()}, flush=True)
    true = np.array(truths)
    print("| estimator | mean error | root mean square error | intervals | hold the truth | mean width |")
    print("|---|---|---|---|---|---|")
    for name in found[0]:
        value, lower, upper = np.array([one[name] for one in found]).T
        stated = np.isfinite(lower)
        held = int(((lower <= true) & (true <= upper)).sum())
        width = f"{(upper - lower)[stated].mean():.0f}" if stated.any() else ""
        error = value - true
        errors = f"{error.mean():+.1f} | {np.sqrt(np.square(error).mean()):.1f}"
        print(f"| {name} | {errors} | {stated.sum()} of {len(true)} | {held} | {width} |")


if __name__ == "__main__":
    main()
