"""Three rounds of collect, train, act: a policy learns from the log of the one before it, and its reward rises.

    python examples/three_rounds.py                     acts by an endpoint: whole episodes, a request a step
    python examples/three_rounds.py --by transform      acts by batch transform: 30 steps, a transform job a step
    LAUNCHER_MODE=s3                                    where results are: in folders, or in the built-in S3
    LAUNCHER_RUNTIME=process, or docker                 where the jobs run

A hundred environments are asked about at once: their states go out, action probabilities come back, and each takes one
step. That is the procedure that the batch RL notebook describes. By batch transform a container starts for every step,
so a whole episode of 200 steps takes 200 jobs. A transform is for many contexts that each want one decision, such as
the users of a campaign (email_campaign.py); where one decision follows another, an endpoint answers.

The reward of every round is drawn to three_rounds.png, or the file that --plot names.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from launcher.deserializers import JSONDeserializer
from launcher.serializers import JSONSerializer

import launcher
from launcher import Estimator

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.append(str(CHECKOUT / "entrypoints"))

if TYPE_CHECKING:
    from batch_rl.acting.environments import VectoredGymEnvironment

ENVIRONMENTS = 100
EPISODES_EACH = 5  # of the random policy
# Each round's policy is softmax(Q / temperature). The first learns from random actions and has much to explore still.
TEMPERATURES = (2.0, 1.0, 0.5)
EPOCHS = 40
STEPS = {"endpoint": 200, "transform": 30}  # after 200 an episode is cut

# What the policy would do in the state of each environment: an argument of collect_rollouts_with_given_action_probs.
Ask = Callable[["VectoredGymEnvironment", Path], dict[str, Any]]


def main(
    folder: Path, by: str, steps: int, temperatures: Sequence[float] = TEMPERATURES, epochs: int = EPOCHS
) -> list[float]:
    """Go a round for each temperature; return the mean reward of the random policy and of each round's."""
    session = launcher.Session()
    environments = make_environments(seed=0)
    uniform = [[0.5, 0.5]] * ENVIRONMENTS
    log = environments.collect_rollouts_with_given_action_probs(num_episodes=EPISODES_EACH, action_probs=uniform)
    rewards = [reward_within(log, steps)]
    print(f"random policy: {len(log)} rows, mean reward in {steps} steps {rewards[0]:.1f}")
    logs = [as_one_log(log, 0)]
    for number, temperature in enumerate(temperatures, start=1):  # each policy learns from the logs of all before it
        path = folder / f"log-{number - 1}.csv"
        pd.concat(logs).to_csv(path, index=False)
        estimator = train(session, session.upload_data(path, key_prefix="three-rounds"), temperature, epochs)
        environments = make_environments(seed=number)
        with (asked_endpoint if by == "endpoint" else asked_transform)(session, estimator) as ask:
            log = act(environments, ask, steps, folder)
        rewards.append(reward_within(log, steps))
        print(f"round {number}: {len(log)} rows, mean reward in {steps} steps {rewards[-1]:.1f}", flush=True)
        logs.append(as_one_log(log, number))
        logs[-1].to_csv(folder / f"round-{number}.csv", index=False)
    return rewards


def make_environments(seed: int) -> "VectoredGymEnvironment":
    from batch_rl.acting.environments import VectoredGymEnvironment

    return VectoredGymEnvironment("CartPole-v0", ENVIRONMENTS, seed=seed, time_limit=True)


def act(environments: "VectoredGymEnvironment", ask: Ask, steps: int, folder: Path) -> pd.DataFrame:
    """Ask, take one step in every environment, and again; return the rows of each environment's first episode."""
    frames = []
    for step in range(steps):
        answers = ask(environments, folder / f"states-{step}.json")
        rows = environments.collect_rollouts_with_given_action_probs(num_steps=1, **answers)
        frames.append(rows.assign(step=step))
    log = pd.concat(frames)
    log = log[log["episode_id"] < ENVIRONMENTS]  # later ones began late, and would be cut early
    ended = log.groupby("episode_id")[["terminated", "truncated"]].transform("any").any(axis=1)
    is_last = log["step"] == log.groupby("episode_id")["step"].transform("max")
    log.loc[is_last & ~ended, "truncated"] = True  # the acting ended before the episode
    return log


