"""The story of the batch RL notebook, from data to a policy at work, with everything under s3:// and no account.

    python examples/notebook_story.py        Docker if an engine answers, else processes
    LAUNCHER_RUNTIME=process, or docker      where the jobs run

Run it from a checkout, in the environment that "make demo" or "make setup" made. It takes about 40 seconds.
"""

import io
import json
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from launcher.deserializers import JSONDeserializer
from launcher.serializers import JSONSerializer

import launcher
from launcher import Model, RLEstimator, RLFramework, RLToolkit, wait_for_s3_object

CHECKOUT = Path(__file__).resolve().parents[1]
METRICS_FILE = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
ENVIRONMENTS = 100


def main(folder: Path) -> None:
    session = launcher.Session()
    bucket = session.default_bucket()
    common = {
        "source_dir": str(CHECKOUT / "entrypoints"),
        "dependencies": [str(CHECKOUT / "presets")],
        "toolkit": RLToolkit.COACH,
        "toolkit_version": "1.0.0",
        "framework": RLFramework.PYTORCH,
        "role": launcher.get_execution_role(),
        "instance_type": "ml.m5.xlarge",
        "instance_count": 1,
        "output_path": "s3://{}/".format(bucket),  # noqa: UP032 - as notebooks put it together
    }

    # 1. Data: 500 episodes of a random policy. In production this is the log of whatever policy runs there.
    collecting = RLEstimator(
        entry_point="collect.py",
        hyperparameters={"preset": "preset-cartpole-random"},
        base_job_name="collect",
        **common,
    )
    collecting.fit(logs="None")
    dataset = fetch_output(bucket, collecting._current_job_name, folder / "dataset") / "cartpole_dataset.csv"
    data_uri = session.upload_data(dataset, key_prefix=f"{collecting._current_job_name}/dataset")
    print("dataset:", data_uri)

    # 2. Training, on that log alone. wait=False returns at once: the job goes on even if this program ends.
    training = RLEstimator(
        entry_point="train.py",
        hyperparameters={"preset": "preset-cartpole-ddqnbcq"},
        base_job_name="train",
        **common,
    )
    training.fit({"train": data_uri}, wait=False)

    # 3. Its metrics, while it runs, under the key that a managed job has.
    follow(session, bucket, training.latest_training_job, folder)
    print("model:", training.model_data)

    # 4. A second job plays the policy that the first one left as a checkpoint.
    job_name = training._current_job_name
    checkpoint = fetch_output(bucket, job_name, folder / "training") / "checkpoint"
    checkpoint_uri = session.upload_data(checkpoint, key_prefix=f"{job_name}/checkpoint")
    evaluation = RLEstimator(
        entry_point="evaluate.py",
        hyperparameters={"preset": "preset-cartpole-ddqnbcq-env", "evaluate_episodes": 100},
        base_job_name="evaluate",
        **common,
    )
    evaluation.fit({"checkpoint": checkpoint_uri}, logs="None")
    evaluated = fetch_output(bucket, evaluation._current_job_name, folder / "evaluation")
    result = json.loads((evaluated / "evaluation.json").read_text())
    rewards = evaluation.training_job_analytics.dataframe()["value"]
    print(f"mean reward over {len(rewards)} episodes: {rewards.mean():.1f} (worst {result['min']:.0f})")

    # 5. Batch transform: what would the policy do in each of a hundred states?
    environments = make_environments()
    answers = transform_states(session, bucket, training, environments, folder)

    # 6. Each environment plays an episode by the probabilities of its first state: the next dataset. A whole episode
    # of the policy takes a transform at every step; three_rounds.py does that, and an endpoint does it faster.
    rollouts = environments.collect_rollouts_with_given_action_probs(num_episodes=1, file_name=answers)
    first = pd.read_csv(dataset)
    rollouts["episode_id"] += first["episode_id"].max() + 1  # ids of its own
    print(f"rollouts: {len(rollouts)} steps of {rollouts['episode_id'].nunique()} episodes")
    pd.concat([first, rollouts]).to_csv(folder / "next_dataset.csv", index=False)
    next_uri = session.upload_data(folder / "next_dataset.csv", key_prefix=f"{job_name}/next-dataset")
    again = RLEstimator(
        entry_point="train.py",
        hyperparameters={"preset": "preset-cartpole-ddqnbcq", "training.epochs": 5},
        base_job_name="train-again",
        **common,
    )
    again.fit({"train": next_uri}, logs="None")
    print(f"trained again: {again.model_data}")

    # 7. Or one request at a time.
    predictor = training.deploy(1, "ml.m5.xlarge", serializer=JSONSerializer(), deserializer=JSONDeserializer())
    try:
        answer = predictor.predict([0.0, 0.0, 0.05, 0.0])  # the pole leans to the right
        print(f"endpoint: probabilities {answer['predictions'][0]}, action {answer['actions'][0]}")
    finally:
        predictor.delete_endpoint()


