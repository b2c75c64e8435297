"""Every constraint of the served operations: a request is accepted or refused as the model says, in AWS's words."""

import re

import pytest

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker import OPERATIONS, answer
from tests.launcher.aws.mutants import mutants

COUNT = re.compile(r"([0-9]+) validation errors? detected: ")


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A home that nothing can be written to: what the model accepts has no effect."""
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    path = tmp_path / "file"
    path.write_text("")
    monkeypatch.setenv("LAUNCHER_HOME", str(path / "home"))
    return path / "home"


def judged(mutant, home):
    """Return what is otherwise than the model says; empty where nothing is."""
    try:
        answer(mutant.operation, mutant.document, home)
    except AwsError as error:
        code, message = error.code, error.message
    else:
        code, message = "", ""
    counted = COUNT.match(message)
    if not mutant.code:
        is_refused = code == "SerializationException" or counted
        return f"refused: {code}: {message:.200}" if is_refused else ""
    if not mutant.texts:
        return "" if code == mutant.code else f"{code}: {message:.200}"
    if code != mutant.code or counted is None:
        return f"not refused by the model: {code}: {message:.200}"
    if int(counted[1]) != len(mutant.texts) or any(text not in message for text in mutant.texts):
        return f"said {message:.400}, expected {mutant.texts}"
    return ""


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_constraint_of_an_operation_counts(operation, nowhere):
    cases = list(mutants(operation))
    assert len(cases) > 5
    failures = [f"{mutant.name}: {problem}" for mutant in cases if (problem := judged(mutant, nowhere))]
    assert failures == []


def test_there_are_ten_thousand_mutants():
    assert sum(1 for operation in OPERATIONS for _ in mutants(operation)) > 10_000
