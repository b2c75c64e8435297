"""``launcher deploy`` and ``launcher endpoints``, as a shell sees them."""

import csv
import json

import pytest

from launcher.endpoints import service
from launcher.jobs.store import EndpointStore
from launcher.sdk.predictor import Predictor
from tests.launcher.endpoints.test_deployed import HANDLERS
from tests.shell import run_launcher

BODY = '{"instances": [[0.1, 0.2]]}'


@pytest.fixture
def run(tmp_path, home):
    def run(*arguments, code=0):
        answer = run_launcher(*arguments, cwd=tmp_path)
        assert answer.returncode == code, answer.stderr + answer.stdout
        return answer.stdout + answer.stderr

    yield run
    for name in EndpointStore(home).names():
        service.delete_endpoint(name, home)


def test_an_endpoint_from_its_deployment_to_the_dataset_of_its_log(run, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "inference.py").write_text(HANDLERS)
    said = run("deploy", "e", "--model-data", "model", "--capture", "decisions", "-r", "process")
    assert "e: InService at http://127.0.0.1:" in said
    assert "already existing endpoint" in run("deploy", "e", "--model-data", "model", "-r", "process", code=2)
    assert json.loads(run("endpoints", "describe", "e", "--json"))["EndpointStatus"] == "InService"
    assert [row["EndpointName"] for row in json.loads(run("endpoints", "ls", "--json"))] == ["e"]

    assert "e: InService with weights AllTraffic=3" in run("endpoints", "update", "e", "--weights", "AllTraffic=3")
    assert "is not VARIANT=WEIGHT" in run("endpoints", "update", "e", "--weights", "AllTraffic", code=2)
    assert "cannot be combined with another change" in run(
        "endpoints", "update", "e", "--weights", "a=1", "--instance-count", "2", code=2
    )

    for step in range(2):
        answer = run(
            "endpoints", "invoke", "e", BODY, "--inference-id", f"r-{step}", "--episode-id", "7", "--step", str(step)
        )
        assert f"inference id: r-{step}" in answer
        assert '"predictions": [[0.25, 0.75]]' in answer
    run("endpoints", "reward", "e", "r-0", "0.5")
    run("endpoints", "reward", "e", "r-1", "1", "--terminated")
    assert "2 rows in 1 episodes" in run("endpoints", "dataset", "e", "-o", "log.csv")
    assert Predictor("e").write_dataset(tmp_path / "by-python.csv").rows == 2
    assert "serve: ready" in run("endpoints", "logs", "e")

    run("endpoints", "delete", "e")
    assert "no endpoints in" in run("endpoints", "ls")
    assert "Could not find endpoint" in run("endpoints", "describe", "e", code=2)
    run("endpoints", "dataset", "e", "--capture", "decisions", "-o", "again.csv")
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [(row["episode_id"], row["step"], row["reward"], row["terminated"]) for row in rows] == [
        ("7", "0", "0.5", "0"),
        ("7", "1", "1.0", "1"),
    ]
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "log.csv").read_text()
    assert (tmp_path / "by-python.csv").read_text() == (tmp_path / "log.csv").read_text()


def test_what_is_served_has_to_be_said(run):
    assert "no model is named" in run("deploy", "e", code=2)
    assert "is not NAME=VALUE" in run("deploy", "e", "--model-data", ".", "--env", "A", code=2)
