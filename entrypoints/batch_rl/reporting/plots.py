"""Pictures of a run, drawn from its metric file: PNG, or one HTML page that needs nothing beside it."""

import html
import io
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_rl.files import write_atomically, write_text_atomically
from batch_rl.reporting.metrics_csv import (
    EFFECTIVE_SAMPLE_SIZE,
    FQE,
    LOGGED_RETURN,
    LOWER,
    SEQUENTIAL_DR,
    TRAJECTORY,
    UPPER,
    WIS,
)

if TYPE_CHECKING:
    import pandas as pd

ORIGIN_FILE_NAME = "run.json"
ORIGIN = ("job", "preset", "dataset", "date")
WIS_COLOR, DR_COLOR, FQE_COLOR, OTHER_COLOR = "#1f5fa8", "#c8452d", "#15803d", "#6b7280"
COACHS = {WIS: "WIS", SEQUENTIAL_DR: "sequential DR, the agent's Q"}


def write_origin(folder: Path, origin: Mapping[str, str], *, action_names: Sequence[str] = ()) -> None:
    """Write the origin of a metrics file beside it, for the plots, and the names of actions 0, 1, ...

    Args:
        origin: texts by ``ORIGIN``; an empty one is left out of the plots.
    """
    write_text_atomically(
        folder / ORIGIN_FILE_NAME, json.dumps({**origin, "action_names": list(action_names)}, indent=2) + "\n"
    )


def _caption(metrics_path: Path) -> str:
    """Return job, preset, dataset and date; empty beside metrics of version 0.1.0, which did not write them."""
    path = metrics_path.parent / ORIGIN_FILE_NAME
    if not path.is_file():
        return ""
    origin = json.loads(path.read_text(encoding="utf-8"))
    return ", ".join(f"{noun} {origin[noun]}" for noun in ORIGIN if origin.get(noun))


