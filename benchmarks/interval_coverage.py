"""How often the stated intervals hold the true value, over fresh logs in four environments, by estimator.

CartPole: 500 random episodes; eight policies of the default preset, of four runs half way and at their end. Acrobot:
200 episodes of a poor controller, cut at 500 steps; three better ones. Bandit: 500 rounds with three actions; three
policies. Chain: 300 episodes of a Markov decision process with six states, whose values are solved for; three policies.
The logs meet the policies in turn. The truth comes from playing without any limit (CartPole, Acrobot), from a million
rounds (bandit) or from a linear system (chain).

    python benchmarks/interval_coverage.py 2000 2060                       # the logs of seeds 2000 to 2059, all four
    python benchmarks/interval_coverage.py 2000 2060 --only chain --record coverage.jsonl

Each log that is measured becomes a line of the record at once. The same command goes on where it was ended, and prints
the tables of these seeds, from the record as well.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "entrypoints"))

LEVEL = 0.95
LONGEST = 1500  # 0.99 ** 1500 is 3e-7
TURN = 10  # logs of one environment before the next one's
EARLIER_WDR = "WDR, q_hat of either half"  # as it was before networks were refitted: what widths are compared with


@dataclass(frozen=True)
class World:
    """Where logs come from, and policies whose value there is known.

    Args:
        log: seed -> episodes.
        behavior: probabilities by the policy that logs, for observations.
        value: of any such policy, its mean discounted return without any limit.
        policies: pairs of a policy and its value, which are judged.
    """

    log: Callable[[int], Any]
    behavior: Callable[[Any], Any]
    value: Callable[[Callable[[Any], Any]], float]
    policies: list[tuple[Callable[[Any], Any], float]]
    discount: float = 0.99


def random_cartpole(seed: int) -> Any:
    """Return 500 random episodes."""
    from batch_rl.acting.cartpole import play_cartpoles
    from batch_rl.acting.policies import uniform_policy
    from batch_rl.data.episodes import join_episodes

    turns = play_cartpoles(100, seed, uniform_policy(2), episodes_each=5, step_limit=None)
    return join_episodes([episode for turn in turns for episode in turn])


def cartpole_value(policy: Callable[[Any], Any]) -> float:
    """Return a policy's mean discounted return in 1000 episodes."""
    from batch_rl.acting.cartpole import play_cartpoles
    from batch_rl.data.episodes import join_episodes

    played = play_cartpoles(1000, 99, policy, episodes_each=1, step_limit=LONGEST)
    return float(join_episodes([turn[0] for turn in played]).returns(0.99).mean())


