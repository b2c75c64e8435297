"""CloudWatch Logs of jobs and endpoints: what their log files hold is what a client reads, whatever it is."""

import os
import random
import time

import pytest

import launcher
from launcher.aws import logs
from launcher.aws.errors import AwsError
from launcher.aws.log_streams import EVENT_BYTES
from launcher.endpoints import service
from launcher.jobs.endpoint_record import EndpointRecord
from launcher.jobs.log_times import LogTimes
from launcher.jobs.metrics import read_points
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import TrainingJobSpec, log_file_name
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import EndpointStore, JobStore
from launcher.running import runner
from launcher.running.signals import HandOver
from tests.fakes import FakeRuntime

GROUP = "/aws/sagemaker/TrainingJobs"
CREATED = 1_700_000_000
BEGAN = CREATED * 1000


@pytest.fixture
def job(home):
    """Make a job, and write what its hosts print at given seconds after its creation."""

    class Job:
        def __init__(self, name="job-1", ended=True, **hosts):
            self.store = JobStore(home)
            record = JobRecord(spec=TrainingJobSpec(job_name=name, runtime="process").to_dict(), created=CREATED)
            self.folder = self.store.create(name, record)
            for host, pieces in hosts.items() or {"algo_1": [b"first\n", b"second\nthird\n"]}.items():
                for second, data in enumerate(pieces, 1):
                    self.write(data, second, host.replace("_", "-"))
            if ended:
                self.end()

        def write(self, data, second, host="algo-1"):
            path = self.folder.path / log_file_name(host)
            with path.open("ab") as log:
                log.write(data)
            os.utime(path, (CREATED + second, CREATED + second))
            LogTimes(path).note()

        def end(self):
            record = self.store.load(self.folder.name)
            record.move(Status.FAILED, SecondaryStatus.FAILED, "", CREATED + 9)
            self.store.save(self.folder.name, record)

    return Job


def stream(name="job-1", host="algo-1"):
    return f"{name}/{host}-{CREATED}"


@pytest.fixture
def get(home):
    """Ask for the events of a stream; returns times since the job's creation in seconds, messages, and both tokens."""

    def get(stream_name=None, **members):
        request = {"logGroupName": GROUP, "logStreamName": stream_name or stream(), **members}
        answer = logs.get_log_events(request, home)
        events = [((event["timestamp"] - BEGAN) / 1000, event["message"]) for event in answer["events"]]
        return events, answer["nextForwardToken"], answer["nextBackwardToken"]

    return get


def messages(answer):
    return [message for _, message in answer[0]]


THREE = [(1, "first"), (2, "second"), (2, "third")]


def test_a_log_is_read_from_its_head_and_the_token_at_its_end_is_the_one_that_was_given(job, get):
    job()
    events, forward, _ = get(startFromHead=True)
    assert events == THREE
    assert get(nextToken=forward, startFromHead=True) == ([], forward, forward.replace("f/", "b/"))


def test_pages_forward_and_backward_hold_every_event_once(job, get):
    job()
    first, forward, _ = get(startFromHead=True, limit=2)
    second, forward, backward = get(nextToken=forward, limit=2)
    assert first + second == THREE
    assert get(nextToken=backward, limit=1)[0] == [THREE[1]]
    assert get(nextToken=backward, limit=5)[0] == THREE[:2]
    _, _, at_the_head = get(nextToken=backward, limit=5)
    assert get(nextToken=at_the_head) == ([], at_the_head.replace("b/", "f/"), at_the_head)


def test_without_a_token_the_newest_events_come_first(job, get):
    job()
    assert get(limit=2)[0] == THREE[1:]
    assert get()[0] == THREE


def test_start_is_within_and_end_is_not(job, get):
    job(algo_1=[b"1\n", b"2\n", b"3\n", b"4\n"])
    for from_head in (True, False):
        assert messages(get(startTime=BEGAN + 2000, endTime=BEGAN + 4000, startFromHead=from_head)) == ["2", "3"]
    assert messages(get(startTime=BEGAN + 9000, startFromHead=True)) == []


def test_the_sdk_goes_on_from_a_time_and_skips_what_it_has(job, get):
    """Version 2 remembers the last timestamp and how many events had it: both have to stay as they were."""
    running = job(ended=False)
    before = get(startFromHead=True, startTime=0)[0]
    running.write(b"fourth\n", 5)
    assert get(startFromHead=True, startTime=BEGAN + 2000)[0] == [*before[1:], (5, "fourth")]


