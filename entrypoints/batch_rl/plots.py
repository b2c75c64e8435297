"""Pictures of a run, drawn from its metric files."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from batch_rl.files import write_atomically
from batch_rl.metrics_csv import EFFECTIVE_SAMPLE_SIZE, LOGGED_RETURN, SEQUENTIAL_DR, WIS

WIS_COLOR, DR_COLOR, OTHER_COLOR = "#1f5fa8", "#c8452d", "#6b7280"


def plot_estimates(metrics_path: Path, image_paths: Sequence[Path]) -> bool:
    """Draw WIS and sequential DR over the epochs of a metrics CSV, as PNG.

    Returns:
        False, with a message, where matplotlib is not installed: a job does not fail for want of a picture.
    """
    # Both take long to import, and only this function needs them.
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed, so there is no plot of the estimates.", flush=True)
        return False
    import pandas as pd
    from matplotlib.figure import Figure

    metrics = pd.read_csv(metrics_path)
    epochs = metrics["Epoch"]
    baseline = float(metrics[LOGGED_RETURN].iloc[0])
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False}):
        figure = Figure(figsize=(9, 5.6), dpi=120, layout="constrained")
        values, sizes = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        right = values.twinx()
        values.plot(epochs, metrics[WIS], color=WIS_COLOR, linewidth=2, label="WIS (left axis)")
        right.plot(epochs, metrics[SEQUENTIAL_DR], color=DR_COLOR, linewidth=2, label="sequential DR (right axis)")
        label = f"logged policy: {baseline:.1f} (left axis)"
        values.axhline(baseline, color=OTHER_COLOR, linestyle="--", linewidth=1, label=label)
        policy = metrics["Evaluated Policy"].iloc[0]
        values.set_title(f"Off-policy evaluation of {policy} on held-out episodes", fontweight="bold")
        for axes, name, color in ((values, "WIS", WIS_COLOR), (right, "sequential DR", DR_COLOR)):
            axes.set_ylabel(f"{name}\n(discounted reward per episode)", color=color)
            axes.tick_params(axis="y", labelcolor=color)
        values.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        sizes.fill_between(epochs, metrics[EFFECTIVE_SAMPLE_SIZE], color=OTHER_COLOR, alpha=0.35, linewidth=0)
        sizes.plot(epochs, metrics[EFFECTIVE_SAMPLE_SIZE], color=OTHER_COLOR, linewidth=1)
        sizes.set_ylim(bottom=0)
        sizes.set_ylabel("effective\nepisodes")
        sizes.set_xlabel("epoch")
        sizes.grid(alpha=0.3)
        sizes.spines["right"].set_visible(False)
        image = io.BytesIO()
        figure.savefig(image, format="png")
    for path in image_paths:
        write_atomically(path, lambda temporary: temporary.write_bytes(image.getvalue()))
    return True


if __name__ == "__main__":
    sys.exit(not plot_estimates(Path(sys.argv[1]), [Path(sys.argv[2])]))
