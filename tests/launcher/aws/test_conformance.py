"""Every constraint of the served operations: a request is accepted or refused as the model says, in AWS's words."""

import random
import re
import time

import pytest

from launcher.aws.sagemaker import OPERATIONS
from launcher.requests.shapes import _model
from launcher.requests.validation import find_violations
from tests.launcher.aws.conformance import judged
from tests.launcher.aws.mutants import Mutant, model, mutants

MOST = 2500
"""How many mutants of an operation are tried here; all of them: python -m tests.launcher.aws.conformance."""


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A home that nothing can be written to: what the model accepts has no effect."""
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    path = tmp_path / "file"
    path.write_text("")
    monkeypatch.setenv("LAUNCHER_HOME", str(path / "home"))
    return path / "home"


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_constraint_of_an_operation_counts(operation, nowhere):
    cases = list(mutants(operation))
    assert len(cases) > 5
    if len(cases) > MOST:
        cases = random.Random(operation).sample(cases, MOST)
    failures = [f"{mutant.name}: {problem}" for mutant in cases if (problem := judged(mutant, nowhere))]
    assert failures == []


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
