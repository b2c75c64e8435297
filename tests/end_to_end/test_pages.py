"""Each page's commands run as they are written, one after the other."""

import re

import pytest

import launcher
from tests.pages import ROOT, blocks, run_page, unknown_rules

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "examples/README.md"])
ELSEWHERE = {"your-own-log.md"}  # tests/contract/test_your_own_log.py runs it whole, and reads what it printed
RUNNING = [page for page in PAGES if any(block.runs for block in blocks(page)) and page.name not in ELSEWHERE]
QUICK = {"first-steps.md", "processing.md", "exec.md"}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    return path


def test_comments_on_blocks_say_what_the_runner_knows():
    assert {page.name: unknown_rules(page) for page in PAGES if unknown_rules(page)} == {}


@pytest.mark.slow
def test_the_commands_of_the_first_steps_hand_one_result_to_the_next(folder, home):
    printed = run_page(ROOT / "docs/first-steps.md", folder, home)
    assert "/opt/ml/output/data/cartpole_dataset.csv is output/cartpole_dataset.csv\n" in printed
    assert "Next: launcher fit --preset PRESET -i train=log" in printed
    assert "Next: launcher ope -d log -c cartpole" in printed
    assert "By FQE " in printed
    assert "Total reward=" in printed
    assert (folder / "cartpole.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_page_on_processing_leaves_what_it_says(folder, home):
    printed = run_page(ROOT / "docs/processing.md", folder, home)
    assert "1 of 2 episodes" in printed
    lines = (folder / "long-episodes/log.csv").read_text().splitlines()
    assert lines == ["episode,action,reward", "1,0,1", "1,1,1"]


@pytest.mark.slow
def test_the_page_on_scripts_for_real_aws_shows_the_local_ones(folder, home):
    printed = run_page(ROOT / "docs/exec.md", folder, home)
    assert "TrainingJobSummaries" in printed
    assert re.search(r"\d logs$", printed, re.MULTILINE)


@pytest.mark.whole
def test_the_page_on_tuning_finds_the_best_job(folder, home):
    assert "BestTrainingJob" in run_page(ROOT / "docs/tuning.md", folder, home)
    assert launcher.TuningJob("tune-1").status == "Completed"
    assert launcher.TuningJob("tune-2").best_training_job is not None


@pytest.mark.whole
@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.name) for page in RUNNING if page.name not in QUICK | {"tuning.md"}]
)
def test_the_commands_of_a_page_run_as_they_are_written(page, folder, home):
    run_page(page, folder, home)
