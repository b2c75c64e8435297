"""Jobs that wait for others to end: in order, across processes, and never for ever."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import launcher
from launcher import errors
from launcher.jobs.folder import is_locked
from launcher.jobs.spec import TrainingJobSpec
from launcher.running import driving, places, runner
from launcher.running.accepting import accept
from launcher.running.limits import pending_limit
from launcher.running.places import Place, Share, names_in_queue, share_of, whole_share
from launcher.running.signals import Interrupts
from launcher.runtimes import machine
from tests.fakes import FakeRuntime
from tests.launcher.aws.lifecycles import ClockRuntime
from tests.launcher.test_spawner import process_of
from tests.shell import run_launcher

HOLDS = """
import sys, time
from pathlib import Path
from launcher.running.places import Place, Share
assert Place(Path(sys.argv[1]), "jobs-held", 1.0, Share(1, 1, 0)).enter(at_once=True)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def at_most(monkeypatch):
    return lambda count: monkeypatch.setenv("LAUNCHER_JOBS_AT_ONCE", str(count))


@pytest.fixture
def place(home):
    """Make a place, and give all of them back in the end."""
    places = []

    def make(created, name=None, share=None):
        places.append(Place(home, name or f"jobs-{created}", float(created), share or Share(1, 1, 0)))
        return places[-1]

    yield make
    for entry in places:
        entry.leave()


def test_places_are_given_in_the_order_of_submission(place, at_most):
    at_most(1)
    first, third, second = place(1), place(3), place(2)
    assert first.enter(at_once=False)
    assert not third.enter(at_once=False)
    assert not second.enter(at_once=False)
    first.leave()
    assert not third.may_run(), "the second came later, and was submitted before"
    assert second.may_run()
    second.leave()
    assert third.may_run()


def test_a_job_that_ran_before_goes_on_at_once(place, at_most):
    at_most(1)
    assert place(1).enter(at_once=False)
    assert place(2).enter(at_once=True)


def test_a_killed_driver_gives_its_place_back(place, at_most, home):
    at_most(1)
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(home)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        waiting = place(2)
        assert not waiting.enter(at_once=False)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    deadline = time.monotonic() + 30
    while not waiting.may_run():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(list((home / ".places").glob("[rw]*"))) == 1, "the dead ticket is gone"


def test_a_driver_that_is_suspended_is_passed_by(place, at_most, home):
    at_most(1)
    first, second, third = place(1), place(2), place(3)
    first.enter(at_once=False)
    second.enter(at_once=False)
    third.enter(at_once=False)
    first.leave()
    os.utime(second._ticket, (1, 1))
    assert third.may_run()
    assert not second.may_run(), "it has come back, and waits again"


def test_a_machine_is_full_when_what_the_types_ask_for_is_taken(place, at_most, monkeypatch):
    """8 CPUs and 32 GiB: 4 and 4, then memory; a job that is larger than the machine runs alone."""
    at_most("machine")
    monkeypatch.setattr(machine, "cpu_ids", lambda: list(range(8)))
    monkeypatch.setattr(machine, "memory_bytes", lambda: 32 << 30)
    half = Share(1, 4, 4 << 30)
    first, second, third, huge = place(1, share=half), place(2, share=half), place(3, share=half), place(4)
    assert first.enter(at_once=False)
    assert second.enter(at_once=False)
    assert not third.enter(at_once=False)
    huge._share = Share(1, 16, 64 << 30)
    assert not huge.enter(at_once=False)
    first.leave()
    assert third.may_run()
    assert not place(5).enter(at_once=False), "the huge job is before it: nobody passes it by for ever"
    second.leave()
    assert not huge.may_run()
    third.leave()
    assert huge.may_run()


def test_the_setting_says_how_many(monkeypatch, at_most):
    monkeypatch.setattr(machine, "cpu_ids", lambda: [0, 1, 2])
    assert whole_share().jobs == 12
    monkeypatch.setattr(machine, "cpu_ids", lambda: [0])
    assert whole_share().jobs == 8
    at_most("all")
    assert whole_share().jobs > 10**9
    for text in ("0", "-1", "many", "1.5"):
        at_most(text)
        with pytest.raises(errors.SettingsError, match="LAUNCHER_JOBS_AT_ONCE"):
            whole_share()