def cartpole() -> World:
    """Random episodes; policies that the default preset learned from logs of their own, half way and at the end."""
    from batch_rl.acting.policies import softmax_policy, uniform_policy
    from batch_rl.learning.training import TrainingRun
    from batch_rl.presets.reading import load_preset
    from batch_rl.presets.schema import TrainingPreset

    values: dict[str, Any] = {"ope.estimators": []}
    preset = load_preset(ROOT / "presets/preset-cartpole-ddqnbcq.yaml", TrainingPreset, values)
    policies = []
    for seed in range(500, 504):
        run = TrainingRun(random_cartpole(seed), preset)
        while run.epoch < run.epochs:
            run.run_epoch()
            if run.epoch in (run.epochs // 2, run.epochs):
                policy = softmax_policy(run.policy().q_array, run.temperature)
                policies.append((policy, cartpole_value(policy)))
    return World(random_cartpole, uniform_policy(2), cartpole_value, policies)


def acrobot() -> World:
    """Episodes of a controller that follows the joint's speed half of the time; it does so more often."""
    policies = [(following(share), acrobot_value(following(share))) for share in (0.7, 0.85, 0.95)]
    return World(acrobot_log, following(0.5), acrobot_value, policies)


def following(share: float) -> Callable[[Any], Any]:
    """Return the policy that pushes Acrobot's joint the way it moves, for that share of the time."""

    def probabilities(observations: Any) -> Any:
        best = np.where(observations[:, 5] > 0, 2, 0)
        mixed: Any = np.full((len(best), 3), (1 - share) / 3)
        mixed[np.arange(len(best)), best] += share
        return mixed

    return probabilities


def acrobot_log(seed: int) -> Any:
    """Return 200 episodes of a poor controller, cut at 500 steps."""
    return play_acrobot(following(0.5), seed, 200, 500)


def acrobot_value(policy: Callable[[Any], Any]) -> float:
    """Return a policy's mean discounted return in 1000 episodes."""
    return float(play_acrobot(policy, 7, 1000, LONGEST).returns(0.99).mean())


def play_acrobot(policy: Callable[[Any], Any], seed: int, count: int, limit: int) -> Any:
    """Return episodes of Acrobot, cut at ``limit`` steps."""
    from batch_rl.data.episodes import Episode, join_episodes

    generator = np.random.default_rng([seed, 1])
    states = generator.uniform(-0.1, 0.1, size=(count, 4)).astype(np.float32).astype(np.float64)
    running, steps = np.arange(count), []
    ended = np.zeros(count, dtype=bool)
    while len(running) and len(steps) < limit:
        seen = observed(states[running])
        probabilities = policy(seen)
        draws = generator.random(len(running))
        actions = np.minimum((draws[:, None] >= probabilities.cumsum(axis=1)).sum(axis=1), 2)
        states[running] = step(states[running], actions - 1.0)
        over = -np.cos(states[running, 0]) - np.cos(states[running, 1] + states[running, 0]) > 1
        steps.append((running, seen, actions, probabilities, np.where(over, 0.0, -1.0)))
        ended[running[over]] = True
        running = running[~over]
    numbers = np.concatenate([some[0] for some in steps])
    order = np.argsort(numbers, kind="stable")
    arrays = [np.concatenate([some[column] for some in steps])[order] for column in range(1, 5)]
    ends = np.cumsum(np.bincount(numbers, minlength=count))
    last = observed(states)
    return join_episodes(
        Episode(
            *(array[end - length : end] for array in (arrays[0], arrays[1].astype(np.int64), *arrays[2:])),
            terminated=bool(ended[number]),
            truncated=not ended[number],
            final_observation=last[number],
        )
        for number, (end, length) in enumerate(zip(ends, np.diff(ends, prepend=0), strict=True))
    )


def observed(states: Any) -> Any:
    """Return what Acrobot shows of its states, (some, 4) -> (some, 6)."""
    first, second, first_speed, second_speed = states.T
    columns = [np.cos(first), np.sin(first), np.cos(second), np.sin(second), first_speed, second_speed]
    return np.stack(columns, axis=1).astype(np.float32)


def step(states: Any, torques: Any) -> Any:
    """Return Acrobot's next states, (some, 4): the equations and constants of Gymnasium's AcrobotEnv."""

    def slope(s: Any) -> Any:
        first, second, first_speed, second_speed = s.T
        d1 = 0.25 + (1 + 0.25 + np.cos(second)) + 2
        d2 = 0.25 + 0.5 * np.cos(second) + 1
        phi2 = 0.5 * 9.8 * np.cos(first + second - np.pi / 2)
        phi1 = (
            -0.5 * second_speed**2 * np.sin(second)
            - second_speed * first_speed * np.sin(second)
            + 1.5 * 9.8 * np.cos(first - np.pi / 2)
            + phi2
        )
        second_gain = (torques + d2 / d1 * phi1 - 0.5 * first_speed**2 * np.sin(second) - phi2) / (1.25 - d2**2 / d1)
        return np.stack([first_speed, second_speed, -(d2 * second_gain + phi1) / d1, second_gain], axis=1)

    k1 = slope(states)
    k2 = slope(states + 0.1 * k1)
    k3 = slope(states + 0.1 * k2)
    k4 = slope(states + 0.2 * k3)
    following = states + 0.2 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    following[:, :2] = (following[:, :2] + np.pi) % (2 * np.pi) - np.pi
    following[:, 2:] = np.clip(following[:, 2:], [-4 * np.pi, -9 * np.pi], [4 * np.pi, 9 * np.pi])
    return following


def _softmax(values: Any) -> Any:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def bandit(count: int = 1_000_000) -> World:
    """Rounds with three features and three actions; a reward of 0 or 1. Values are means over ``count`` rounds."""
    from batch_rl.data.episodes import Episodes

    generator = np.random.default_rng(42)
    pays, logs = generator.normal(size=(3, 3)), generator.normal(size=(3, 3)) * 0.5

    def rounds(seed: int, count: int, policy: Callable[[Any], Any]) -> Any:
        generator = np.random.default_rng([seed, 2])
        seen = generator.normal(size=(count, 3)).astype(np.float32)
        probabilities = policy(seen)
        actions = (generator.random(count)[:, None] >= probabilities.cumsum(axis=1)[:, :2]).sum(axis=1)
        chances = 1 / (1 + np.exp(-np.take_along_axis(seen @ pays, actions[:, None], axis=1)[:, 0]))
        rewards = (generator.random(count) < chances).astype(np.float64)
        return Episodes(seen, actions, rewards, probabilities, np.ones(count, dtype=np.int64))

    def logging(seen: Any) -> Any:
        return _softmax(np.asarray(seen, dtype=np.float64) @ logs)

    seen = np.random.default_rng(3).normal(size=(count, 3))

    def value(policy: Callable[[Any], Any]) -> float:
        return float((policy(seen.astype(np.float32)) / (1 + np.exp(-(seen @ pays)))).sum(axis=1).mean())

    policies = []
    for sharpness in (-1.0, 0.5, 2.0):

        def policy(seen: Any, sharpness: float = sharpness) -> Any:
            return _softmax(np.asarray(seen, dtype=np.float64) @ pays * sharpness)

        policies.append((policy, value(policy)))
    return World(lambda seed: rounds(seed, 500, logging), logging, value, policies)


def chain() -> World:
    """A Markov decision process with six states and two actions, which ends with a chance of a tenth per step."""
    from batch_rl.data.episodes import Episode, join_episodes

    generator, states, actions, going_on = np.random.default_rng(11), 6, 2, 0.9
    moves = generator.dirichlet(np.full(states, 0.5), size=(states, actions))
    pays, first = generator.normal(size=(states, actions)), generator.dirichlet(np.ones(states))
    logging = 0.2 + 0.6 * generator.dirichlet(np.ones(actions), size=states)
    eye = np.eye(states)

    def log(seed: int) -> Any:
        generator = np.random.default_rng([seed, 3])
        episodes = []
        for _ in range(300):
            state, seen, chosen, rewards = int(generator.choice(states, p=first)), [], [], []
            while not seen or generator.random() < going_on:
                if seen:
                    state = int(generator.choice(states, p=moves[state, chosen[-1]]))
                seen.append(state)
                chosen.append(int(generator.random() >= logging[state, 0]))
                rewards.append(pays[state, chosen[-1]] + generator.normal())
            episodes.append(
                Episode(
                    eye[seen].astype(np.float32), np.array(chosen), logging[seen], np.array(rewards),
                    terminated=True, truncated=False,
                )
            )  # fmt: skip
        return join_episodes(episodes)

    def value(policy: Callable[[Any], Any]) -> float:
        table = policy(eye.astype(np.float32))
        onward = 0.99 * going_on * np.einsum("sa,sat->st", table, moves)
        return float(first @ np.linalg.solve(eye - onward, (table * pays).sum(axis=1)))

    policies = []
    for seed in range(3):
        table = np.random.default_rng([seed, 4]).dirichlet(np.ones(actions), size=states)
        policies.append((by_state(table), value(by_state(table))))
    return World(log, by_state(logging), value, policies)


def by_state(table: Any) -> Callable[[Any], Any]:
    """Return the policy of a table of probabilities, for observations that have a 1 in the column of their state."""
    return lambda seen: np.asarray(seen, dtype=np.float64) @ table


WORLDS = {"cartpole": cartpole, "acrobot": acrobot, "bandit": bandit, "chain": chain}


def earlier_q_hat(episodes: Any, policy: Callable[[Any], Any], discount: float, seed: int) -> Any:
    """Return action values that either half of the episodes lends the other one, by one network each."""
    import torch

    from batch_rl import ope
    from batch_rl.data.episodes import split_numbers
    from batch_rl.networks import mean_and_scale, seeded_generator

    halves = split_numbers(len(episodes), 0.5, np.random.default_rng(seed))
    q_hat = np.empty(episodes.probabilities.shape)
    episode_of_row = np.repeat(np.arange(len(episodes)), episodes.lengths)
    for other, own in (halves, halves[::-1]):
        fitting = episodes.select(other)
        next_rows, led_to, learned = fitting.next_rows()
        observations = np.concatenate([fitting.observations, led_to])
        mean, scale = mean_and_scale(observations)
        probabilities = torch.from_numpy(policy(observations)).float()
        fitted = ope.FittedQ(
            ope.LoggedSteps(
                inputs=(torch.from_numpy(observations) - mean) / scale,
                actions=torch.from_numpy(fitting.actions),
                rewards=torch.from_numpy(fitting.rewards).float(),
                terminated=torch.from_numpy(fitting.ends & np.repeat(fitting.terminated, fitting.lengths)).float(),
                next_rows=torch.from_numpy(next_rows),
            ),
            torch.from_numpy(learned),
            n_actions=fitting.n_actions,
            discount=discount,
            hidden_sizes=(64, 64),
            generator=seeded_generator(seed, 4),
        )
        fitted.fit(lambda rows, probabilities=probabilities: probabilities[rows], 1000)
        rows = np.isin(episode_of_row, own)
        q_hat[rows] = fitted.values((torch.from_numpy(episodes.observations[rows]) - mean) / scale)
    return q_hat


def measure(world: World, seed: int, *, earlier: bool, magic: bool) -> dict[str, Any]:
    """Return a log's truth; value, lower and upper end by estimator; and how long FQE took, in seconds."""
    from batch_rl import ope

    episodes = world.log(seed)
    policy, truth = world.policies[seed % len(world.policies)]
    started = time.process_time()
    refits = ope.refit_values(episodes, policy, discount=world.discount, seed=seed)
    taken = time.process_time() - started
    log, target = ope.LoggedRows.of(episodes), policy(episodes.observations)
    every = [ope.FQE, *(name for name in ope.ESTIMATORS if magic or name != "MAGIC")]
    evaluations: dict[str, Any] = {"": (refits.q_hat, refits.values_after, refits, every)}
    if earlier:
        q_hat = earlier_q_hat(episodes, policy, world.discount, seed)
        evaluations[EARLIER_WDR] = (q_hat, None, None, ["WDR"])
    answers = {}
    for name, (q_hat, after, fits, estimators) in evaluations.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluation = ope.evaluate(
                log, target, q_hat, discount=world.discount, values_after_truncation=after, refits=fits,
                estimators=estimators, level=LEVEL, resamples=400, seed=seed,
            )  # fmt: skip
        for estimate in evaluation.values.values():
            interval = estimate.interval
            ends = (interval.lower, interval.upper) if interval else (None, None)
            answers[name or estimate.name] = (estimate.value if np.isfinite(estimate.value) else None, *ends)
    return {"truth": truth, "answers": answers, "seconds": taken, "replicates": refits.replicates.tolist()}


def table(lines: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table of what was measured, a row for each estimator."""
    rows = [
        "| estimator | logs | mean error | root mean square error | hold the truth | above / below it | mean width |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(name for line in lines for name in line["answers"]):
        measured = [(line["truth"], *line["answers"][name]) for line in lines if name in line["answers"]]
        truth, value, lower, upper = np.array(measured, dtype=np.float64).T
        stated, error = np.isfinite(lower), value - truth
        held = (lower <= truth) & (truth <= upper)
        cells = [
            name,
            str(len(measured)),
            f"{np.nanmean(error):+.2f}",
            f"{np.sqrt(np.nanmean(np.square(error))):.2f}",
            f"{held.sum()} of {stated.sum()}" if stated.any() else "states none",
            f"{(lower > truth).sum()} / {(upper < truth).sum()}" if stated.any() else "",
            f"{(upper - lower)[stated].mean():.2f}" if stated.any() else "",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def width_ratio(lines: list[dict[str, Any]]) -> str:
    """Say how wide FQE's intervals are beside those of WDR as it was before, over the logs where both state one."""
    widths = []
    for line in lines:
        both = [line["answers"][name][1:] for name in ("FQE", EARLIER_WDR) if name in line["answers"]]
        if len(both) == 2 and all(end is not None for ends in both for end in ends):
            widths.append([upper - lower for lower, upper in both])
    if not widths:
        return "no log has both an interval of FQE and one of the earlier WDR"
    ours, theirs = np.mean(widths, axis=0)
    return f"FQE's intervals are {ours / theirs:.2f} times as wide as the earlier WDR's ({len(widths)} logs have both)"


def read_record(path: Path | None) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what a record holds, by environment and seed."""
    if path is None or not path.exists():
        return {}
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    return {(line["environment"], line["seed"]): line for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("--only", choices=WORLDS, action="append")
    parser.add_argument("--earlier", type=int, default=50, help="logs that WDR is also measured on as it was before")
    parser.add_argument("--magic", action="store_true", help="measure MAGIC too, which takes longer than all others")
    parser.add_argument(
        "--record", type=Path, help="append each log's numbers to this file, and leave out those it has"
    )
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    names = options.only or list(WORLDS)
    worlds: dict[str, World] = {}
    record = read_record(options.record)
    for start in range(options.first, options.end, TURN):
        for name in names:
            for seed in range(start, min(start + TURN, options.end)):
                if (name, seed) in record:
                    continue
                if name not in worlds:
                    worlds[name] = WORLDS[name]()
                earlier = seed - options.first < options.earlier
                line = {
                    "environment": name,
                    "seed": seed,
                    **measure(worlds[name], seed, earlier=earlier, magic=options.magic),
                }
                record[name, seed] = line
                if options.record:
                    with options.record.open("a") as file:
                        file.write(json.dumps(line) + "\n")
    for name in names:
        lines = [record[name, seed] for seed in range(options.first, options.end)]
        seconds = np.median([line["seconds"] for line in lines])
        print(f"\n{name}: {len(lines)} logs; FQE takes {seconds:.2f} s of processor time; {width_ratio(lines)}\n")
        print(*table(lines), sep="\n", flush=True)


if __name__ == "__main__":
    main()
