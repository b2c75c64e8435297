"""A script of one's own as a training job: a channel, hyperparameters, metrics from the log, a model.

python examples/own_script/run.py
"""

import json
import tempfile
from pathlib import Path

from launcher import Estimator

HERE = Path(__file__).resolve().parent


def main() -> None:
    with tempfile.TemporaryDirectory() as data:
        Path(data, "points.csv").write_text("x,y\n" + "".join(f"{x / 10},{3 * x / 10 + 1}\n" for x in range(11)))
        estimator = Estimator(
            entry_point="train.py",
            source_dir=str(HERE / "src"),
            hyperparameters={"epochs": 200, "learning-rate": 0.5},
            metric_definitions=[{"Name": "loss", "Regex": r"loss=([0-9.]+)"}],
            base_job_name="own-script",
        )
        print(estimator.plan({"train": data}), end="\n\n")
        estimator.fit({"train": data}, logs="None")
    losses = estimator.training_job_analytics.dataframe()["value"]
    line = json.loads((estimator.latest_training_job.outputs.model_path / "line.json").read_text())
    print(f"loss {losses.iloc[0]:.3f} -> {losses.iloc[-1]:.6f} in {len(losses)} epochs")
    print(f"y = {line['slope']:.2f} x + {line['intercept']:.2f}, from {estimator.model_data}")


if __name__ == "__main__":
    main()
