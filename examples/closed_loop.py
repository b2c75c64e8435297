"""The loop closed: a policy at work logs what it does, learns from that log, and replaces itself where a gate lets it.

    python examples/closed_loop.py           Docker if an engine answers, else processes
    LAUNCHER_RUNTIME=process, or docker      where the jobs and the endpoint run

A policy learned from 100 random episodes is worth little. It is deployed all the same, to an endpoint that draws its
actions by softened probabilities and captures every answer. An application plays CartPole by these answers, many
episodes at a time, and reports the rewards. What was captured is the next log: a new policy is trained on four fifths
of its episodes, and estimated on the fifth kept apart. Only if the lower end of that estimate's interval is above what
the policy at work is worth, by "launcher ope --gate", the endpoint is updated. With one seed there is one log and one
decision: the starts of the episodes and the draws of the actions are seeded, request by request.
"""

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
from launcher.deserializers import JSONDeserializer
from launcher.serializers import JSONSerializer

from launcher import DataCaptureConfig, Estimator, Predictor

CHECKOUT = Path(__file__).resolve().parents[1]
CLIENTS = 16  # episodes that the application plays at once
KEPT_APART = 5  # one episode of so many only judges
STEPS = 200  # after which an episode is cut
REFUSED = 3  # exit code of "launcher ope" where the gate is not passed
_PLAYING, _CHECKING = 1, 2  # purposes of a seed


@dataclass(frozen=True)
class Round:
    """A policy at work, and the one that is trained on its log.

    Args:
        episodes: that the application plays.
        temperature: of the new policy, softmax(Q / temperature); the lower, the less it explores.
    """

    episodes: int
    temperature: float
    epochs: int


@dataclass(frozen=True)
class Settings:
    """How much of everything.

    Args:
        first_temperature: of the first policy, which has much to explore.
        checked_episodes: that the endpoint's last policy is tried with.
    """

    first_episodes: int = 100
    first_epochs: int = 10
    first_temperature: float = 4.0
    rounds: Sequence[Round] = (Round(450, 0.5, 60),)
    checked_episodes: int = 100


@dataclass(frozen=True)
class Decision:
    """What a round came to.

    Attributes:
        log_sha256: of the log; the same seed gives the same one.
        requests: that the application sent, each of which is a row of the log.
        mean_reward: of the policy at work.
        passed: whether the endpoint was updated.
        why: in the gate's words, with the numbers that were compared.
    """

    log_sha256: str
    requests: int
    mean_reward: float
    passed: bool
    why: str


@dataclass
class Outcome:
    """What the loop came to.

    Attributes:
        final_reward: mean reward of the endpoint's last policy, when it takes its best action.
    """

    decisions: list[Decision] = field(default_factory=list)
    final_reward: float = 0.0


def main(folder: Path, settings: Settings, seed: int = 0) -> Outcome:
    """Go round the loop; the endpoint is deleted at the end."""
    outcome = Outcome()
    learned_from = [play_at_random(settings.first_episodes, seed)]
    estimator = train(learned_from, folder / "first.csv", settings.first_temperature, settings.first_epochs, seed)
    say(f"first policy, from {settings.first_episodes} random episodes: {estimator.latest_training_job.name}")
    predictor = estimator.deploy(
        1,
        "ml.m5.large",
        serializer=JSONSerializer(),
        deserializer=JSONDeserializer(),
        data_capture_config=DataCaptureConfig(
            enable_capture=True, sampling_percentage=100, destination_s3_uri=str(folder / "captured")
        ),
    )
    say(f"endpoint {predictor.endpoint_name} answers")
    try:
        for number, plan in enumerate(settings.rounds, start=1):
            requests, rewards = play_by_endpoint(predictor, plan.episodes, number, seed)
            log = captured_log(predictor, folder / "captured.csv", number)
            learning, apart = keep_apart(log, folder / f"apart-{number}.csv")
            say(f"round {number}: {requests} requests in {len(rewards)} episodes, mean reward {np.mean(rewards):.1f}")
            learned_from.append(learning)
            estimator = train(learned_from, folder / f"learning-{number}.csv", plan.temperature, plan.epochs, seed)
            passed, why = ask_gate(apart, estimator.latest_training_job.outputs.data_path / "checkpoint", seed)
            digest = hashlib.sha256(log.to_csv(index=False).encode()).hexdigest()
            outcome.decisions.append(Decision(digest, requests, float(np.mean(rewards)), passed, why))
            say(f"round {number}: gate {'passed' if passed else 'not passed'}: {why}; log {digest[:12]}")
            if passed:
                predictor.update_endpoint(model_name=estimator.create_model().create())
                say(f"round {number}: endpoint updated to {estimator.latest_training_job.name}")
        outcome.final_reward = check(predictor, settings.checked_episodes, seed)
        say(f"the endpoint's policy, at its best action: mean reward {outcome.final_reward:.1f}")
    finally:
        predictor.delete_endpoint()
    return outcome


