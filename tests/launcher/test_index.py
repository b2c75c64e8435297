"""The index of a home: it says the same as the records, whoever writes, is killed, or damages it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.jobs import index
from launcher.jobs.index import INDEX_FILE, list_entries, names_by_age, signatures
from launcher.jobs.kinds import PROCESSING_JOBS, TRAINING_JOBS, TUNING_JOBS
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import JobStore
from launcher.jobs.tags import change_tags
from tests.shell import run_launcher

ROOT = Path(__file__).parents[2]
ENDS = [Status.COMPLETED, Status.FAILED, Status.STOPPED]


def record(name, created=1.0, status=Status.COMPLETED):
    spec = TrainingJobSpec(job_name=name, runtime="process")
    return JobRecord(
        spec=spec.to_dict(),
        created=created,
        status=status,
        secondary_status=SecondaryStatus.TRAINING if status == Status.IN_PROGRESS else SecondaryStatus(status),
        ended=None if status == Status.IN_PROGRESS else created + 5,
        failure_reason="AlgorithmError: it broke" if status == Status.FAILED else "",
    )


def listed(home, **filters):
    return [entry.name for entry in list_entries(home, [TRAINING_JOBS], **filters).entries]


def by_records(store):
    """Return what the records say, the newest first."""
    return sorted(
        ((entry.created, name, str(entry.status), entry.modified) for name, entry in store.records()[0]), reverse=True
    )


def by_index(home):
    return [
        (entry.created, entry.name, entry.status, entry.modified)
        for entry in list_entries(home, [TRAINING_JOBS]).entries
    ]


@pytest.fixture
def trusting(monkeypatch):
    """An index that looks at no ended record by chance, as in a home with very many."""
    monkeypatch.setattr(index, "_LOOKED_AT", 0)


@pytest.fixture
def jobs(store):
    for number in range(9):
        store.create(f"job-{number}", record(f"job-{number}", float(number), ENDS[number % 3]))
    store.create("running", record("running", 100.0, Status.IN_PROGRESS))
    return store


def test_filters_orders_and_pages(jobs, home):
    """By hand: 0 to 8 were made in this order; 1, 4 and 7 have failed."""
    failed = list_entries(home, [TRAINING_JOBS], statuses=["Failed"], limit=2)
    assert [entry.name for entry in failed.entries] == ["job-7", "job-4"]
    assert (failed.total, failed.entries[0].failure_reason) == (3, "AlgorithmError: it broke")
    assert listed(home, statuses=["Failed"], limit=2, after=(4.0, "job-4")) == ["job-1"]
    assert listed(home, statuses=["Failed"], limit=2, offset=2) == ["job-1"]
    assert listed(home, statuses=["Stopped", "InProgress"], descending=False) == ["job-2", "job-5", "job-8", "running"]
    assert listed(home, created=(3.0, 5.0)) == ["job-5", "job-4", "job-3"]
    assert listed(home, name_contains="b-8") == ["job-8"]
    assert listed(home, sort_by="name", descending=False, limit=2) == ["job-0", "job-1"]
    assert listed(home, sort_by="status", limit=3) == ["job-8", "job-5", "job-2"]
    assert listed(home, terminal=False) == ["running"]
    assert listed(home, modified=(time.time() + 60, None)) == []
    assert listed(home, statuses=["Stopping"], shown_as={"Stopping": ["running", "job-1"]}) == ["running", "job-1"]
    assert names_by_age(jobs, limit=2) == ["running", "job-8"]
    assert list_entries(home, [PROCESSING_JOBS, TUNING_JOBS]).entries == []


def test_a_place_of_another_order_is_refused(jobs, home):
    with pytest.raises(TypeError, match="no place 'job-1'"):
        listed(home, after=("job-1", "job-1"))


def test_every_change_shows_without_a_look_at_what_has_ended(jobs, home, trusting):
    """Made, ended, written again, tagged, removed, and made again under the name of a job that was removed by hand."""
    assert by_index(home) == by_records(jobs)
    tags = dict(signatures(jobs))
    ended = jobs.load("running")
    ended.status, ended.secondary_status = Status.FAILED, SecondaryStatus.FAILED
    jobs.save("running", ended)
    changed = jobs.load("job-0")
    changed.created = 50.0
    jobs.save("job-0", changed)
    change_tags(jobs, "job-3", lambda _: {"team": "rl"})
    jobs.create("new", record("new", 200.0))
    jobs.remove("job-5")
    shutil.rmtree(jobs.folder("job-6").path)
    jobs.create("job-6", record("job-6", 300.0, Status.FAILED))
    assert by_index(home) == by_records(jobs)
    assert [entry.name for entry in list_entries(home, [TRAINING_JOBS]).entries[:2]] == ["job-6", "new"]
    assert {name for name, signature in signatures(jobs) if tags.get(name) not in (None, signature)} == {
        *("running", "job-0", "job-3", "job-6")
    }


def test_the_command_line_filters_by_status_and_name(jobs, home, tmp_path):
    def run(*arguments):
        return run_launcher("ls", *arguments, cwd=tmp_path)

    jobs.remove("running")
    failed = run("--status", "failed", "--json", "-n", "2")
    assert [job["TrainingJobName"] for job in json.loads(failed.stdout)] == ["job-7", "job-4"]
    lines = run("-s", "Stopped", "-s", "Failed", "--name", "-8").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["JOB", "STATUS"], ["job-8", "Stopped"]]
    assert run("--name", "nothing").stdout == f"no such jobs in {home}\n"
    wrong = run("--status", "Broken")
    assert (wrong.returncode, "is not the status of a job" in wrong.stderr) == (2, True)


def test_an_edit_by_hand_shows(jobs, home):
    assert listed(home, statuses=["Failed"], limit=1) == ["job-7"]
    path = jobs.folder("job-8").record_path
    path.write_text(path.read_text().replace('"Stopped"', '"Failed"'))
    assert listed(home, statuses=["Failed"], limit=1) == ["job-8"]


def test_a_record_that_cannot_be_read_hides_no_other_and_is_named(jobs, home):
    jobs.folder("job-8").record_path.write_text("{")
    listing = list_entries(home, [TRAINING_JOBS])
    assert len(listing.entries) == 9
    assert [str(error).partition(" is no record")[0].partition(":")[0] for error in listing.errors] == ["job 'job-8'"]
    jobs.remove("job-8")
    assert list_entries(home, [TRAINING_JOBS]).errors == []


def test_a_claim_is_no_job_and_a_link_to_one_is_no_other(jobs, home):
    (jobs.path / "latest").symlink_to("job-8")
    with jobs.claim("coming") as claim:
        assert len(listed(home)) == 10
        claim.record(record("coming", 500.0))
        assert listed(home, limit=1) == ["coming"]
    assert len(listed(home)) == 11


@pytest.mark.parametrize("damage", ["removed", "empty", "no database", "torn", "of another version"])
def test_a_damaged_index_is_made_again(jobs, home, damage, trusting):
    before = by_index(home)
    path = home / INDEX_FILE
    whole = path.read_bytes()
    match damage:
        case "removed":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "no database":
            path.write_bytes(os.urandom(10_000))
        case "torn":
            path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))
        case "of another version":
            path.write_bytes(whole[:60] + (99).to_bytes(4, "big") + whole[64:])
    assert by_index(home) == before == by_records(jobs)
    assert by_index(home) == before  # from the file that was just written
    assert path.read_bytes()[60:64] == (1).to_bytes(4, "big")


def test_an_index_that_cannot_be_written_costs_no_list_and_no_job(jobs, home):
    (home / INDEX_FILE).mkdir()
    assert by_index(home) == by_records(jobs)
    jobs.create("new", record("new", 200.0))
    assert by_index(home) == by_records(jobs)
    assert {path.name for path in home.iterdir()} == {INDEX_FILE, "index.lock", "jobs"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_who_looks_at_the_home_of_somebody_else_leaves_nothing_in_it(jobs, home):
    os.chown(home, 12345, 12345)
    assert by_index(home) == by_records(jobs)
    assert [path.name for path in home.iterdir()] == ["jobs"]


def test_an_empty_home_is_not_made(home):
    assert listed(home) == []
    assert not home.exists()


_WRITER = """
import random, sys
from launcher.errors import LauncherError
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import JobStore
from launcher.jobs.tags import change_tags
from tests.launcher.test_index import list_entries, record, TRAINING_JOBS
from launcher.jobs import index
from pathlib import Path