def test_a_line_that_is_being_written_is_no_event_until_it_is_whole_or_its_job_has_ended(job, get):
    running = job(ended=False, algo_1=[b"whole\nhal"])
    events, forward, _ = get()
    assert events == [(1, "whole")]
    assert messages(get(nextToken=forward)) == []
    running.write(b"f\nlast", 2)
    assert get(nextToken=forward)[0] == [(2, "half")]
    running.end()
    assert messages(get(nextToken=forward)) == ["half", "last"]
    assert messages(get(limit=1)) == ["last"]


def test_what_is_printed_later_is_read_on_from_an_empty_log(job, get):
    running = job(ended=False, algo_1=[b""])
    events, forward, _ = get()
    assert events == []
    running.write(b"now\n", 1)
    assert get(nextToken=forward)[0] == [(1, "now")]


def test_empty_lines_are_no_events_and_line_ends_of_windows_are_cut_off(job, get):
    job(algo_1=[b"\n\r\na\r\n\n b\n"])
    assert messages(get()) == messages(get(startFromHead=True)) == ["a", " b"]


def test_a_progress_bar_is_a_line_that_holds_all_its_states(job, get):
    job(algo_1=[b"\r 10%\r 50%\r100%\ndone\n"])
    assert messages(get()) == ["\r 10%\r 50%\r100%", "done"]


def test_bytes_that_are_no_utf_8_are_replaced(job, get):
    job(algo_1=[b"caf\xe9 \x00\n"])
    assert messages(get()) == ["caf\N{REPLACEMENT CHARACTER} \x00"]


@pytest.mark.parametrize("from_head", [True, False])
def test_a_line_longer_than_an_event_becomes_several_and_no_character_is_cut(job, get, from_head):
    text = "x" + "\N{SNOWMAN}" * 200_000
    job(algo_1=[b"before\n" + text.encode() + b"\nafter\n"])
    events = messages(get(startFromHead=from_head))
    assert events[0] == "before"
    assert events[-1] == "after"
    assert "".join(events[1:-1]) == text
    assert max(len(message.encode()) for message in events) <= EVENT_BYTES


def test_a_long_line_that_has_no_end_yet_is_read_in_parts(job, get):
    running = job(ended=False, algo_1=[b"x" * (2 * EVENT_BYTES + 7)])
    events, forward, _ = get(startFromHead=True)
    assert [len(message) for _, message in events] == [EVENT_BYTES] * 2
    running.write(b"y\n", 2)
    assert messages(get(nextToken=forward)) == ["x" * 7 + "y"]


def test_an_answer_holds_a_mebibyte_or_ten_thousand_events(job, get):
    job(algo_1=[b"%06d\n" % number for number in range(1)] + [b"".join(b"%06d\n" % number for number in range(12_000))])
    first, forward, _ = get(startFromHead=True)
    assert len(first) == 10_000
    assert len(get(nextToken=forward)[0]) == 2_001
    job(name="job-2", algo_1=[(b"z" * 1000 + b"\n") * 3000])
    events = []
    answer = get(stream("job-2"), startFromHead=True)
    while answer[0]:
        assert sum(len(message) + 26 for _, message in answer[0]) <= 1 << 20
        events += answer[0]
        answer = get(stream("job-2"), nextToken=answer[1])
    assert len(events) == 3000


def test_any_log_is_read_whole_by_any_pages_in_both_directions(job, get):
    generator = random.Random(0)
    for number in range(10):
        pieces = [generator.choice([b"a", b"\xc3\xbc", b"\n", b"\r", b"word ", b"x" * 40_000]) for _ in range(300)]
        job(name=f"job-{number + 10}", algo_1=[b"".join(pieces[:150]), b"".join(pieces[150:])])
        name = stream(f"job-{number + 10}")
        lines = b"".join(pieces).split(b"\n")
        expected = [text.decode() for line in lines for text in _cut(line.rstrip(b"\r")) if text]
        forward, backward = [], []
        answer = get(name, startFromHead=True, limit=generator.randint(1, 60))
        while answer[0]:
            forward += messages(answer)
            answer = get(name, nextToken=answer[1], limit=generator.randint(1, 60))
        answer = get(name, limit=generator.randint(1, 60))
        while answer[0]:
            backward[:0] = messages(answer)
            answer = get(name, nextToken=answer[2], limit=generator.randint(1, 60))
        assert "".join(forward) == "".join(backward) == "".join(expected)
        assert forward == backward


