"""Random requests go to each engine, and Describe gives all of them back; benchmarks/random_requests.py sends 1,000."""

import copy
import functools

import pytest

from tests.another_aws import another_aws, client_variables
from tests.random_requests import differences, drawn, expected, members_of
from tests.request_engines import AsAws, OnHeldSlurm, OverSsh, ThisMachine, an_empty_image, send_until


@functools.cache
def some():
    return drawn(400, seed=16, variety=4)


@pytest.fixture(autouse=True)
def _types_with_gpus_run_without(monkeypatch):
    monkeypatch.setenv("LAUNCHER_GPUS", "none")


def check(engine, count):
    """Send so many requests that the engine takes: nothing of them is lost."""
    taken, lost, refusals = send_until(engine, some(), count)
    assert (taken, lost) == (count, []), refusals


def test_the_requests_have_every_member_that_is_taken():
    assert members_of(some())[1] == []


def test_whatever_is_taken_from_an_answer_or_put_into_it_is_seen():
    for document in some()[:8]:
        answer = expected(document)
        assert differences(document, answer) == []
        for path in leaves(answer):
            assert differences(document, without(answer, path)), path
        assert differences(document, {**answer, "Invented": 1}) == ["Invented is added: 1"]
        assert differences(document, {**answer, "TrainingJobName": "other"})


def leaves(value, path=()):
    """Yield the way to each value that is neither a mapping nor a list."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))
    if not isinstance(value, dict | list):
        yield path


def without(answer, path):
    answer = inner = copy.deepcopy(answer)
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return answer


def test_a_process_gives_them_back(tmp_path, home):
    check(ThisMachine("process", tmp_path / "work", home), 20)


@pytest.mark.docker
def test_docker_gives_them_back(tmp_path, home, empty_image):
    check(ThisMachine("docker", tmp_path / "work", home, images=(empty_image,)), 10)


def test_slurm_gives_them_back_before_and_after_it_has_taken_the_job(slurm, tmp_path, home, monkeypatch):
    """The cluster holds the job, so it does not run."""
    monkeypatch.setenv("LAUNCHER_SLURM_OPTIONS", "--hold")
    check(OnHeldSlurm(tmp_path / "work", home, held=1), 8)


def test_another_machine_gives_them_back_here_and_there(box, tmp_path, home):
    check(OverSsh(box, tmp_path / "work", home), 5)


def test_mode_aws_gives_them_back(tmp_path, home, monkeypatch, aws):
    for name, text in client_variables(aws).items():
        monkeypatch.setenv(name, text)
    check(AsAws(tmp_path / "work"), 5)


@pytest.fixture
def empty_image():
    """An image of somebody else's: nothing of it runs here."""
    with an_empty_image() as name:
        yield name


@pytest.fixture
def aws(tmp_path):
    """A server that has one place for jobs."""
    with another_aws(tmp_path / "aws", LAUNCHER_JOBS_AT_ONCE="1", LAUNCHER_GPUS="none") as url:
        yield url
