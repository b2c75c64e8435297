"""How well each estimate chooses among presets: candidates of clearly different quality, on fresh logs of CartPole.

Every candidate learns from the first 200 episodes of a random log, by the same seed, so that all hold out the same 30
of them. Those judge the candidates' last policies as ``launcher select`` does, by FQE, and by the other estimators
with FQE's values. Printed are, over the logs, the regret: how much the best candidate is worth above the one that
comes first by the estimate, in discounted reward without a time limit; how often the best one came first; and
Spearman's rank correlation. "at random" is the mean of all candidates.

    python benchmarks/preset_ranking.py 43000 43010                            # the logs of seeds 43000 to 43009
    python benchmarks/preset_ranking.py 43000 43010 --record presets.jsonl     # goes on where it was ended
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import checkpoint_ranking
import interval_coverage
import numpy as np
from interval_coverage import ROOT

EPISODES = 200
DEFAULT = "preset-cartpole-ddqnbcq"
PLAIN = checkpoint_ranking.SETTINGS["cartpole, plain"]
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "default": (DEFAULT, {}),
    "one step": ("preset-cartpole-one-step", {}),
    "imitation of the best tenth": ("preset-cartpole-bc", {}),
    "step size of 1e-5": (DEFAULT, {"agent.learning_rate": 1e-5}),
    "plain double Q": (PLAIN.preset, dict(PLAIN.values)),
}


def measure(seed: int) -> dict[str, Any]:
    """Return the estimates by estimator, and what the candidates are worth, in their order."""
    from batch_rl import ope
    from batch_rl.acting.policies import softmax_policy
    from batch_rl.learning.training import TrainingRun
    from batch_rl.presets.reading import load_preset
    from batch_rl.presets.schema import TrainingPreset

    log = interval_coverage.random_cartpole(seed).select(np.arange(EPISODES))
    estimates: dict[str, list[float]] = {}
    values = []
    for name, overrides in CANDIDATES.values():
        own = {**overrides, "seed": seed, "ope.estimators": []}
        preset = load_preset(ROOT / f"presets/{name}.yaml", TrainingPreset, own)
        run = TrainingRun(log, preset)
        run.fit()
        policy, discount = softmax_policy(run.policy().q_array, run.temperature), preset.agent.discount
        refits = ope.refit_values(run.held_out, policy, discount=discount, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluation = ope.evaluate(
                ope.LoggedRows.of(run.held_out), policy(run.held_out.observations), refits.q_hat, discount=discount,
                estimators=[ope.FQE, *(other for other in ope.ESTIMATORS if other != "MAGIC")], interval="none",
                values_after_truncation=refits.values_after, refits=refits,
            )  # fmt: skip
        for estimate in evaluation.values.values():
            estimates.setdefault(estimate.name, []).append(estimate.value)
        values.append(checkpoint_ranking.cartpole_value(policy))
    return {"environment": "cartpole", "seed": seed, "estimates": estimates, "values": values}


def table(lines: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table, a row for each estimator."""
    from batch_rl.ope.comparison import rank_correlation

    rows = [
        "| chosen by | regret, mean | largest | the best one came first | rank correlation, mean |",
        "|---|---|---|---|---|",
    ]
    for name in lines[0]["estimates"]:
        regrets, correlations = [], []
        for line in lines:
            values, estimates = line["values"], line["estimates"][name]
            regrets.append(max(values) - values[checkpoint_ranking.by_estimate(estimates)[0]])
            correlations.append(rank_correlation(np.nan_to_num(estimates, nan=-np.inf), values))
        hits = sum(regret == 0 for regret in regrets)
        rows.append(
            f"| {name} | {np.mean(regrets):.2f} | {max(regrets):.2f} | {hits} of {len(lines)} "
            f"| {np.nanmean(correlations):.2f} |"
        )
    chance = [max(line["values"]) - np.mean(line["values"]) for line in lines]
    return [*rows, f"| at random | {np.mean(chance):.2f} | | | |"]


def truths(lines: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table of what every candidate is worth, and FQE's estimate of it."""
    rows = ["| seed | " + " | ".join(CANDIDATES) + " | regret of FQE's choice |", "|" + "---|" * (len(CANDIDATES) + 2)]
    for line in lines:
        values, estimates = line["values"], line["estimates"]["FQE"]
        cells = [f"{value:.1f} ({estimate:.1f})" for value, estimate in zip(values, estimates, strict=True)]
        regret = max(values) - values[checkpoint_ranking.by_estimate(estimates)[0]]
        rows.append(f"| {line['seed']} | " + " | ".join(cells) + f" | {regret:.2f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument(
        "--record", type=Path, help="append each log's numbers to this file, and leave out those it has"
    )
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    record = interval_coverage.read_record(options.record)
    for seed in range(options.first, options.end):
        if ("cartpole", seed) in record:
            continue
        record["cartpole", seed] = line = measure(seed)
        if options.record:
            with options.record.open("a") as file:
                file.write(json.dumps(line) + "\n")
        print(seed, [round(value, 1) for value in line["values"]], flush=True)
    lines = [record["cartpole", seed] for seed in range(options.first, options.end)]
    print("", *truths(lines), "", *table(lines), sep="\n")


if __name__ == "__main__":
    main()