def plot_estimates(metrics_path: Path, image_paths: Sequence[Path]) -> bool:
    """Draw the loss and every estimate with its interval over the epochs of a metrics CSV.

    Args:
        metrics_path: written by ``train.py``, at least one row.
        image_paths: a name that ends in ``.html`` gets a page, any other one a PNG.
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

    metrics = pd.read_csv(metrics_path)
    # Fixed, so that the same metrics give the same page, byte for byte.
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "svg.hashsalt": "batch_rl"}):
        caption = _caption(metrics_path)
        figure = _figure(metrics, caption)
        kinds = {_kind(path) for path in image_paths}
        contents = {kind: _page(metrics, figure, caption) if kind == "html" else _drawn(figure, kind) for kind in kinds}
    for path in image_paths:
        _write(path, contents[_kind(path)])
    return True


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _kind(path: Path) -> str:
    return "html" if path.suffix.lower() in (".html", ".htm") else "png"


def _drawn(figure: Any, kind: str) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format=kind, metadata={"Date": None, "Creator": None} if kind == "svg" else None)
    return image.getvalue()


def _figure(metrics: "pd.DataFrame", caption: str) -> Any:
    """Draw the estimates to trust on top, and below them, smaller, the loss, the episodes in effect and every estimate.

    Estimates that are cut at the possible values share a scale; Coach's columns, which are not cut, have their own.
    """
    from matplotlib.figure import Figure

    epochs = metrics["Epoch"]
    shown = [name for name, column in TRAJECTORY.items() if metrics[column].notna().any()]
    rows = -(-len(shown) // 3)
    height = 5.2 + 2.2 * rows
    figure = Figure(figsize=(11, height), dpi=110)
    grid = figure.add_gridspec(2 + rows, 6, height_ratios=[2.6, 1.2, *([1.6] * rows)])
    # Given, and not found by a layout engine, which would draw everything twice.
    grid.update(left=0.09, right=0.91, bottom=0.5 / height, top=1 - 0.55 / height, wspace=0.65, hspace=0.5)
    figure.text(0.5, 1 - 0.15 / height, caption, ha="center", va="center", color=OTHER_COLOR, fontsize=8)
    baseline = float(metrics[LOGGED_RETURN].iloc[0])
    values = figure.add_subplot(grid[0, :])
    _draw_leading(values, metrics, set(shown))
    _baseline(values, baseline, label=f"logged policy: {baseline:.1f}")
    policy = metrics["Evaluated Policy"].iloc[0]
    values.set_title(f"Off-policy evaluation of {policy} on held-out episodes", fontweight="bold")
    values.set_ylabel("discounted reward per episode")
    values.legend(loc="upper left", frameon=False)
    loss = figure.add_subplot(grid[1, :2])
    loss.plot(epochs, metrics["Loss/Mean"], color=OTHER_COLOR)
    loss.set_title("loss, mean of an epoch's batches")
    sizes = figure.add_subplot(grid[1, 2:4])
    sizes.fill_between(epochs, metrics[EFFECTIVE_SAMPLE_SIZE], color=OTHER_COLOR, alpha=0.35, linewidth=0)
    sizes.set_ylim(bottom=0)
    sizes.set_title("held-out episodes in effect")
    coachs = figure.add_subplot(grid[1, 4:])
    for column, color in ((WIS, WIS_COLOR), (SEQUENTIAL_DR, DR_COLOR)):
        coachs.plot(epochs, metrics[column], color=color, label=COACHS[column])
    coachs.set_title("Coach's columns, which have no bounds")
    coachs.legend(loc="upper left", frameon=False, fontsize=7)
    boxes = [loss, sizes, coachs]
    for number, name in enumerate(shown):
        column = TRAJECTORY[name]
        box = figure.add_subplot(grid[2 + number // 3, number % 3 * 2 : number % 3 * 2 + 2], sharey=values)
        box.plot(epochs, metrics[column], color=WIS_COLOR)
        box.fill_between(
            epochs, metrics[column + LOWER], metrics[column + UPPER], color=WIS_COLOR, alpha=0.2, linewidth=0
        )
        _baseline(box, baseline)
        has_interval = metrics[column + LOWER].notna().any()
        box.set_title(name if has_interval else f"{name} (no interval)")
        boxes.append(box)
    for box in [values, *boxes]:
        box.grid(alpha=0.3)
        box.spines["right"].set_visible(False)
        box.set_xlabel("epoch")
    return figure


def _draw_leading(axes: Any, metrics: "pd.DataFrame", shown: Collection[str]) -> None:
    """Draw fitted Q evaluation, and WDR with its interval; WIS where the run computed neither."""
    epochs = metrics["Epoch"]
    if "WDR" in shown:
        column = TRAJECTORY["WDR"]
        low, high = metrics[column + LOWER], metrics[column + UPPER]
        axes.plot(epochs, metrics[column], color=WIS_COLOR, linewidth=1, label="WDR and its interval")
        axes.fill_between(epochs, low, high, color=WIS_COLOR, alpha=0.15, linewidth=0)
    if "DM" in shown:
        axes.plot(epochs, metrics[TRAJECTORY["DM"]], color=DR_COLOR, linewidth=2, label="fitted Q evaluation (DM)")
    last = metrics.iloc[-1]
    if FQE in metrics and last[FQE] == last[FQE]:
        ends = [[last[FQE] - last[FQE + LOWER]], [last[FQE + UPPER] - last[FQE]]]
        axes.errorbar(
            [last["Epoch"]],
            [last[FQE]],
            yerr=ends,
            color=FQE_COLOR,
            fmt="o",
            capsize=4,
            label="FQE, the estimate to trust",
        )
    if not {"WDR", "DM"} & set(shown):
        axes.plot(epochs, metrics[WIS], color=WIS_COLOR, linewidth=2, label="WIS")


def _baseline(axes: Any, value: float, label: str | None = None) -> None:
    axes.axhline(value, color=OTHER_COLOR, linestyle="--", linewidth=1, label=label)


def _page(metrics: "pd.DataFrame", figure: Any, caption: str) -> bytes:
    """Return a page with the drawing and the last epoch's numbers, with nothing to load from elsewhere."""
    drawing = _drawn(figure, "svg").decode()
    last = metrics.iloc[-1]
    level = last["Interval Level"]
    rows = []
    coachs = [(f"Coach's {title}", column) for column, title in COACHS.items()]
    leading = [(FQE, FQE), *((name, TRAJECTORY[name]) for name in ("DM", "WDR"))]
    others = [(name, column) for name, column in TRAJECTORY.items() if (name, column) not in leading]
    for name, column in [*leading, *others, *coachs]:
        if column not in metrics or last.isna()[column]:  # version 0.1.0 wrote no FQE
            continue
        ends = [last.get(column + LOWER, float("nan")), last.get(column + UPPER, float("nan"))]
        interval = "" if any(end != end for end in ends) else f"{ends[0]:.2f} to {ends[1]:.2f}"
        rows.append(f"<tr><td>{html.escape(name)}</td><td>{last[column]:.2f}</td><td>{interval}</td></tr>")
    head = "interval" if level != level else f"{level:.0%} interval"
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(caption or "Off-policy evaluation")}</title>
<style>body{{font-family:sans-serif;max-width:70rem;margin:2rem auto}}svg{{width:100%;height:auto}}
td,th{{padding:.2rem 1rem;text-align:right}}td:first-child,th:first-child{{text-align:left}}</style></head><body>
<p>{html.escape(caption[:1].upper() + caption[1:])}</p>
{drawing[drawing.index("<svg") :]}
<h2>Epoch {last["Epoch"]:.0f}: {html.escape(str(last["Evaluated Policy"]))}, discounted reward per episode</h2>
<p>The policy that logged the held-out episodes earned {last[LOGGED_RETURN]:.2f} there.
{last[EFFECTIVE_SAMPLE_SIZE]:.1f} of them are in effect, the largest with {last["Largest Weight Share"]:.0%} of all
weight.</p>
<table><tr><th>estimator</th><th>value</th><th>{head}</th></tr>
{chr(10).join(rows)}
</table></body></html>
"""
    return text.encode()


if __name__ == "__main__":
    sys.exit(not plot_estimates(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]]))