def make_environments() -> Any:
    """Return a hundred environments that have just been reset."""
    sys.path.append(str(CHECKOUT / "entrypoints"))
    from batch_rl.acting.environments import VectoredGymEnvironment

    return VectoredGymEnvironment("CartPole-v0", ENVIRONMENTS)


def transform_states(
    session: launcher.Session, bucket: str, training: RLEstimator, environments: Any, folder: Path
) -> Path:
    """Ask the model about the states of all environments; return the file with its answers, a line for each."""
    batch = f"{training._current_job_name}/batch_test"
    states = folder / "env_states.json"
    environments.dump_environment_states(folder, states.name)
    session.upload_data(states, key_prefix=f"{batch}/input")
    model = Model(model_data=training.model_data, role=launcher.get_execution_role(), sagemaker_session=session)
    transformer = model.transformer(
        instance_count=1,
        instance_type="ml.m5.xlarge",
        output_path=f"s3://{bucket}/{batch}/output/",
        assemble_with="Line",
        accept="application/jsonlines",
        strategy="SingleRecord",
    )
    transformer.transform(
        data=f"s3://{bucket}/{batch}/input/",
        data_type="S3Prefix",
        content_type="application/jsonlines",
        split_type="Line",
        join_source="Input",
        logs=False,
    )
    transformer.wait()
    answers = Path(session.download_data(folder / "answers", bucket, f"{batch}/output/{states.name}.out")[0])
    lines = answers.read_text().splitlines()
    print(f"batch transform: {len(lines)} answers, the first one {lines[0]}")
    return answers


def fetch_output(bucket: str, job_name: str, folder: Path) -> Path:
    """Wait for a job's output.tar.gz, and return a folder with what is in it."""
    key = f"{job_name}/output/output.tar.gz"
    archive = wait_for_s3_object(bucket, key, folder, training_job_name=job_name)[0]
    with tarfile.open(archive) as content:
        # The filter refuses what would leave the folder; Python 3.11.4 is the first 3.11 that has it.
        content.extractall(folder / "content", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / "content"


def follow(session: launcher.Session, bucket: str, job: launcher.TrainingJob, folder: Path) -> None:
    """Print a row of the metrics every tenth epoch, as they are written."""
    key = f"{job.name}/output/intermediate/{METRICS_FILE}"
    wait_for_s3_object(bucket, key, folder, training_job_name=job.name)
    shown = 0
    while True:
        ended = job.status in ("Completed", "Failed", "Stopped")
        rows = pd.read_csv(io.StringIO(session.read_s3_file(bucket, key)))
        for _, row in rows.iloc[shown:].iterrows():
            if row["Epoch"] % 10 == 0:
                print(
                    f"epoch {row['Epoch']:.0f}: WIS {row['Weighted Importance Sampling']:.1f}, "
                    f"sequential DR {row['Sequential Doubly Robust']:.1f}, "
                    f"effective episodes {row['Effective Sample Size']:.0f}"
                )
        shown = len(rows)
        if ended:
            return
        time.sleep(0.5)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="notebook-story-") as scratch:
        main(Path(scratch))
