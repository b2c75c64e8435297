"""Which service job is next, by hand."""

from launcher.batch_queues.ordering import Queue, QueuedJob, next_job
from launcher.batch_queues.scheduler import is_retried, training_job_name


def order(queues, waiting, limits, *, seconds=1.0):
    """Return the names in the order in which they start, each one after the last has ended."""
    usage, started, waiting = {}, [], list(waiting)
    while choice := next_job(queues, waiting, usage, limits, limits):
        job, _ = choice
        started.append(job.name)
        waiting.remove(job)
        place = (job.queue, job.share)
        usage[place] = usage.get(place, 0.0) + seconds * job.instances
    return started


def test_the_first_in_is_the_first_out_unless_a_priority_is_higher():
    jobs = [
        QueuedJob("c", "q", 3.0),
        QueuedJob("a", "q", 1.0),
        QueuedJob("b", "q", 2.0),
        QueuedJob("d", "q", 4.0, 1, 9),
    ]
    assert order([Queue("q", 1, ("e",))], jobs, {"e": 1}) == ["d", "a", "b", "c"]


def test_the_queue_of_higher_priority_is_first_in_the_environment_of_both():
    queues = [Queue("low", 1, ("e",)), Queue("high", 5, ("e",))]
    assert order(queues, [QueuedJob("a", "low", 1.0), QueuedJob("b", "high", 2.0)], {"e": 1}) == ["b", "a"]


def test_half_the_weight_gets_twice_the_capacity():
    """Weighted use after each start, x:y -> 0.5:0, 0.5:1, 1:1 (x is older), 1.5:1, 1.5:2, 2:2."""
    queue = Queue("q", 1, ("e",), {"x*": 0.5, "y": 1.0})
    jobs = [QueuedJob(f"x{i}", "q", float(i), share="xs") for i in range(4)]
    jobs += [QueuedJob(f"y{i}", "q", 10.0 + i, share="y") for i in range(4)]
    assert order([queue], jobs, {"e": 1}) == ["x0", "y0", "x1", "x2", "y1", "x3", "y2", "y3"]


def test_an_exact_share_counts_before_a_prefix_and_one_that_is_not_named_weighs_1():
    queue = Queue("q", 1, ("e",), {"team*": 0.5, "te*": 2.0, "teama": 4.0})
    assert [queue.weight(share) for share in ("teama", "teamb", "tex", "other")] == [4.0, 0.5, 2.0, 1.0]


def test_within_a_share_priority_counts():
    queue = Queue("q", 1, ("e",), {})
    jobs = [QueuedJob("a", "q", 1.0, share="s"), QueuedJob("b", "q", 2.0, priority=1, share="s")]
    assert order([queue], jobs, {"e": 1}) == ["b", "a"]


def test_nothing_passes_a_job_by_that_waits_for_room():
    queues = [Queue("high", 5, ("e",)), Queue("low", 1, ("e",)), Queue("other", 0, ("f",))]
    jobs = [QueuedJob("large", "high", 1.0, 4), QueuedJob("small", "low", 2.0), QueuedJob("elsewhere", "other", 3.0)]
    assert next_job(queues, jobs, {}, {"e": 3, "f": 1}, {"e": 4, "f": 1}) == (jobs[2], "f")
    assert next_job(queues, jobs, {}, {"e": 4, "f": 0}, {"e": 4, "f": 1}) == (jobs[0], "e")


def test_a_job_larger_than_every_environment_holds_up_nobody():
    jobs = [QueuedJob("huge", "q", 1.0, 9), QueuedJob("small", "q", 2.0)]
    assert order([Queue("q", 1, ("e",))], jobs, {"e": 2}) == ["small"]


def test_the_second_environment_takes_what_the_first_has_no_room_for():
    job = QueuedJob("a", "q", 1.0, 2)
    assert next_job([Queue("q", 1, ("e", "f"))], [job], {}, {"e": 1, "f": 2}, {"e": 2, "f": 2}) == (job, "f")


def test_the_first_rule_that_matches_decides_on_another_attempt():
    rules = [{"action": "retry", "onStatusReason": "Received*"}, {"action": "EXIT", "onStatusReason": "*"}]
    strategy = {"retryStrategy": {"attempts": 3, "evaluateOnExit": rules}}
    assert is_retried(strategy, "Received status", 2)
    assert not is_retried(strategy, "Received status", 3)
    assert not is_retried(strategy, "another", 1)
    assert is_retried({"retryStrategy": {"attempts": 2}}, "any", 1)
    assert not is_retried({}, "any", 1)


def test_a_training_jobs_name_follows_from_the_service_job_and_the_attempt():
    long = {"TrainingJobName": "n" * 63}
    first, second = training_job_name("id", long, 1), training_job_name("id", long, 2)
    assert first == training_job_name("id", long, 1) != second
    assert len(first) == 63
    assert first.startswith("AWSBatchnnn")
    assert first.endswith("-1")