def reward_within(log: pd.DataFrame, steps: int) -> float:
    """Return the mean reward of an episode in its first so many steps."""
    position = log.groupby("episode_id").cumcount()
    return float(log[position < steps]["reward"].sum() / log["episode_id"].nunique())


def as_one_log(log: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return a round's rows so that they can stand among those of other rounds."""
    log = log.drop(columns=["cumulative_rewards", "step"], errors="ignore")  # an episode that was cut has no return
    return log.assign(episode_id=f"{number}-" + log["episode_id"].astype(str)).astype(
        {"terminated": int, "truncated": int}
    )


def train(session: launcher.Session, log_uri: str, temperature: float, epochs: int) -> Estimator:
    estimator = Estimator(
        entry_point="train.py",
        source_dir=str(CHECKOUT / "entrypoints"),
        dependencies=[str(CHECKOUT / "presets")],
        base_job_name="three-rounds",
        sagemaker_session=session,
        hyperparameters={
            "preset": "preset-cartpole-ddqnbcq",
            "training.epochs": epochs,
            "ope.temperature": temperature,
            "ope.estimators": ["WIS"],
        },
    )
    estimator.fit({"train": log_uri}, logs="None")
    return estimator


@contextmanager
def asked_endpoint(session: launcher.Session, estimator: Estimator) -> Iterator[Ask]:
    """One container, which answers as long as the round goes on."""
    predictor = estimator.deploy(1, "ml.m5.large", serializer=JSONSerializer(), deserializer=JSONDeserializer())

    def ask(environments: "VectoredGymEnvironment", _path: Path) -> dict[str, Any]:
        states = list(environments.get_environment_states().values())
        return {"action_probs": predictor.predict(states)["predictions"]}

    try:
        yield ask
    finally:
        predictor.delete_endpoint()


@contextmanager
def asked_transform(session: launcher.Session, estimator: Estimator) -> Iterator[Ask]:
    """A transform job, with a container of its own, for every question."""
    bucket = session.default_bucket()
    prefix = f"{estimator.latest_training_job.name}/act"
    transformer = estimator.transformer(
        instance_count=1,
        instance_type="ml.m5.large",
        strategy="MultiRecord",
        assemble_with="Line",
        accept="application/jsonlines",
        output_path=f"s3://{bucket}/{prefix}/output",
    )

    def ask(environments: "VectoredGymEnvironment", path: Path) -> dict[str, Any]:
        environments.dump_environment_states(path.parent, path.name)
        states_uri = session.upload_data(path, key_prefix=f"{prefix}/input")
        transformer.transform(states_uri, content_type="application/jsonlines", split_type="Line", logs=False)
        answers = session.download_data(path.parent, bucket, f"{prefix}/output/{path.name}.out")
        return {"file_name": answers[0]}

    try:
        yield ask
    finally:
        transformer.delete_model()


def draw(rewards: Sequence[float], steps: int, path: Path) -> None:
    """Write the plot."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot(range(len(rewards)), rewards, marker="o")
    axes.set_xticks(range(len(rewards)), ["random", *(f"round {number}" for number in range(1, len(rewards)))])
    axes.set_ylabel(f"mean reward of an episode in {steps} steps")
    axes.set_ylim(0, steps * 1.05)
    axes.grid(visible=True)
    figure.savefig(path)
    plt.close(figure)
    print(f"plot: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--by", choices=sorted(STEPS), default="endpoint")
    parser.add_argument("--steps", type=int, help="of each episode at most; every one is a job by transform")
    parser.add_argument("--plot", type=Path, default=Path("three_rounds.png"))
    arguments = parser.parse_args()
    at_most = arguments.steps or STEPS[arguments.by]
    with tempfile.TemporaryDirectory(prefix="three-rounds-") as scratch:
        draw(main(Path(scratch), arguments.by, at_most), at_most, arguments.plot)
