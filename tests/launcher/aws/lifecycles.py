"""Training jobs under operations in any order, and what has to be true of them at every moment.

    python -m tests.launcher.aws.lifecycles 2000          that many jobs, from creation to their end or deletion

Records, folders, locks, drivers and operations are the real ones; what runs in the jobs is a clock.
"""

import itertools
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker import answer
from launcher.jobs.states import MOVES, STATUSES, Status
from launcher.jobs.store import JobStore
from launcher.running import driving
from launcher.running.runner import Driver
from launcher.runtimes import Execution, HostState, Runtime
from tests.launcher.aws.clients import training_job

ENDED = {status for status in Status if status.terminal}
REJECTED = "The request was rejected because the training job is in status "


class ClockExecution(Execution):
    """A host that ends by itself after some time, or when it is told to."""

    def __init__(self, seconds, code):
        self.ends, self.code = time.monotonic() + seconds, code
        self.told = threading.Event()

    @property
    def reference(self):
        return {"runtime": "clock"}

    def state(self):
        return HostState.ENDED if self.wait(0) is not None else HostState.RUNNING

    def wait(self, timeout_seconds):
        if self.told.wait(max(0.0, min(timeout_seconds, self.ends - time.monotonic()))):
            return 143
        return self.code if time.monotonic() >= self.ends else None

    def terminate(self):
        if time.monotonic() < self.ends:
            self.told.set()

    kill = terminate

    def remove(self):
        self.terminate()


class ClockRuntime(Runtime):
    """Runs nothing; the hyperparameter of a job says how long that takes, and how it ends."""

    name = "process"
    network_interface = "lo"
    host_address = "127.0.0.1"

    def __init__(self):
        self.executions = {}

    def check(self, container):
        """Everything can be run."""

    def describe_image(self, container):
        return "clock"

    def prepare(self, container):
        """Nothing to prepare."""

    def start(self, container):
        seconds, code = float(container.environment["SECONDS"]), int(container.environment["CODE"])
        self.executions[container.job_name] = ClockExecution(seconds, code)
        return self.executions[container.job_name]

    def find(self, container):
        return self.executions.get(container.job_name)


