"""Metric files and the pictures that are drawn from them."""

import json

import numpy as np
import pandas as pd
import pytest

from batch_rl.reporting.metrics_csv import BATCH_COLUMNS, EFFECTIVE_SAMPLE_SIZE, LOGGED_RETURN, MetricsFile
from batch_rl.reporting.plots import _figure, plot_estimates, write_origin
from train_offline import shown_epoch


def metrics(**columns):
    """Two epochs, with the estimates DM, WDR and IPS, whose ranges differ."""
    rows = {
        "Epoch": [1, 2],
        "Weighted Importance Sampling": [20.0, 30.0],
        "Sequential Doubly Robust": [90.0, 130.0],
        "Loss/Mean": [0.2, 0.1],
        EFFECTIVE_SAMPLE_SIZE: [20.0, 5.0],
        "Largest Weight Share": [0.1, 0.4],
        LOGGED_RETURN: [19.0, 19.0],
        "Evaluated Policy": ["softmax(Q / 2)"] * 2,
        "Interval Level": [0.95, 0.95],
    }
    for name, low, high in (("DM", 40, 60), ("WDR", 30, 100), ("IPS", 5, 90)):
        column = f"{name} (trajectory)"
        rows |= {column: [low, high], f"{column} Low": [low - 1] * 2, f"{column} High": [high + 1] * 2}
    return pd.DataFrame(rows | columns).reindex(columns=BATCH_COLUMNS)


def drawn(table, tmp_path, **origin):
    table.to_csv(tmp_path / "metrics.csv", index=False)
    if origin:
        write_origin(tmp_path, origin)
    assert plot_estimates(tmp_path / "metrics.csv", [tmp_path / "plot.html", tmp_path / "plot.png"])
    return (tmp_path / "plot.html").read_text()


def test_every_estimate_that_has_bounds_is_drawn_on_the_scale_of_the_first_panel():
    figure = _figure(metrics(), "job j")
    leading, *boxes = figure.axes
    by_title = {box.get_title(): box for box in boxes}
    for name in ("DM", "WDR", "IPS"):
        assert by_title[name].get_ylim() == leading.get_ylim()
    assert leading.get_ylim()[0] <= 4 < 101 <= leading.get_ylim()[1]
    coachs = by_title["Coach's columns, which have no bounds"]
    assert coachs.get_ylim()[1] > 125
    assert len(figure.axes) == 1 + 3 + 3  # no second axis shares a panel


def test_a_plot_says_of_what_it_is_and_metrics_of_an_older_version_are_drawn_without(tmp_path):
    page = drawn(metrics(), tmp_path, job="j-1", preset="", dataset="log.csv", date="2026-11-20")
    assert "<p>Job j-1, dataset log.csv, date 2026-11-20</p>" in page
    (tmp_path / "run.json").unlink()
    assert "<p></p>" in drawn(metrics().drop(columns=["FQE", "FQE Low", "FQE High"]), tmp_path)


def test_the_estimate_to_trust_is_a_point_with_its_interval_and_the_first_row(tmp_path):
    table = metrics(FQE=[np.nan, 62.0], **{"FQE Low": [np.nan, 51.5], "FQE High": [np.nan, 72.25]})
    figure = _figure(table, "")
    assert "FQE, the estimate to trust" in figure.axes[0].get_legend_handles_labels()[1]
    page = drawn(table, tmp_path)
    assert "<td>FQE</td><td>62.00</td><td>51.50 to 72.25</td>" in page
    assert page.index("<td>FQE<") < page.index("<td>DM<") < page.index("<td>WDR<")


def test_a_refused_interval_leaves_the_point_alone(tmp_path):
    table = metrics(FQE=[np.nan, 62.0])
    assert "<td>FQE</td><td>62.00</td><td></td>" in drawn(table, tmp_path)


def test_the_origin_has_the_names_of_actions(tmp_path):
    write_origin(tmp_path, {"job": "j"}, action_names=["left", "right"])
    assert json.loads((tmp_path / "run.json").read_text()) == {"job": "j", "action_names": ["left", "right"]}


@pytest.mark.parametrize(
    ("epoch", "values", "expected"),
    [
        (7, (61.23456, -60.5, 63.0), "Off-Policy Evaluation> Epoch=7, WIS=61.23, Sequential-DR=-60.5, WDR=63"),
        (
            1000,
            (-123456.7, -123456.7, -123456.7),
            "Off-Policy Evaluation> Epoch=1000, WIS=-1.235e+05, Sequential-DR=-1.235e+05",
        ),
    ],
)
def test_an_epochs_line_never_has_more_than_80_columns(epoch, values, expected):
    line = shown_epoch(epoch, dict(zip(("WIS", "Sequential-DR", "WDR"), values, strict=True)))
    assert line == expected
    assert len(line) <= 80


@pytest.mark.parametrize("columns", [("Epoch", "WIS"), ("Epoch", "WIS", "FQE")])
def test_a_resumed_file_goes_on_in_todays_columns(tmp_path, columns):
    """The earlier text is of a version without the last column, or of this one, and then stays byte for byte."""
    earlier = "Epoch,WIS\n1,0.30000000000000004\n" if len(columns) == 3 else "Epoch,WIS\n1,0.5\n"
    with MetricsFile(tmp_path / "metrics.csv", columns, earlier=earlier) as file:
        file.append({"Epoch": 2, "WIS": 0.25})
        lines = file.text().splitlines()
    if len(columns) == 3:
        assert lines == ["Epoch,WIS,FQE", "1,0.30000000000000004,", "2,0.25,"]
    else:
        assert lines == ["Epoch,WIS", "1,0.5", "2,0.25"]
