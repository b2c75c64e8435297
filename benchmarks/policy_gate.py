"""How often a gate errs: policies worse than the log that pass "lower > behavior", and better ones that do not.

Every log of the chain in interval_coverage.py is fresh, and meets one of 40 random policies with known values.
Clearly better is by a quarter of the range of these values, at least.

    python benchmarks/policy_gate.py 5000 5200
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import interval_coverage
import numpy as np
import torch

CLEARLY = 0.25


def chain_policies(world: interval_coverage.World) -> list[tuple[Callable[[Any], Any], float]]:
    """Return policies of every value that the chain has, by random tables, and their values."""
    assert world.value is not None
    tables = np.random.default_rng(12).dirichlet(np.ones(2), size=(40, 6))
    return [
        (lambda seen, table=table: np.asarray(seen, dtype=np.float64) @ table, world.value(table)) for table in tables
    ]


def passes(world: interval_coverage.World, policy: Callable[[Any], Any], seed: int) -> bool:
    """Return whether a policy passes on a fresh log."""
    from batch_rl import ope

    episodes = world.log(seed)
    refits = ope.refit_values(episodes, policy, discount=world.discount, seed=seed)
    logged = refits.logged
    if episodes.truncated.any():
        logged = ope.refit_logged_value(episodes, discount=world.discount, seed=seed).replicates
    gain = ope.refitted_interval(refits.replicates - logged, level=interval_coverage.LEVEL)
    return gain.lower > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = interval_coverage.chain()
    policies = chain_policies(world)
    logged = float(np.mean([world.log(seed).returns(world.discount).mean() for seed in range(100)]))
    clearly = CLEARLY * float(np.ptp([value for _, value in policies]))
    counts = {"worse": [0, 0], "better": [0, 0], "clearly better": [0, 0]}
    for seed in range(options.first, options.end):
        policy, value = policies[seed % len(policies)]
        passed = passes(world, policy, seed)
        kinds = ["worse"] if value <= logged else ["better"]
        if value > logged + clearly:
            kinds.append("clearly better")
        for kind in kinds:
            counts[kind][0] += passed
            counts[kind][1] += 1
        print(seed, f"{value:.2f} against {logged:.2f}", "passes" if passed else "does not pass", flush=True)
    for kind, (passed_count, count) in counts.items():
        print(f"{kind}: {passed_count} of {count} pass")


if __name__ == "__main__":
    main()