def train(logs: Sequence[pd.DataFrame], path: Path, temperature: float, epochs: int, seed: int) -> Estimator:
    """Train on some logs together; what is served is softmax(Q / temperature)."""
    pd.concat(logs).to_csv(path, index=False)
    estimator = Estimator(
        entry_point="train.py",
        source_dir=str(CHECKOUT / "entrypoints"),
        dependencies=[str(CHECKOUT / "presets")],
        base_job_name="loop",
        hyperparameters={
            "preset": "preset-cartpole-ddqnbcq",
            "seed": seed,
            "training.epochs": epochs,
            "data.train_fraction": 0.95,  # the gate has episodes of its own
            "ope.temperature": temperature,
            "ope.estimators": ["WIS"],
        },
    )
    estimator.fit({"train": str(path)}, logs="None")
    return estimator


def play_by_endpoint(predictor: Predictor, episodes: int, number: int, seed: int) -> tuple[int, list[float]]:
    """Be the application: play by what the endpoint answers, and report every reward.

    Returns:
        The number of requests, and the reward of each episode.
    """

    def play(episode: int) -> list[float]:
        environment = make_environment()
        rewards: list[float] = []
        observation, _ = environment.reset(seed=seed_of(seed, _PLAYING, number, episode))
        for step in itertools.count():
            request = f"{number}-{episode}-{step}"
            answer = predictor.predict(
                [observation.tolist()],
                inference_id=request,
                episode_id=f"{number}-{episode}",
                step=step,
                custom_attributes=f"seed={seed_of(seed, _PLAYING, number, episode, step)}",
            )
            observation, reward, terminated, truncated, _ = environment.step(answer["actions"][0])
            predictor.report_reward(request, float(reward), terminated=terminated, truncated=truncated)
            rewards.append(float(reward))
            if terminated or truncated:
                return rewards
        raise AssertionError

    with ThreadPoolExecutor(CLIENTS) as clients:
        played = list(clients.map(play, range(episodes)))
    return sum(map(len, played)), [sum(rewards) for rewards in played]


def captured_log(predictor: Predictor, path: Path, number: int) -> pd.DataFrame:
    """Return what the endpoint captured in a round, in the order of episodes and steps."""
    predictor.write_dataset(path)
    log = pd.read_csv(path, dtype={"episode_id": str})
    parts = log["episode_id"].str.split("-", expand=True).astype(int)
    log = log.assign(round=parts[0], number=parts[1])
    # In the order of time it would be another log with every run, since episodes are played at once.
    return log[log["round"] == number].sort_values(["number", "step"]).reset_index(drop=True)


def keep_apart(log: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, Path]:
    """Return the episodes to learn from, and a file of those that only judge."""
    judges = log["number"] % KEPT_APART == 0
    log[judges].to_csv(path, index=False)
    return log[~judges], path


def ask_gate(log: Path, checkpoint: Path, seed: int) -> tuple[bool, str]:
    """Return whether a policy is better than the one that made the log, and the numbers that say so."""
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "launcher", "ope", "--dataset", str(log), "--checkpoint", str(checkpoint)),
            *("--gate", "lower > behavior", "--estimators", "FQE", "--seed", str(seed), "--format", "json"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if answer.returncode not in (0, REFUSED):
        raise SystemExit(f"launcher ope ended with {answer.returncode}")
    gate = json.loads(answer.stdout)["gate"]
    return bool(gate["passed"]), str(gate["policies"][0]["why"])


def play_at_random(episodes: int, seed: int) -> pd.DataFrame:
    """Return the log of a random policy, in the columns that a captured one has."""
    generator = np.random.default_rng(seed_of(seed, _PLAYING))
    environment = make_environment()
    rows: list[dict[str, Any]] = []
    for episode in range(episodes):
        observation, _ = environment.reset(seed=seed_of(seed, _PLAYING, 0, episode))
        for step in itertools.count():
            row = {f"state_feature_{index}": value for index, value in enumerate(observation.tolist())}
            action = int(generator.integers(2))
            observation, reward, terminated, truncated, _ = environment.step(action)
            row |= {"episode_id": f"0-{episode}", "step": step, "action": action, "reward": reward}
            row |= {"all_action_probabilities": "[0.5, 0.5]"}
            rows.append(row | {"terminated": int(terminated), "truncated": int(truncated and not terminated)})
            if terminated or truncated:
                break
    return pd.DataFrame(rows)


def check(predictor: Predictor, episodes: int, seed: int) -> float:
    """Return the mean reward when the endpoint takes its best actions: one request for all episodes at each step."""
    environments = [make_environment() for _ in range(episodes)]
    observations = {
        index: environment.reset(seed=seed_of(seed, _CHECKING, index))[0]
        for index, environment in enumerate(environments)
    }
    total = 0.0
    while observations:
        batch = [observation.tolist() for observation in observations.values()]
        actions = predictor.predict(batch, custom_attributes="policy=greedy")["actions"]
        for index, action in zip(list(observations), actions, strict=True):
            observations[index], reward, terminated, truncated, _ = environments[index].step(action)
            total += float(reward)
            if terminated or truncated:
                del observations[index]
    return total / episodes


def make_environment() -> Any:
    return gymnasium.make("CartPole-v1", max_episode_steps=STEPS, disable_env_checker=True)


def seed_of(*numbers: int) -> int:
    """Return one seed for some numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"{time.monotonic() - _BEGAN:5.1f} s  {text}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", type=int, default=0, metavar="N", help="rounds more, of 60 episodes each")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="closed-loop-") as scratch:
        rounds = (*Settings.rounds, *[Round(60, 0.5, 30)] * arguments.again)
        main(Path(scratch), Settings(rounds=rounds), arguments.seed)