class Jobs:
    """The jobs of a home, and what their clients have seen of them.

    Args:
        home: where they live.
        patch: pytest's, for as long as the test takes.
    """

    def __init__(self, home, patch):
        self.home = home
        self.store = JobStore(home)
        self.seen = {}
        self.ended = 0
        self.drivers = []
        self._runtime = ClockRuntime()
        self._lock = threading.Lock()
        patch.setattr(driving, "drive_detached", self._drive)
        patch.setenv("LAUNCHER_HOME", str(home))
        patch.setenv("LAUNCHER_RUNTIME", "process")
        patch.setenv("LAUNCHER_S3_ENDPOINT", "http://127.0.0.1:9")  # no job has an S3, and no server is started

    def _drive(self, store, name):
        thread = threading.Thread(target=self._see_through, args=(store, name), daemon=True)
        self.drivers.append(thread)
        thread.start()

    def _see_through(self, store, name):
        with store.folder(name).driving(wait=False) as had:
            if had and not store.load(name).terminal:
                Driver(store, name, self._runtime).run()

    def ask(self, operation, name, **members):
        """Return the answer, or the error."""
        try:
            return answer(operation, {"TrainingJobName": name, **members}, self.home)
        except AwsError as error:
            return error

    def create(self, name, seconds, code):
        """Create a job; refused if there is one."""
        document = training_job(
            name,
            Environment={"SECONDS": str(seconds), "CODE": str(code)},
            OutputDataConfig={"S3OutputPath": f"file://{self.home}/results"},
        )
        answered = answer_or_error(document, self.home)
        if name in self.seen:
            assert answered.code == "ResourceInUse", answered
        elif isinstance(answered, AwsError):
            # Another client was faster, or results of a deleted job of that name are there.
            assert answered.code == "ResourceInUse" or "is there already" in answered.message, answered
        else:
            assert answered["TrainingJobArn"].endswith(f"/{name}")
            self.seen[name] = Status.IN_PROGRESS

    def describe(self, name):
        """Describe a job; its status is one that the last one may become."""
        answered = self.ask("DescribeTrainingJob", name)
        if name not in self.seen:
            assert answered.message == "Requested resource not found.", answered
            return None
        assert not isinstance(answered, AwsError), answered
        self.note(name, answered["TrainingJobStatus"])
        assert Status(answered["TrainingJobStatus"]) in STATUSES[answered["SecondaryStatus"]]
        moves = answered["SecondaryStatusTransitions"]
        assert all(move["EndTime"] == following["StartTime"] for move, following in itertools.pairwise(moves))
        assert len({move["Status"] for move in moves}) == len(moves), "no state is entered twice"
        if answered["TrainingJobStatus"] in ENDED:
            assert moves[-1]["Status"] == answered["SecondaryStatus"]
        return answered["TrainingJobStatus"]

    def stop(self, name):
        """Stop a job; refused if it has ended."""
        answered = self.ask("StopTrainingJob", name)
        if name not in self.seen:
            assert answered.message == "Requested resource not found.", answered
        elif isinstance(answered, AwsError):
            assert answered.message.startswith(REJECTED), answered
            status = Status(answered.message.removeprefix(REJECTED).rstrip("."))
            assert status in ENDED
            self.note(name, status)
        else:
            assert self.seen[name] not in ENDED, "a job that has ended was stopped"

    def delete(self, name):
        """Delete a job; refused unless it has ended."""
        answered = self.ask("DeleteTrainingJob", name)
        if name not in self.seen:
            assert answered.message == "Requested resource not found.", answered
        elif isinstance(answered, AwsError):
            assert answered.code == "ResourceInUse", answered
            assert self.seen[name] not in ENDED
        else:
            self.end(name)

    def list(self):
        """List the jobs, page by page: all that there are, and no other."""
        listed, token = {}, {}
        while token is not None:
            page = answer("ListTrainingJobs", {"MaxResults": 7, "SortBy": "Name", **token}, self.home)
            listed |= {job["TrainingJobName"]: job["TrainingJobStatus"] for job in page["TrainingJobSummaries"]}
            token = {"NextToken": page["NextToken"]} if "NextToken" in page else None
        return listed

    def check_list(self):
        """No job is lost, none is there that was deleted, and their statuses are legal."""
        listed = self.list()
        assert set(listed) == set(self.seen)
        for name, status in listed.items():
            self.note(name, status)

    def note(self, name, status):
        """Remember what was seen of a job, if it may follow what was seen before."""
        before, status = self.seen[name], Status(status)
        reachable = MOVES[before] | {before} | ({Status.STOPPED} if before is Status.IN_PROGRESS else set())
        assert status in reachable, f"{name} was {before} and is {status}"
        self.seen[name] = status

    def end(self, name):
        """Forget a job whose life is over."""
        del self.seen[name]
        with self._lock:
            self.ended += 1

    def finish(self):
        """Wait for all jobs, and check that each has come to an end."""
        deadline = time.monotonic() + 120
        for name in list(self.seen):
            while self.describe(name) not in ENDED:
                assert time.monotonic() < deadline, f"{name} does not end"
                time.sleep(0.02)
        self.check_list()
        for thread in self.drivers:
            thread.join(10)
        for name in list(self.seen):
            self.delete(name)
        assert self.list() == {}
        left = [path for path in self.store.path.glob("*") if not path.name.startswith(".")]  # marks for the index stay
        assert left == [], "nothing is left of deleted jobs"


def answer_or_error(document, home):
    """Return the answer to CreateTrainingJob, or the error."""
    try:
        return answer("CreateTrainingJob", document, home)
    except AwsError as error:
        return error


def wander(jobs, prefix, count, chance):
    """Let a client of its own do what it likes with jobs that nobody else touches, until it has made ``count``."""
    made = 0
    while made < count:
        own = [name for name in list(jobs.seen) if name.startswith(prefix)]
        name = chance.choice(own) if own and chance.random() < 0.9 else f"{prefix}{made}"
        match chance.choices(["create", "describe", "stop", "delete", "list"], [4, 6, 2, 3, 1])[0]:
            case "create":
                name = f"{prefix}{made}" if chance.random() < 0.8 else name
                before = name in jobs.seen
                jobs.create(name, chance.choice([0, 0.05, 0.3]), chance.choice([0, 0, 1]))
                made += not before
            case "list":
                assert set(own) <= set(jobs.list())
            case other:
                getattr(jobs, other)(name)


def main(lifecycles, clients=8, seed=None):
    """Run lifecycles by several clients at once, and say how it went."""
    seed = seed if seed is not None else random.randrange(1 << 30)
    print(f"seed {seed}")
    began, errors = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        home = Path(folder) / "home"
        jobs = Jobs(home, patch)

        def be_client(number):
            try:
                wander(jobs, f"client-{number}-", lifecycles // clients, random.Random(seed + number))
            except BaseException as error:
                errors.append(error)
                raise

        threads = [threading.Thread(target=be_client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        jobs.finish()
        seconds = time.monotonic() - began
        print(f"{jobs.ended} lifecycles by {clients} clients in {seconds:.0f} s: no illegal move, no lost job")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, seed=int(sys.argv[2]) if len(sys.argv) > 2 else None)
