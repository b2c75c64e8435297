"""What a notebook shows of jobs, estimates and plans, and the line on a job that it waits for."""

import re

import pytest

from launcher import Estimator
from launcher.sdk import notebook
from launcher.sdk.training_job import TrainingJob

SCRIPT = "print('loss=0.5 <b>&</b>')"


@pytest.fixture
def estimator(make_source):
    metrics = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
    return Estimator(
        entry_point="train.py", source_dir=make_source(SCRIPT), runtime="process", metric_definitions=metrics,
        hyperparameters={"note": "<i>", "api_token": "s3cr3t"},
    )  # fmt: skip


def test_a_job_is_shown_with_its_curves(estimator):
    estimator.fit(logs=False, job_name="shown")
    html = TrainingJob("shown")._repr_html_()
    assert "Completed" in html
    assert "<figure>" in html
    assert "<script" not in html
    style = re.search("<style>(.*)</style>", html, re.DOTALL)[1]
    assert style.startswith(".launcher-console{")  # no rule is about anything else of the page
    assert style.count("{") == style.count("}")
    assert len(html) < 20_000


def test_a_plan_is_a_table_without_secrets(estimator):
    html = estimator.plan()._repr_html_()
    assert "<th" in html
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
    assert "s3cr3t" not in html


def test_estimates_are_a_table_and_a_picture(estimator, tmp_path):
    from launcher.errors import BadInputError

    estimator.fit(logs=False, job_name="judged")
    job = TrainingJob("judged")
    with pytest.raises(BadInputError, match="no estimates"):
        job.estimates()
    folder = job.path / "output" / "intermediate"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "worker_0.batch_rl_graph.csv").write_text(
        "Epoch,Logged Discounted Return,WIS (trajectory),WIS (trajectory) Low,WIS (trajectory) High\n1,20,21,19,23\n"
    )
    estimates = job.estimates()
    assert estimates.table().to_dict("records") == [
        {"estimator": "WIS", "epoch": 1, "value": 21, "lower": 19, "upper": 23}
    ]
    assert "logged policy: 20.0" in repr(estimates)
    assert "WIS 21 from 19 to 23" in estimates._repr_html_()


def test_a_program_that_is_no_notebook_shows_no_line(estimator, capsys):
    assert not notebook.in_notebook()
    estimator.fit(logs=False)
    assert "InProgress" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_notebook_shows_how_a_job_gets_on(make_source, tmp_path):
    """One output for the line, which ends as the job does, and the log below it."""
    import nbformat

    from tests.clients.notebooks import run_notebook

    source = make_source("import time\nprint('loss=0.25', flush=True)\ntime.sleep(1.5)")
    code = (
        "from launcher import Estimator\n"
        f"estimator = Estimator(entry_point='train.py', source_dir={source!r},\n"
        "    metric_definitions=[{'Name': 'loss', 'Regex': 'loss=([0-9.]+)'}])\n"
        "estimator.fit(job_name='in-a-notebook')"
    )
    cells = [nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("estimator.latest_training_job")]
    book = nbformat.v4.new_notebook(cells=cells)
    run_notebook(book, tmp_path / "run", working=tmp_path)
    [line] = [output for output in book.cells[0].outputs if output.output_type == "display_data"]
    assert re.search(r"in-a-notebook: Completed, \d", line.data["text/html"])
    assert "loss 0.25" in line.data["text/html"]
    printed = "".join(output.get("text", "") for output in book.cells[0].outputs)
    assert "loss=0.25" in printed
    assert "<figure>" in book.cells[1].outputs[0].data["text/html"]