def _cut(line):
    return [line] if len(line) <= EVENT_BYTES else [line[:EVENT_BYTES], *_cut(line[EVENT_BYTES:])]


# Streams and groups.


def described(home, **members):
    answer = logs.describe_log_streams({"logGroupName": GROUP, **members}, home)
    return [entry["logStreamName"] for entry in answer["logStreams"]], answer.get("nextToken")


def test_a_job_has_a_stream_for_each_host_and_no_token_where_there_are_no_more(job, home):
    """Version 2 asks for as many as there are hosts, and would ask for ever while it gets a token."""
    job(algo_1=[b"a\n"], algo_2=[b"b\n"])
    job(name="job-10")
    names, token = described(home, logStreamNamePrefix="job-1/", orderBy="LogStreamName", limit=2)
    assert names == [stream(), stream(host="algo-2")]
    assert token is None


def test_streams_come_in_pages_by_name_and_by_time(job, home):
    for second, name in enumerate(["job-c", "job-a", "job-b"]):
        job(name=name, algo_1=[b""] * second + [b"x\n"])
    by_name = [stream("job-a"), stream("job-b"), stream("job-c")]
    assert described(home)[0] == by_name
    first, token = described(home, limit=2)
    assert first + described(home, limit=2, nextToken=token)[0] == by_name
    assert described(home, orderBy="LastEventTime")[0] == [stream(f"job-{letter}") for letter in "cab"]
    assert described(home, orderBy="LastEventTime", descending=True, limit=1)[0] == [stream("job-b")]
    assert described(home, logStreamNamePrefix="job-b")[0] == [stream("job-b")]


def test_a_stream_says_when_it_began_and_when_it_last_grew(job, home):
    job()
    entry = logs.describe_log_streams({"logGroupName": GROUP}, home)["logStreams"][0]
    assert (entry["creationTime"], entry["firstEventTimestamp"], entry["lastEventTimestamp"]) == (
        BEGAN,
        BEGAN + 1000,
        BEGAN + 2000,
    )
    assert entry["arn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}:log-stream:{stream()}"


def test_groups_are_there_with_their_first_log(job, home):
    assert logs.describe_log_groups({}, home) == {"logGroups": []}
    job()
    (group,) = logs.describe_log_groups({"logGroupNamePrefix": "/aws/sagemaker/"}, home)["logGroups"]
    assert group["logGroupName"] == GROUP
    assert group["storedBytes"] == len(b"first\nsecond\nthird\n")
    assert logs.describe_log_groups({"logGroupNamePrefix": "/aws/sagemaker/P"}, home)["logGroups"] == []
    assert len(logs.describe_log_groups({"logGroupNamePattern": "trainingjobs"}, home)["logGroups"]) == 1


def test_an_endpoint_has_a_group_of_its_own_with_a_stream_for_each_container(home):
    variants = [{"name": "blue", "model_name": "m"}, {"name": "g" * 40, "model_name": "m"}]
    deployment = {"identity": "abcdef1", "config": {"config_name": "c", "variants": variants}, "models": {}}
    record = EndpointRecord(
        spec={"endpoint_name": "e", "runtime": "process"}, created=CREATED, deployment=deployment, status="InService"
    )
    folder = EndpointStore(home).create("e", record)
    hosts = ["blue-1-1-abcdef", "blue-1-2-abcdef-3", f"{'g' * 32}-2-1-abcdef"]
    for host in hosts:
        folder.log_path(host).write_bytes(b"served\n")
    group = "/aws/sagemaker/Endpoints/e"
    answer = logs.describe_log_streams({"logGroupName": group}, home)
    names = [entry["logStreamName"] for entry in answer["logStreams"]]
    assert names == [f"blue/{hosts[0]}", f"blue/{hosts[1]}", f"{'g' * 40}/{hosts[2]}"]
    answer = logs.get_log_events({"logGroupName": group, "logStreamName": names[0]}, home)
    assert [event["message"] for event in answer["events"]] == ["served"]
    assert service.log_paths(EndpointStore(home), "e")[:-1] == sorted(folder.log_paths(), key=os.path.getmtime)


def test_other_groups_are_left_to_others(home):
    for operation in (logs.get_log_events, logs.describe_log_streams, logs.filter_log_events):
        document = {"logGroupName": "mine"} | ({"logStreamName": "s"} if operation is logs.get_log_events else {})
        assert operation(document, home) is None


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"logGroupName": GROUP + "/x", "logStreamName": "s"}, None, None),
        ({"logStreamName": "job-1/algo-9-1"}, "ResourceNotFoundException", "The specified log stream does not exist."),
        ({"logGroupName": "/aws/sagemaker/TransformJobs"}, "ResourceNotFoundException", "log group does not exist"),
        ({"logGroupName": "/aws/sagemaker/Endpoints/.."}, "ResourceNotFoundException", "log group does not exist"),
        ({"nextToken": "f/1/s"}, "InvalidParameterException", "nextToken is invalid"),
        ({"limit": 10_001}, "InvalidParameterException", "Member must have value less than or equal to 10000"),
        ({"startTime": "1"}, "InvalidParameterException", "Invalid type for parameter startTime"),
        ({"logStreamName": "a:b"}, "InvalidParameterException", "Member must satisfy regular expression pattern"),
        ({"logGroupName": None}, "InvalidParameterException", "logGroupName"),
        ({"other": 1}, "InvalidParameterException", 'Unknown parameter in input: "other"'),
    ],
)
def test_requests_that_cannot_be_answered_are_refused_in_awss_words(job, home, members, code, words):
    job()
    request = {"logGroupName": GROUP, "logStreamName": stream(), **members}
    if code is None:
        assert logs.get_log_events(request, home) is None
        return
    with pytest.raises(AwsError) as raised:
        logs.get_log_events(request, home)
    assert raised.value.code == code
    assert words in raised.value.message


