"""Fit a line to the points of the channel, by gradient descent; a script as one would write it for SageMaker."""

import argparse
import csv
import json
import os
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--train", type=Path, default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--model-dir", type=Path, default=os.environ.get("SM_MODEL_DIR"))
    arguments = parser.parse_args()

    with (arguments.train / "points.csv").open() as file:
        points = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    slope = intercept = 0.0
    for epoch in range(1, arguments.epochs + 1):
        errors = [slope * x + intercept - y for x, y in points]
        gradient = sum(error * x for error, (x, _) in zip(errors, points, strict=True)) / len(points)
        slope -= arguments.learning_rate * 2 * gradient
        intercept -= arguments.learning_rate * 2 * sum(errors) / len(points)
        print(f"epoch={epoch} loss={sum(error**2 for error in errors) / len(points):.6f}", flush=True)
    (arguments.model_dir / "line.json").write_text(json.dumps({"slope": slope, "intercept": intercept}))


if __name__ == "__main__":
    main()