def test_what_a_job_takes_is_its_types_and_at_most_the_machine(monkeypatch):
    monkeypatch.setattr(machine, "cpu_ids", lambda: list(range(8)))
    monkeypatch.setattr(machine, "memory_bytes", lambda: 10 << 30)
    spec = TrainingJobSpec("job-1", "process", instance_type="ml.m5.xlarge", instance_count=2)
    assert share_of(spec) == Share(1, 8, 20 << 30), "4 CPUs and 16 GiB each, of which there are 10"
    assert share_of(TrainingJobSpec("job-1", "process")) == Share(1, 1, 0)


WAITS = "import time\nprint('ready', flush=True)\ntime.sleep(60)"


@pytest.fixture
def submit(make_source):
    def submit(name, script="pass", runtime=None, **options):
        estimator = launcher.Estimator(
            entry_point="train.py", source_dir=make_source(script, name), runtime=runtime or FakeRuntime(), **options
        )
        return estimator.submit(job_name=name)

    return submit


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def in_a_thread(job):
    thread = threading.Thread(target=lambda: job.wait(logs=False), daemon=True)
    thread.start()
    return thread


def states(job):
    return [transition["Status"] for transition in job.describe()["SecondaryStatusTransitions"]]


def is_pending(job):
    return job.describe()["SecondaryStatus"] == "Pending"


def test_a_job_waits_for_another_process_and_its_waiting_is_no_training_time(submit, store, at_most, home):
    """The first is driven by a process of its own. What the second waited is minutes, by its clock."""
    at_most(1)
    first = submit("first", WAITS, "process")
    first.detach()
    wait_until(lambda: "ready" in first.logs())
    second, third = submit("second"), submit("third")
    threads = [in_a_thread(second), in_a_thread(third)]
    wait_until(lambda: is_pending(second) and is_pending(third))
    rows = run_launcher("ls", cwd=home).stdout.splitlines()
    assert {row.split()[0]: row.split()[1] for row in rows[1:]} == {
        "first": "InProgress",
        "second": "Pending",
        "third": "Pending",
    }
    third.stop()
    threads[1].join(60)
    assert third.status == "Stopped"
    assert states(third) == ["Starting", "Pending", "Stopping", "Stopped"]
    assert "TrainingTimeInSeconds" not in third.describe(), "it never ran"
    assert not list((third.path).glob("work"))
    first.stop()
    threads[0].join(60)
    assert second.status == "Completed"
    assert states(second) == ["Starting", "Pending", "Downloading", "Training", "Uploading", "Completed"]
    record = store.load("second")
    assert record.run_seconds <= record.seconds_since("queued", None)
    assert second.describe()["TrainingStartTime"] >= first.describe()["TrainingEndTime"]


@pytest.mark.parametrize("limit", ["max_wait", "MaxPendingTimeInSeconds"])
def test_a_job_does_not_wait_longer_than_it_may(submit, store, at_most, place, monkeypatch, limit):
    at_most(1)
    monkeypatch.setenv("LAUNCHER_GPUS", "none")
    place(1, "jobs-another").enter(at_once=False)
    spot = {"use_spot_instances": True, "max_wait": 3600, "max_run": 3600}
    job = submit("job-1", instance_type="ml.g4dn.xlarge", **(spot if limit == "max_wait" else {}))
    record = store.load("job-1")
    if limit == "max_wait":
        record.marks["submitted"]["monotonic"] -= 3599
    else:
        record.spec["max_pending_seconds"] = 1800
    record.marks["queued"] = {**record.marks["submitted"], "monotonic": time.monotonic() - 1799}
    store.save("job-1", record)
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert states(job)[:3] == ["Starting", "Pending", "Stopping"]
    assert job.describe()["SecondaryStatus"] == ("MaxWaitTimeExceeded" if limit == "max_wait" else "Stopped")


def test_max_pending_time_counts_for_types_with_gpus_alone(make_source, home, store):
    """As with AWS."""
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source("pass"), runtime=FakeRuntime())
    request = estimator.request(job_name="job-1")
    request["StoppingCondition"]["MaxPendingTimeInSeconds"] = 1800
    accepted = accept(request, FakeRuntime())
    assert pending_limit(accepted.spec) == 0
    assert any("MaxPendingTimeInSeconds=1800 has no effect here" in line for line in accepted.warnings)