def test_a_group_may_be_named_by_its_arn(job, home):
    job()
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}"
    for identifier in (arn, f"{arn}:*", GROUP):
        document = {"logGroupIdentifier": identifier, "logStreamName": stream()}
        if "*" not in identifier:  # the model has no asterisk in an identifier
            assert len(logs.get_log_events(document, home)["events"]) == 3


# FilterLogEvents.


@pytest.fixture
def filtered(home):
    def filtered(**members):
        answer = logs.filter_log_events({"logGroupName": GROUP, **members}, home)
        return [(event["logStreamName"], event["message"]) for event in answer["events"]], answer.get("nextToken")

    return filtered


def test_the_events_of_all_streams_come_by_their_time(job, filtered):
    job(algo_1=[b"a1\n", b"", b"a3\n"], algo_2=[b"", b"b2\n"])
    job(name="job-2", algo_1=[b"c1\n"])
    first, two, other = stream(), stream(host="algo-2"), stream("job-2")
    assert filtered()[0] == [(first, "a1"), (other, "c1"), (two, "b2"), (first, "a3")]
    assert filtered(logStreamNamePrefix="job-2/")[0] == [(other, "c1")]
    assert filtered(logStreamNames=[two, other])[0] == [(other, "c1"), (two, "b2")]
    assert filtered(startTime=BEGAN + 2000, endTime=BEGAN + 3000)[0] == [(two, "b2")]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
def test_pages_of_several_streams_hold_every_event_once(job, filtered, limit):
    job(algo_1=[b"1\n2\n", b"5\n"], algo_2=[b"3\n4\n"])
    events, token = filtered(limit=limit)
    pages = 1
    while token:
        page, token = filtered(limit=limit, nextToken=token)
        events, pages = events + page, pages + 1
    assert [message for _, message in events] == ["1", "2", "3", "4", "5"]
    assert pages == -(-5 // limit)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", [0, 1, 2, 3]),
        ("ERROR", [0, 1]),
        ("error", [3]),
        ("ERROR disk", [1]),
        ("?disk ?warn", [1, 2]),
        ("ERROR -disk", [0]),
        ('"disk full"', [1]),
        ('-"disk full" -warn', [0, 3]),
        (r"%full \d+%", [1]),
    ],
)
def test_a_pattern_of_terms_chooses_messages(job, filtered, pattern, expected):
    lines = ["ERROR one", "ERROR disk full 12", "warn: disc", "an error"]
    job(algo_1=["\n".join([*lines, ""]).encode()])
    assert [message for _, message in filtered(filterPattern=pattern)[0]] == [lines[number] for number in expected]


