"""Learning over several hosts: the result of one host, but for the order in which numbers are added up."""

import threading

import numpy as np
import pytest
import torch

from batch_rl.errors import TrainingError
from batch_rl.learning import sharing
from batch_rl.learning.hosts import SeveralHosts
from batch_rl.learning.training import TrainingRun
from tests.entrypoints.test_entry_points import Job
from tests.entrypoints.test_training import logged, preset


class Threads:
    """Hosts that are threads of the test, which meet at a barrier."""

    def __init__(self, count):
        self.count, self.barrier, self.values = count, threading.Barrier(count, timeout=60), [None] * count

    def exchange(self, number, value):
        self.values[number] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values


class ThreadHost(SeveralHosts):
    def __init__(self, threads, number):
        super().__init__(number, threads.count)
        self.threads = threads

    def add_up(self, values):
        values.copy_(torch.stack(self.threads.exchange(self.number, values.clone())).sum(dim=0))

    def take_largest(self, values):
        values.copy_(torch.stack(self.threads.exchange(self.number, values.clone())).max(dim=0).values)

    def once(self, compute, *, by=0):
        return self.threads.exchange(self.number, compute() if self.number == by else None)[by]

    def hand_on(self, values, *, by):
        values.copy_(self.threads.exchange(self.number, values.clone())[by])


def together_by_threads(count, act):
    """Return what ``act`` returns or raises for every host."""
    threads, results = Threads(count), [None] * count

    def run(host):
        try:
            results[host.number] = act(host)
        except Exception as error:  # noqa: BLE001 - returned
            results[host.number] = error
            if not isinstance(error, TrainingError):
                threads.barrier.abort()

    workers = [threading.Thread(target=run, args=(ThreadHost(threads, number),)) for number in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


@pytest.mark.parametrize(
    ("count", "name", "overrides"),
    [
        (2, "preset-cartpole-ddqnbcq", {}),
        (4, "preset-cartpole-ddqnbcq", {"agent.batch_size": 3, "ope.estimators": "[]"}),  # shares without a row
        (2, "preset-cartpole-ddqnbcq", {"agent.algorithm": "quantile", "bcq.threshold": 0.0, "ope.estimators": "[]"}),
        (3, "preset-cartpole-iql", {"agent.l2_regularization": 0.01, "ope.estimators": "[]"}),
    ],
)
def test_several_hosts_learn_what_one_learns(count, name, overrides):
    """Losses, gradients, values and estimates of every update and epoch; and all hosts have the same networks."""
    episodes = logged(environments=12, episodes_each=1)
    overrides = {"training.epochs": 2, "ope.reward_model_epochs": 1, "agent.hidden_sizes": "[16]"} | overrides
    alone = TrainingRun(episodes, preset(name, **overrides))
    expected = [alone.run_epoch() for _ in range(2)]

    def train(host):
        run = TrainingRun(episodes, preset(name, **overrides), hosts=host)
        return [run.run_epoch() for _ in range(2)], run.learner.online

    for results, networks in together_by_threads(count, train):
        for ours, theirs in zip(networks, alone.learner.online, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)
        for ours, theirs in zip(results, expected, strict=True):
            assert ours.updates == theirs.updates
            for field in ("losses", "gradient_norms", "batch_q", "learning_rates", "largest_q"):
                assert np.allclose(getattr(ours, field), getattr(theirs, field), rtol=1e-4, atol=1e-6), field
            for field in ("wis", "sequential_dr", "one_step_dr"):
                value, wanted = getattr(ours.estimates, field), getattr(theirs.estimates, field)
                assert value == pytest.approx(wanted, rel=1e-4, nan_ok=True), field


def test_hosts_that_have_a_part_of_the_files_gather_all_of_them(tmp_path, monkeypatch):
    """Also where a host has none, a file is larger than a block, empty, or in a folder."""
    monkeypatch.setattr(sharing, "_BLOCK_BYTES", 1000)
    files = {"a": b"1" * 2500, "deep/b": b"2" * 1000, "c": b""}
    for number, names in enumerate((["a", "c"], [], ["deep/b"])):
        (tmp_path / str(number)).mkdir()
        for name in names:
            path = tmp_path / str(number) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(files[name])
    for whole in together_by_threads(3, lambda host: sharing.gather_files(tmp_path / str(host.number), host)):
        paths = [path for path in whole.rglob("*") if path.is_file()]
        assert {str(path.relative_to(whole)): path.read_bytes() for path in paths} == files


def test_hosts_with_other_data_refuse_to_learn_together():
    """The shares of a batch are taken from the same rows in the same order."""
    logs = [logged(environments=12, episodes_each=1), logged(environments=13, episodes_each=1)]
    errors = together_by_threads(
        2, lambda host: TrainingRun(logs[host.number], preset("preset-cartpole-bc"), hosts=host)
    )
    assert [type(error) for error in errors] == [TrainingError] * 2
    assert "the data of another host and of the first one differ" in str(errors[0])
    assert "the data of this host and of the first one differ" in str(errors[1])


def test_hosts_stop_after_the_same_update_whichever_was_asked():
    """The second is asked before its sixth update; all have learned from six then, and go on as one that did not."""
    episodes = logged(environments=12, episodes_each=1)
    light = {"training.epochs": 2, "ope.reward_model_epochs": 1, "ope.estimators": "[]", "bcq.imitation_updates": 50}

    def train(host):
        run = TrainingRun(episodes, preset("preset-cartpole-bc", **light, **{"agent.batch_size": 4}), hosts=host)
        looks = iter(range(1000))
        assert run.run_epoch(lambda: host.number == 1 and next(looks) >= 5) is None
        return run.learner.updates, host.stopping

    assert together_by_threads(2, train) == [(6, True)] * 2


def test_learning_in_an_environment_takes_a_single_host(tmp_path):
    job = Job(tmp_path, "train.py", {"preset": "preset-cartpole-dqn"}, {})
    process = job.start(WORLD_SIZE="2", RANK="0")
    assert process.wait(timeout=120) == 2
    process.communicate()
    assert "takes a single host" in (tmp_path / "output" / "failure").read_text()
