"""The story of the batch RL notebook, from data to a judged policy, without a branch for local mode.

    python examples/notebook_story.py                              Docker if an engine answers, else processes
    LAUNCHER_RUNTIME=process python examples/notebook_story.py

Run it from a checkout, in the environment that "make demo" or "make setup" made. It takes about 20 seconds.
"""

import json
import time
from pathlib import Path

import pandas as pd

from launcher import Estimator, RLEstimator, RLFramework, RLToolkit, TrainingJob

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = {"source_dir": str(CHECKOUT / "entrypoints"), "dependencies": [str(CHECKOUT / "presets")]}
METRICS_FILE = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"


def main() -> None:
    # 1. Data: 500 episodes of a random policy. In production this is the log of whatever policy runs there.
    collecting = Estimator(
        entry_point="collect.py",
        hyperparameters={"preset": "preset-cartpole-random"},
        base_job_name="collect",
        **SOURCE,
    )
    collecting.fit()
    dataset_path = collecting.latest_training_job.outputs.data_path

    # 2. Training, on that log alone. wait=False returns at once: the job goes on even if this program ends.
    training = RLEstimator(
        entry_point="train.py",
        toolkit=RLToolkit.COACH,
        toolkit_version="1.0.0",
        framework=RLFramework.PYTORCH,
        role="arn:aws:iam::000000000000:role/anything",
        instance_type="ml.m5.xlarge",
        instance_count=1,
        hyperparameters={"preset": "preset-cartpole-ddqnbcq"},
        base_job_name="train",
        **SOURCE,
    )
    training.fit({"train": str(dataset_path)}, wait=False)

    # 3. Its metrics, while it runs, under the key that a managed job has.
    follow(training.latest_training_job)
    training.latest_training_job.wait(logs="None")
    print("model:", training.model_data)

    # 4. A second job plays the policy that the first one left as a checkpoint.
    evaluation = Estimator(
        entry_point="evaluate.py",
        hyperparameters={"preset": "preset-cartpole-ddqnbcq-env", "evaluate_episodes": 100},
        metric_definitions=[{"Name": "reward-testing", "Regex": "^Testing>.*Total reward=(.*?),"}],
        base_job_name="evaluate",
        **SOURCE,
    )
    evaluation.fit({"checkpoint": str(training.latest_training_job.outputs.data_path / "checkpoint")}, logs="None")
    result = json.loads((evaluation.latest_training_job.outputs.data_path / "evaluation.json").read_text())
    rewards = evaluation.training_job_analytics.dataframe()["value"]
    print(f"mean reward over {len(rewards)} episodes: {rewards.mean():.1f} (worst {result['min']:.0f})")


def follow(job: TrainingJob) -> None:
    """Print a row of the metrics every tenth epoch, as they are written."""
    metrics_path = Path(job.keys.intermediate.removeprefix("file://"), METRICS_FILE)
    shown = 0
    while True:
        ended = job.status in ("Completed", "Failed", "Stopped")
        rows = pd.read_csv(metrics_path) if metrics_path.exists() else pd.DataFrame()
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
    main()