def test_a_driver_killed_while_its_job_waits_leaves_its_turn_to_the_next(submit, store, at_most, place):
    at_most(1)
    before = place(1, "jobs-another")
    before.enter(at_once=False)
    job = submit("job-1")
    driver = runner.Driver(store, "job-1", FakeRuntime())

    class Dead(BaseException):
        """A launcher that was killed."""

    def die():
        raise Dead

    driver._interrupts.check = die
    driver.give_up = lambda error: None
    with pytest.raises(Dead):
        driver.run()
    assert job.describe()["SecondaryStatus"] == "Pending"
    thread = in_a_thread(job)
    before.leave()
    thread.join(60)
    assert job.status == "Completed"
    assert states(job).count("Pending") == 1


def test_waiting_in_a_queue_of_the_runtime_is_no_training_time(submit, store):
    runtime = FakeRuntime(queue_seconds=2)
    job = submit("job-1", runtime=runtime)
    job.wait(logs=False)
    record = store.load("job-1")
    assert job.status == "Completed"
    assert record.billable_seconds <= record.ended - record.created - 1.9


def test_a_job_that_waits_too_long_in_a_queue_of_the_runtime_is_stopped(submit, store, monkeypatch):
    monkeypatch.setenv("LAUNCHER_GPUS", "none")
    job = submit("job-1", WAITS, runtime=FakeRuntime(queue_seconds=600), instance_type="ml.g4dn.xlarge")
    record = store.load("job-1")
    record.spec["max_pending_seconds"] = 1
    store.save("job-1", record)
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert states(job) == ["Starting", "Downloading", "Pending", "Stopping", "Uploading", "Stopped"]


def test_a_look_of_one_among_many_that_wait_asks_for_few_locks(place, at_most, monkeypatch):
    """All look when one begins: if each asked for all locks, ten thousand would ask a hundred million times."""
    at_most(1)
    first = place(0)
    assert first.enter(at_once=False)
    waiting = [place(number) for number in range(1, 100)]
    assert not any(entry.enter(at_once=False) for entry in waiting)
    asked = []
    monkeypatch.setattr(places, "is_locked", lambda path: asked.append(path) or is_locked(path))
    first.leave()
    assert [entry.may_run() for entry in waiting] == [True] + 98 * [False]
    assert len(asked) < 3 * len(waiting)


# Jobs that nobody drives


@pytest.fixture
def undriven(store, submit, monkeypatch):
    """Submit jobs that nobody drives, and that are old enough for others to see to them; return their names."""
    monkeypatch.setattr(driving, "_SETTLING_SECONDS", 0.0)

    def undriven(names, script="pass", runtime=None, **options):
        for name in names:
            submit(name, script, runtime, **options)
        return names

    return undriven


def taken_up(store, names):
    return driving.take_up_all(store.home, [(store, name, store.load(name)) for name in names])


class Drivers:
    """Starts threads in place of processes, on a runtime whose hosts are clocks, and counts them."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.started = []
        self.refused = set()
        self.most = self.alive = 0
        self.lock = threading.Lock()

    def start(self, store, name):
        with self.lock:
            self.started.append(name)
            self.alive += 1
            self.most = max(self.most, self.alive)
        threading.Thread(target=self.drive, args=(store, name), daemon=True).start()

    def drive(self, store, name):
        with contextlib.suppress(errors.SettingsError):
            runtime = self.runtime if name not in self.refused else None
            driving.drive_in_thread(store, name, runtime, Interrupts())
        with self.lock:
            self.alive -= 1


@pytest.fixture
def drivers(monkeypatch):
    drivers = Drivers(ClockRuntime())
    monkeypatch.setattr(driving, "drive_detached", drivers.start)
    return drivers


@pytest.mark.slow
def test_a_list_of_many_jobs_without_drivers_starts_few_and_all_jobs_run_once(undriven, store, at_most, drivers):
    """Two run and one waits for the next place; a driver is counted until it has started the next one's."""
    at_most(2)
    names = undriven(
        [f"job-{number:02}" for number in range(40)],
        runtime=drivers.runtime,
        environment={"SECONDS": "0.05", "CODE": "0"},
    )
    lines = taken_up(store, reversed(names))
    assert sorted(drivers.started[:3]) == names[:3]
    assert lines[-1] == "37 jobs wait for other jobs to end: a driver is started for them then"
    assert len(lines) == 4
    wait_until(lambda: all(store.load(name).terminal for name in names) and not drivers.alive)
    assert {store.load(name).status for name in names} == {"Completed"}
    assert drivers.started == names, "in the order of their submission, each once"
    assert drivers.most <= 5
    assert not names_in_queue(store.home)


