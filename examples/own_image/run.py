"""An image of one's own as a training job, on the Docker runtime.

docker build --tag line-counter examples/own_image
python examples/own_image/run.py
"""

import tempfile
from pathlib import Path

from launcher import Estimator, JobFailedError


def main() -> None:
    estimator = Estimator(
        image_uri="line-counter",
        hyperparameters={"anything": "the image reads it itself"},
        metric_definitions=[{"Name": "lines", "Regex": r"lines=(\d+)"}],
    )
    with tempfile.TemporaryDirectory() as data:
        Path(data, "a.txt").write_text("one\ntwo\n")
        Path(data, "b.txt").write_text("three\n")
        estimator.fit({"train": data})
        print("model:", (estimator.latest_training_job.outputs.model_path / "lines.txt").read_text().split("\n"))
        try:
            estimator.fit({"wrong-name": data}, logs="None")
        except JobFailedError as error:
            print("reason:", error.reason)


if __name__ == "__main__":
    main()
