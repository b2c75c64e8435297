"""Every constraint of the served operations: a request is accepted or refused as the model says, in AWS's words."""

import random
import re
import time

import pytest

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker import OPERATIONS, answer
from launcher.requests.shapes import _model
from launcher.requests.validation import find_violations
from tests.launcher.aws.mutants import Mutant, model, mutants

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


def test_several_violations_are_joined_as_aws_joins_them(nowhere):
    """The changes of two members of a request, drawn by chance: each is named, and they are counted."""
    chance = random.Random(0)
    for operation in ("CreateTrainingJob", "CreateModel", "ListTrainingJobs", "UpdateEndpoint"):
        by_member = {}
        for mutant in mutants(operation):
            if len(mutant.texts) == 1:
                place = re.search(r" at '([^'.]+)", mutant.texts[0])[1]
                member = next(
                    name for name in model().operation_model(operation).input_shape.members if lowered(name) == place
                )
                if member in mutant.document:
                    by_member.setdefault(member, []).append(mutant)
        assert len(by_member) > 1
        for _ in range(100):
            names = chance.sample(sorted(by_member), 2)
            pair = {name: chance.choice(by_member[name]) for name in names}
            first, second = pair.values()
            document = {**first.document, **second.document, **{name: pair[name].document[name] for name in names}}
            both = Mutant(
                operation, f"{first.name} and {second.name}", document, first.code, first.texts + second.texts
            )
            assert judged(both, nowhere) == "", both.name


def lowered(name):
    return name[0].lower() + name[1:]


@pytest.mark.parametrize(
    "text",
    ["-" * 100_000, "a" * 100_000 + "!", "a-" * 50_000 + "!", "s3://" + "a/" * 50_000, "0" * 100_000, "a" * (8 << 20)],
)
def test_a_hostile_text_takes_no_pattern_long(text):
    began = time.monotonic()
    for pattern, name in {
        shape["pattern"]: name for name, shape in _model()["shapes"].items() if "pattern" in shape
    }.items():
        list(find_violations(text, name))
        assert time.monotonic() - began < 20, pattern