def test_jobs_in_the_queue_that_ended_or_are_gone_or_cannot_be_driven_hold_nobody_up(
    undriven, store, at_most, drivers, monkeypatch
):
    at_most(1)
    clock = {"runtime": drivers.runtime, "environment": {"SECONDS": "0", "CODE": "0"}}
    names = undriven([f"job-{number}" for number in range(6)], **clock)
    for name in names:
        record = store.load(name)
        places.Place(store.home, f"jobs-{name}", record.created, share_of(record.hosts_spec)).queue()
    store.remove("job-0")
    store.folder("job-1").record_path.write_text("damaged")
    drivers.refused = {"job-2", "job-3"}
    for name in drivers.refused:  # of another home's settings
        record = store.load(name)
        record.spec["runtime"] = "unheard-of"
        store.save(name, record)
    assert len(taken_up(store, [])) == 2
    wait_until(lambda: store.load("job-4").terminal and store.load("job-5").terminal and not drivers.alive)
    assert drivers.started == names[2:]
    assert not names_in_queue(store.home)


def test_a_job_that_has_begun_or_is_to_stop_gets_its_driver_at_once(undriven, store, at_most, drivers, monkeypatch):
    """Its hosts may run, and somebody has to see that they end; a stop needs no place."""
    at_most(1)
    undriven(["first", "second", "begun", "stopping"])
    record = store.load("begun")
    record.steps["fetch_channels"] = 1.0
    store.save("begun", record)
    store.folder("stopping").request_stop()
    monkeypatch.setattr(driving, "drive_detached", lambda _, name: drivers.started.append(name))
    taken_up(store, ["begun", "stopping", "second", "first"])
    assert drivers.started == ["begun", "stopping", "first", "second"]


def test_a_driver_that_was_started_and_never_came_is_started_again(undriven, store, at_most, drivers, monkeypatch):
    at_most(1)
    undriven(["first", "second", "third"])
    monkeypatch.setattr(driving, "drive_detached", lambda _, name: drivers.started.append(name))
    taken_up(store, ["first", "second", "third"])
    assert drivers.started == ["first", "second"]
    taken_up(store, [])
    assert drivers.started == ["first", "second"], "they may still come"
    for ticket in (store.home / ".places").glob("queued.*"):
        os.utime(ticket, (1, 1))
    taken_up(store, [])
    assert drivers.started == ["first", "second"] * 2


@pytest.mark.slow
def test_a_queue_of_jobs_without_drivers_survives_the_kill_of_one_that_waits(undriven, store, at_most, home, tmp_path):
    """Real processes, one place: the first runs, the second's driver waits and is killed, the third has none."""
    at_most(1)
    go = tmp_path / "go"
    script = f"import os, time\nprint('ready', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
    names = undriven(["first", "second", "third"], script, "process")
    taken_up(store, ["first"])
    log = store.folder("first").log_path("algo-1")
    wait_until(lambda: log.exists() and "ready" in log.read_text())  # whose driver comes first may run first
    assert [line.split("'")[1] for line in taken_up(store, names[1:])[:1]] == ["second"]
    wait_until(lambda: is_pending(launcher.TrainingJob("second")))
    waiting = process_of(store.folder("second").lock_path)
    os.kill(waiting, signal.SIGKILL)
    wait_until(lambda: not store.folder("second").driven())
    for ticket in (home / ".places").glob("queued.*second"):
        os.utime(ticket, (1, 1))  # it was started some time ago
    assert not store.folder("third").driver_log_path.exists()
    go.touch()
    wait_until(lambda: all(store.load(name).terminal for name in names))
    assert {store.load(name).status for name in names} == {"Completed"}
    assert [store.folder(name).log_path("algo-1").read_text().count("ready") for name in names] == [1, 1, 1]
    assert not names_in_queue(home)