index._LOOKED_AT = 0
home, seed = Path(sys.argv[1]), int(sys.argv[2])
store, chance = JobStore(home), random.Random(seed)
print("begun", flush=True)
while True:
    name = f"job-{chance.randrange(12)}"
    try:
        match chance.randrange(6):
            case 0 | 1:
                store.create(name, record(name, chance.random(), Status.IN_PROGRESS))
            case 2 | 3:
                with store.folder(name).driving(wait=False) as had:
                    if had:
                        job = store.load(name)
                        job.status, job.secondary_status = Status.FAILED, SecondaryStatus.FAILED
                        job.created = chance.random()
                        store.save(name, job)
                        store.save(name, job)
            case 4:
                store.remove(name)
            case 5:
                list_entries(home, [TRAINING_JOBS])
    except (LauncherError, OSError):
        pass  # another one was first
"""


def churn(home, seed, rounds):
    """Kill writers at random moments, and damage the index; after each kill it says what the records say."""
    chance, store = random.Random(seed), JobStore(home)

    def start(number):
        command = [sys.executable, "-c", _WRITER, str(home), str(number)]
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)

    writers = [start(seed * 1000 + number) for number in range(3)]
    try:
        for number in range(rounds):
            assert writers[0].stdout.readline() == b"begun\n"
            time.sleep(chance.uniform(0.05, 0.3))
            if chance.random() < 0.3:
                (home / INDEX_FILE).unlink(missing_ok=True)
            with writers.pop(0) as killed:
                killed.kill()
            writers.append(start(seed * 1000 + 3 + number))
            for writer in writers:
                writer.send_signal(signal.SIGSTOP)
            for writer in writers:
                os.waitid(os.P_PID, writer.pid, os.WSTOPPED | os.WNOWAIT)
            assert by_index(home) == by_records(store), f"seed {seed}, round {number}"
            for writer in writers:
                writer.send_signal(signal.SIGCONT)
    finally:
        for writer in writers:
            with writer:
                writer.kill()
    assert by_index(home) == by_records(store), f"seed {seed}"
    assert by_index(home) == by_records(store)
    assert {path.name for path in home.iterdir()} <= {INDEX_FILE, "index.lock", "index.sqlite3.part", "jobs"}


def test_writers_that_are_killed_leave_an_index_that_says_what_the_records_say(home, trusting):
    home.mkdir()
    churn(home, seed=1, rounds=6)


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 5))
def test_writers_that_are_killed_at_many_moments(home, trusting, seed):
    home.mkdir()
    churn(home, seed, rounds=15)
