"""docs/your-own-log.md from top to bottom, as a reader runs it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.pages import ROOT, blocks

PAGE = ROOT / "docs/your-own-log.md"
COMMAND = Path(sys.executable).parent


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The folder in which every block of the page has run, and what the commands printed."""
    folder = tmp_path_factory.mktemp("shop")
    for block in blocks(PAGE):
        if block.rule == "save":
            (folder / block.value).write_text(block.text)
    environment = os.environ | {
        "LAUNCHER_HOME": str(folder / "home"),
        "LAUNCHER_RUNTIME": "process",
        "PATH": f"{COMMAND}{os.pathsep}{os.environ['PATH']}",
    }
    answers = [
        subprocess.run(["bash", "-ec", block], cwd=folder, env=environment, capture_output=True, text=True, check=False)
        for block in (block.text for block in blocks(PAGE) if block.runs)
    ]
    return folder, answers[1:]


def test_the_commands_of_the_page_run_as_written(shop):
    _, answers = shop
    assert [answer.returncode for answer in answers] == [0, 0, 0], [answer.stderr for answer in answers]
    assert (shop[0] / "shop.csv").is_file()
    fitted, judged, gated = (answer.stdout for answer in answers)
    assert "Actions> 0 = discount, 1 = none, 2 = reminder" in fitted
    assert re.search(r"\n +FQE +[\d.]+ ", judged)
    assert "Gate passed" in gated


def test_an_epoch_is_a_line_of_at_most_80_columns_that_metric_definitions_read(shop):
    folder, answers = shop
    lines = [line for line in answers[0].stdout.splitlines() if "Off-Policy Evaluation>" in line]
    assert len(lines) == 40
    assert max(len(line) for line in lines) <= 80
    values = [json.loads(line) for line in (folder / "home/jobs/shop/metrics.jsonl").read_text().splitlines()]
    names = [name for _, name, _ in values]
    assert names.count("weighted-importance-sampling") == names.count("sequential-doubly-robust") == 40
    metrics = pd.read_csv(next((folder / "home/jobs/shop/output/intermediate").glob("worker_*.csv")))
    last = next(value for _, name, value in reversed(values) if name == "weighted-importance-sampling")
    assert last == pytest.approx(metrics["Weighted Importance Sampling"].iloc[-1], rel=1e-3)


def test_the_estimate_to_trust_stands_on_the_last_epochs_row_and_leads_plot_and_log(shop):
    folder, answers = shop
    metrics = pd.read_csv(next((folder / "home/jobs/shop/output/intermediate").glob("worker_*.csv")))
    assert metrics["FQE"].notna().tolist() == [False] * 39 + [True]
    value, low, high = metrics[["FQE", "FQE Low", "FQE High"]].iloc[-1]
    assert low < value < high
    judged = re.search(r"\n +FQE +([\d.]+) +([\d.]+) to ([\d.]+)", answers[1].stdout)
    assert [float(number) for number in judged.groups()] == pytest.approx([value, low, high], abs=0.006)
    lines = [line for line in answers[0].stdout.splitlines() if "Estimate>" in line]
    assert f"FQE={value:.4f}, Low={low:.4f}, High={high:.4f}" in lines[0]
    page = (folder / "shop.html").read_text()
    assert f"<td>FQE</td><td>{value:.2f}</td><td>{low:.2f} to {high:.2f}</td>" in page
    assert page.index("<td>FQE<") < page.index("<td>DM<")


def test_data_with_faults_end_the_command_with_exit_code_2(shop, tmp_path):
    folder, _ = shop
    log = pd.read_csv(folder / "shop.csv").drop(columns=["chance", "spent"])
    log.to_csv(tmp_path / "shop.csv", index=False)
    environment = os.environ | {"LAUNCHER_HOME": str(tmp_path / "home"), "LAUNCHER_RUNTIME": "process"}
    command = [COMMAND / "launcher", "fit", "--preset", folder / "shop.yaml", "-i", tmp_path / "shop.csv"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 2, answer.stderr
    assert "data.columns names 'spent', 'chance', which the table does not have" in answer.stderr


def test_the_names_of_actions_are_given_back_wherever_numbers_stand(shop):
    folder, _ = shop
    names = ["discount", "none", "reminder"]
    job = folder / "home/jobs/shop"
    assert json.loads((job / "output/intermediate/run.json").read_text())["action_names"] == names
    unpack = "import tarfile, sys; [tarfile.open(p).extractall(sys.argv[1]) for p in sys.argv[2:]]"
    archives = [str(job / "output" / f"{name}.tar.gz") for name in ("model", "output")]
    subprocess.run([sys.executable, "-c", unpack, str(folder / "unpacked"), *archives], check=True)
    assert json.loads((folder / "unpacked/model.json").read_text())["output"]["actions"] == names
    assert json.loads((folder / "unpacked/checkpoint/metadata.json").read_text())["action_names"] == names


def test_plots_say_which_job_preset_dataset_and_date_they_are_of(shop):
    folder, _ = shop
    page = (folder / "shop.html").read_text()
    assert re.search(r"<p>Job shop, preset shop, dataset shop\.csv, date \d{4}-\d\d-\d\d</p>", page)
    assert re.search(r"<title>job shop, preset shop, dataset shop\.csv", page)