@pytest.mark.parametrize("pattern", ["{ $.a = 1 }", "[a, b]", "a:b", '"open', "%(%"])
def test_a_pattern_that_is_not_emulated_is_refused(job, filtered, pattern):
    job()
    with pytest.raises(AwsError, match="InvalidParameterException"):
        filtered(filterPattern=pattern)


def test_events_have_identities(job, home):
    job(algo_1=[b"a\na\n"], algo_2=[b"a\n"])
    answer = logs.filter_log_events({"logGroupName": GROUP}, home)
    identities = [event["eventId"] for event in answer["events"]]
    assert len(set(identities)) == 3
    assert {len(identity) for identity in identities} == {56}


# Times.


def test_times_do_not_change_when_the_log_is_looked_at_again(tmp_path):
    log = tmp_path / "job.log"
    log.write_bytes(b"a\n")
    os.utime(log, (100, 100))
    assert LogTimes(log).moments().at(2) == 100_000
    log.write_bytes(b"a\nb\n")
    os.utime(log, (50, 50))  # a clock that was set back
    moments = LogTimes(log).moments()
    assert (moments.at(1), moments.at(3), moments.size) == (100_000, 100_000, 4)
    log.write_bytes(b"a\n")  # written again by another driver
    os.utime(log, (300, 300))
    assert LogTimes(log).moments().at(4) == 100_000
    assert moments.length_before(100_000) == 0
    assert moments.length_before(100_001) == 4


def test_an_entry_that_a_full_disk_cut_short_does_no_harm(tmp_path):
    log, index = tmp_path / "job.log", tmp_path / "job.log.times"
    for second, text in ((1, b"a\n"), (2, b"a\nb\n")):
        log.write_bytes(text)
        os.utime(log, (second, second))
        LogTimes(log).note()
    index.write_bytes(index.read_bytes()[:-3])
    moments = LogTimes(log).moments()
    assert (moments.at(2), moments.at(4)) == (1000, 2000)


def test_a_log_of_somebody_else_is_read_without_noting(tmp_path, monkeypatch):
    log = tmp_path / "job.log"
    log.write_bytes(b"a\n")
    os.utime(log, (100, 100))

    def refuse(*_arguments):
        raise PermissionError

    monkeypatch.setattr(LogTimes, "note", refuse)
    assert LogTimes(log).moments().at(2) == 100_000
    assert not (tmp_path / "job.log.times").exists()


SPEAKS = """
import os, sys, time
print("reward=1", flush=True)
while not os.path.exists({go!r}): time.sleep(0.02)
print("reward=2", file=sys.stderr, flush=True)
print("the end", end="")
"""


def test_a_jobs_log_is_whole_when_its_status_is_terminal_and_a_metric_has_the_time_of_its_line(
    make_source, store, home, tmp_path, get
):
    runtime = FakeRuntime()
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source(SPEAKS.format(go=str(tmp_path / "go"))),
        runtime=runtime,
        metric_definitions=[{"Name": "reward", "Regex": "reward=([0-9.]+)"}],
    )
    estimator.submit(job_name="job-1")
    log = store.folder("job-1").log_path("algo-1")

    driver = runner.Driver(store, "job-1", runtime)

    def leave_when_it_speaks(_readers):
        if log.exists() and b"reward=1" in log.read_bytes() and read_points(store.folder("job-1").metrics_path):
            raise HandOver

    driver._look_at = leave_when_it_speaks
    with pytest.raises(HandOver):
        driver.run()
    before = read_points(store.folder("job-1").metrics_path)
    time.sleep(0.3)
    (tmp_path / "go").touch()
    runner.Driver(store, "job-1", runtime).run()
    after = read_points(store.folder("job-1").metrics_path)
    assert [point.value for point in after] == [1, 2]
    assert after[0].timestamp == pytest.approx(before[0].timestamp, abs=0.2)
    assert after[1].timestamp - after[0].timestamp > 0.25
    (entry,) = logs.describe_log_streams({"logGroupName": GROUP}, home)["logStreams"]
    events = get(entry["logStreamName"], startFromHead=True)[0]
    assert [message for _, message in events if "reward" in message or "end" in message] == [
        "reward=1",
        "reward=2",
        "the end",
    ]
