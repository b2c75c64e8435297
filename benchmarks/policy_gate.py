"""How often a gate errs: policies worse than the log that pass "lower > behavior", and clearly better ones that do not.

Every log of CartPole and of the chain in interval_coverage.py is fresh. One is judged against a worse policy, the next
one against a clearly better one, in turn. The policies are mixtures: all, a half, a quarter or a tenth of the time they
act by a candidate, and otherwise as the policy that logged does. The candidates of CartPole are the policies of a run
half way and at its end, and their opposites, with the two probabilities exchanged; those of the chain are 40 random
tables. Clearly better is by a quarter of the range of all these policies' values, at least; policies that are better by
less are left out.

    python benchmarks/policy_gate.py 5000 5400                              # 200 worse and 200 better ones in either
    python benchmarks/policy_gate.py 5000 5400 --record gate.jsonl          # goes on where it was ended
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import interval_coverage
import numpy as np
from interval_coverage import ROOT, TURN, World

CLEARLY = 0.25
SHARES = (0.1, 0.25, 0.5, 1.0)


def mixture(candidate: Callable[[Any], Any], behavior: Callable[[Any], Any], share: float) -> Callable[[Any], Any]:
    """Return the policy that acts by a candidate for a share of the time."""
    return lambda seen: share * candidate(seen) + (1 - share) * behavior(seen)


def chain() -> tuple[World, list[tuple[Callable[[Any], Any], float]], float]:
    """Return the chain, mixtures with known values, and the value of the policy that logs."""
    world = interval_coverage.chain()
    logging = world.behavior(np.eye(6))
    tables = np.random.default_rng(12).dirichlet(np.ones(2), size=(40, 6))
    policies = []
    for table in tables:
        for share in SHARES:
            mixed = share * table + (1 - share) * logging
            policy = interval_coverage.by_state(mixed)
            policies.append((policy, world.value(policy)))
    return world, policies, world.value(world.behavior)


def cartpole() -> tuple[World, list[tuple[Callable[[Any], Any], float]], float]:
    """Return random CartPole, mixtures with the values that play shows, and the value of the policy that logs."""
    from batch_rl.acting.policies import softmax_policy, uniform_policy
    from batch_rl.learning.training import TrainingRun
    from batch_rl.presets.reading import load_preset
    from batch_rl.presets.schema import TrainingPreset

    preset = load_preset(ROOT / "presets/preset-cartpole-ddqnbcq.yaml", TrainingPreset, {"ope.estimators": []})
    behavior, policies = uniform_policy(2), []
    run = TrainingRun(interval_coverage.random_cartpole(510), preset)
    while run.epoch < run.epochs:
        run.run_epoch()
        if run.epoch not in (run.epochs // 2, run.epochs):
            continue
        learned = softmax_policy(run.policy().q_array, run.temperature)
        for candidate in (learned, lambda seen, learned=learned: learned(seen)[:, ::-1]):
            for share in SHARES:
                policy = mixture(candidate, behavior, share)
                policies.append((policy, interval_coverage.cartpole_value(policy)))
    value = interval_coverage.cartpole_value
    return World(interval_coverage.random_cartpole, behavior, value, policies), policies, value(behavior)


WORLDS = {"chain": chain, "cartpole": cartpole}


def passes(world: World, policy: Callable[[Any], Any], seed: int) -> bool:
    """Return whether a policy passes on a fresh log: by ``judging``'s rule for FQE, at the level of 95 %."""
    from batch_rl import ope

    episodes = world.log(seed)
    refits = ope.refit_values(episodes, policy, discount=world.discount, seed=seed)
    logged = refits.logged
    if episodes.truncated.any():
        logged = ope.refit_logged_value(episodes, discount=world.discount, seed=seed).replicates
    gain = ope.refitted_interval(refits.replicates - logged, level=interval_coverage.LEVEL)
    return gain.lower > 0


class Match:
    """An environment's policies, and which of them a log meets.

    Args:
        policies: with their values.
        logged: value of the policy that logs.
    """

    def __init__(self, world: World, policies: list[tuple[Callable[[Any], Any], float]], logged: float) -> None:
        self._world, self._logged = world, logged
        clearly = logged + CLEARLY * float(np.ptp([value for _, value in policies]))
        self._kinds = {
            "worse": [pair for pair in policies if pair[1] < logged],
            "clearly better": [pair for pair in policies if pair[1] > clearly],
        }

    def judge(self, seed: int) -> dict[str, Any]:
        """Return what a log's gate says: even seeds meet worse policies, odd ones those that are clearly better."""
        kind = list(self._kinds)[seed % 2]
        policy, value = self._kinds[kind][seed // 2 % len(self._kinds[kind])]
        return {"kind": kind, "value": value, "logged": self._logged, "passes": passes(self._world, policy, seed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("--only", choices=WORLDS, action="append")
    parser.add_argument("--record", type=Path, help="append each log's answer to this file, and leave out those it has")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    record = interval_coverage.read_record(options.record)
    names, seeds = options.only or list(WORLDS), range(options.first, options.end)
    matches: dict[str, Match] = {}
    for start in seeds[::TURN]:
        for name in names:
            for seed in range(start, min(start + TURN, options.end)):
                if (name, seed) in record:
                    continue
                if name not in matches:
                    matches[name] = Match(*WORLDS[name]())
                record[name, seed] = {"environment": name, "seed": seed, **matches[name].judge(seed)}
                if options.record:
                    with options.record.open("a") as file:
                        file.write(json.dumps(record[name, seed]) + "\n")
    for name in names:
        lines = [record[name, seed] for seed in seeds]
        for kind in ("worse", "clearly better"):
            those = [line for line in lines if line["kind"] == kind]
            values = [line["value"] for line in those]
            print(
                f"{name}: {sum(line['passes'] for line in those)} of {len(those)} that are {kind} pass, of values from "
                f"{min(values):.2f} to {max(values):.2f} ({len(set(values))} policies); the log's is "
                f"{lines[0]['logged']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
