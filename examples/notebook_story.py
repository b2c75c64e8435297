"""The story of the batch RL notebook, from data to a judged policy, with everything under s3:// and no account.

    python examples/notebook_story.py        Docker if an engine answers, else processes
    LAUNCHER_RUNTIME=process, or docker      where the jobs run

Run it from a checkout, in the environment that "make demo" or "make setup" made. It takes about 20 seconds.
"""

import io
import json
import tarfile
import tempfile
import time
from pathlib import Path

import pandas as pd

import launcher
from launcher import RLEstimator, RLFramework, RLToolkit, wait_for_s3_object

CHECKOUT = Path(__file__).resolve().parents[1]
METRICS_FILE = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"


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
