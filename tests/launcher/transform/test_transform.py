"""Transform jobs as SageMaker runs them; the container is a server in the test."""

import gzip
import json
import random
import threading
import time

import pytest

from launcher.errors import BadInputError, ChannelError, JobExistsError, OutputPathError, UnsupportedOptionError
from launcher.jobs.store import JobStore
from launcher.running import leftovers
from launcher.running.driving import drive
from launcher.running.signals import HandOver
from launcher.runtimes.base import Remains
from launcher.transform.driver import TransformDriver
from launcher.transform.engine import Journal


def test_each_file_gets_an_output_in_the_order_of_its_records(bench):
    """Answers come back in any order: each is delayed by chance."""
    chance = random.Random(0)

    def late(_container, _headers, body):
        time.sleep(chance.random() / 100)
        return 200, body.upper()

    bench.answer = late
    bench.write(a="a1\na2\n\na3", deep__b="b1\n")
    job = bench.run(BatchStrategy="SingleRecord", MaxConcurrentTransforms=4)
    assert (job.status, job.failure_reason) == ("Completed", "")
    assert bench.written() == {"a.txt.out": "A1\nA2\nA3\n", "deep/b.txt.out": "B1\n"}
    assert sorted(bench.requests) == [b"a1", b"a2", b"a3", b"b1"]
    assert {name: job.counts[name] for name in ("objects", "records", "requests")} == {
        "objects": 2,
        "records": 4,
        "requests": 4,
    }


def test_several_records_are_sent_in_one_request_by_default(bench):
    bench.write(a="a1\na2\na3\n")
    bench.run()
    assert bench.requests == [b"a1\na2\na3"]
    assert bench.record["parameters"] == {
        "MaxConcurrentTransforms": 1,
        "MaxPayloadInMB": 6,
        "BatchStrategy": "MultiRecord",
    }


def test_answers_are_put_together_as_they_are_without_assembly(bench):
    bench.write(a="a1\na2\n")
    bench.run(put={"AssembleWith": "None"}, BatchStrategy="SingleRecord")
    assert bench.written() == {"a.txt.out": "a1a2"}


def test_a_newline_that_the_answer_has_is_not_doubled(bench):
    bench.answer = lambda *_: (200, b"x\n")
    bench.write(a="1\n2\n")
    bench.run(BatchStrategy="SingleRecord")
    assert bench.written() == {"a.txt.out": "x\nx\n"}


def test_a_file_without_a_split_is_one_request_whatever_the_strategy(bench):
    bench.write(a="a1\na2\n")
    bench.run(given={"SplitType": "None"}, BatchStrategy="SingleRecord", put={"AssembleWith": "None"})
    assert bench.requests == [b"a1\na2\n"]
    assert bench.written() == {"a.txt.out": "a1\na2\n"}


def test_each_request_says_what_it_holds_and_what_is_wanted(bench):
    bench.write(a="1\n")
    bench.run(given={"ContentType": "text/csv"}, put={"Accept": "application/json"})
    (headers, _) = bench.seen[0]
    assert (headers["Content-Type"], headers["Accept"]) == ("text/csv", "application/json")


def test_a_container_knows_that_it_serves_a_batch_and_only_the_limits_that_were_asked_for(bench):
    bench.write(a="1\n")
    bench.run(Environment={"COLOUR": "blue", "MINE": "1"}, MaxPayloadInMB=2, BatchStrategy="SingleRecord")
    environment = bench.runtime.started[0].environment
    assert {name: value for name, value in environment.items() if not name.startswith("AWS_")} == {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "2",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "COLOUR": "blue",
        "MINE": "1",
    }


def test_what_the_request_says_counts_more_than_what_the_container_says(bench):
    bench.runtime.parameters = {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 3}
    bench.write(a="1\n2\n")
    bench.run(MaxPayloadInMB=2, MaxConcurrentTransforms=0)
    assert bench.record["parameters"] == {
        "MaxConcurrentTransforms": 8,
        "MaxPayloadInMB": 2,
        "BatchStrategy": "SingleRecord",
    }
    assert sorted(bench.requests) == [b"1", b"2"]


def test_no_more_requests_are_under_way_than_were_asked_for(bench):
    under_way, most, lock = 0, 0, threading.Lock()

    def counted(_container, _headers, body):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)
        with lock:
            under_way -= 1
        return 200, body

    bench.answer = counted
    bench.write(a="\n".join(map(str, range(40))), b="\n".join(map(str, range(40))))
    bench.run(BatchStrategy="SingleRecord", MaxConcurrentTransforms=3)
    assert most == 3


def test_a_record_that_fails_costs_its_file_alone_and_the_job_says_which_it_was(bench):
    def picky(_container, _headers, body):
        return (400, b'{"error": "no number: x7"}') if body == b"x7" else (200, body)

    bench.answer = picky
    bench.write(bad="1\n2\nx7\n4\n", good="5\n6\n")
    job = bench.run(BatchStrategy="SingleRecord")
    assert job.status == "Failed"
    assert job.failure_reason == (
        'AlgorithmError: 1 of 2 files failed. bad.txt: record 3: the container answered 400: {"error": "no number: x7"}'
    )
    assert bench.written() == {"good.txt.out": "5\n6\n"}
    assert bench.requests.count(b"x7") == 1, "what the container refuses is not asked again"


def test_a_request_of_several_records_that_fails_says_which_they_were(bench):
    bench.answer = lambda *_: (400, b"")
    bench.write(a="1\n2\n3\n")
    assert "a.txt: records 1 to 3: the container answered 400" in bench.run().failure_reason


def test_a_request_that_the_container_failed_at_is_asked_again(bench):
    answers = iter([500, 503, 200])
    bench.answer = lambda _container, _headers, body: (next(answers), body)
    bench.write(a="1\n")
    job = bench.run()
    assert (job.status, job.counts["retried"]) == ("Completed", 2)
    assert bench.written() == {"a.txt.out": "1\n"}


def test_after_the_last_retry_the_file_has_failed(bench):
    bench.answer = lambda *_: (500, b"out of order")
    bench.write(a="1\n")
    job = bench.run(ModelClientConfig={"InvocationsMaxRetries": 1})
    assert "the container answered 500 (asked 2 times): out of order" in job.failure_reason
    assert len(bench.requests) == 2


def test_an_answer_that_takes_too_long_is_none(bench):
    def slow(_container, _headers, body):
        time.sleep(1.5)
        return 200, body

    bench.answer = slow
    bench.write(a="1\n")
    job = bench.run(ModelClientConfig={"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0})
    assert "the container gave no answer within 1 s" in job.failure_reason


def test_a_container_that_ends_ends_the_job(bench):
    def die(container, _headers, _body):
        execution = bench.runtime.find(container)
        threading.Thread(target=execution.kill).start()
        time.sleep(0.5)
        return 500, b""

    bench.answer = die
    bench.write(a="1\n2\n")
    job = bench.run(BatchStrategy="SingleRecord")
    assert job.status == "Failed"
    assert "ended by itself with exit code 0" in job.failure_reason
    assert bench.written() == {}


def test_answers_are_joined_with_their_records(bench):
    bench.answer = lambda _container, _headers, body: (200, b"\n".join(b"0.5" for _ in body.split(b"\n")))
    bench.write(a='"Smith, Ann",1\n"B",2\n')
    bench.run(
        given={"ContentType": "text/csv"},
        put={"Accept": "text/csv"},
        DataProcessing={"InputFilter": "$[1]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )
    assert bench.requests == [b"1\n2"]
    assert bench.written() == {"a.txt.out": '"Smith, Ann",0.5\nB,0.5\n'}


def test_an_answer_that_cannot_be_joined_fails_the_file(bench):
    bench.answer = lambda *_: (200, b"0.5")
    bench.write(a="1\n2\n")
    job = bench.run(
        given={"ContentType": "text/csv"}, put={"Accept": "text/csv"}, DataProcessing={"JoinSource": "Input"}
    )
    assert "records 1 to 2: the answer has 1 records where the request has 2" in job.failure_reason


def test_a_compressed_file_is_sent_decompressed_and_keeps_its_name(bench):
    bench.inputs.mkdir()
    (bench.inputs / "a.csv.gz").write_bytes(gzip.compress(b"1\n2\n"))
    bench.run(given={"CompressionType": "Gzip"})
    assert bench.requests == [b"1\n2"]
    assert bench.written() == {"a.csv.gz.out": "1\n2\n"}


def test_a_file_that_is_no_gzip_fails_alone(bench):
    bench.inputs.mkdir()
    (bench.inputs / "a.gz").write_bytes(gzip.compress(b"1\n"))
    (bench.inputs / "b.gz").write_bytes(b"no gzip")
    job = bench.run(given={"CompressionType": "Gzip"})
    assert job.status == "Failed"
    assert "b.gz:" in job.failure_reason
    assert bench.written() == {"a.gz.out": "1\n"}


def test_without_a_limit_an_object_is_one_stream_in_chunks(bench):
    bench.write(a="1\n2\n" * 100_000, b="3\n")
    bench.run(given={"SplitType": "None"}, MaxPayloadInMB=0, MaxConcurrentTransforms=2)
    assert {headers.get("Transfer-Encoding") for headers, _ in bench.seen} == {"chunked"}
    assert sorted(map(len, bench.requests)) == [2, 400_000]
    assert bench.written() == {"a.txt.out": "1\n2\n" * 100_000, "b.txt.out": "3\n"}


def test_a_stream_that_fails_leaves_no_output(bench):
    bench.answer = lambda _container, _headers, body: (400, b"too long") if len(body) > 10 else (200, body)
    bench.write(a="1\n" * 100, b="3\n")
    job = bench.run(given={"SplitType": "None"}, MaxPayloadInMB=0)
    assert "a.txt: the container answered 400: too long" in job.failure_reason
    assert bench.written() == {"b.txt.out": "3\n"}


def test_one_file_can_be_transformed_by_itself(bench):
    bench.write(a="1\n", b="2\n")
    bench.run(data=f"file://{bench.inputs}/a.txt")
    assert bench.written() == {"a.txt.out": "1\n"}


def test_a_manifest_names_the_files(bench, tmp_path):
    bench.write(a="1\n", deep__b="2\n", c="3\n")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps([{"prefix": f"file://{bench.inputs}/"}, "a.txt", "deep/b.txt"]))
    bench.run(data=f"file://{manifest}", own={"S3DataType": "ManifestFile"})
    assert bench.written() == {"a.txt.out": "1\n", "deep/b.txt.out": "2\n"}


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("oops", "it is not JSON"),
        ('["a.txt"]', "does not begin with an object"),
        ('[{"prefix": "PREFIX"}]', "it names no keys"),
        ('[{"prefix": "PREFIX"}, "../a.txt"]', "could leave the folder"),
        ('[{"prefix": "PREFIX"}, "z.txt"]', "z.txt is not there"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(bench, tmp_path, manifest, reason):
    bench.write(a="1\n")
    path = tmp_path / "manifest.json"
    path.write_text(manifest.replace("PREFIX", f"file://{bench.inputs}/"))
    with pytest.raises(ChannelError, match=reason):
        bench.submit(data=f"file://{path}", own={"S3DataType": "ManifestFile"})


def test_files_are_shared_out_among_several_containers(bench):
    hosts = {}

    def noted(container, _headers, body):
        hosts.setdefault(container.host, set()).add(body)
        return 200, body

    bench.answer = noted
    bench.write(a="a", b="b", c="c")
    bench.run(count=2)
    assert hosts == {"algo-1": {b"a", b"c"}, "algo-2": {b"b"}}
    assert bench.written() == {"a.txt.out": "a\n", "b.txt.out": "b\n", "c.txt.out": "c\n"}


def test_an_instance_without_files_is_not_started(bench):
    bench.write(a="a")
    bench.run(count=4)
    assert [container.host for container in bench.runtime.started] == ["algo-1"]


def test_resume_leaves_outputs_that_are_there(bench):
    bench.write(a="a", b="b")
    bench.outputs.mkdir()
    (bench.outputs / "a.txt.out").write_text("from before\n")
    job = bench.run(Launcher={"Resume": True})
    assert job.status == "Completed"
    assert bench.requests == [b"b"]
    assert bench.written() == {"a.txt.out": "from before\n", "b.txt.out": "b\n"}


class Leaves(TransformDriver):
    """A driver that goes, as if killed, when it is about to write its record for the nth time."""

    left = 0

    def _save(self):
        if self.left == 0:
            raise HandOver(15)
        self.left -= 1
        super()._save()


@pytest.mark.parametrize("moment", range(8))
def test_another_driver_goes_on_where_one_left(bench, moment):
    """Whenever it left, every record is answered, every output whole, and no container is left or started twice."""
    bench.write(a="a1\na2\n", b="b1\n")
    name = bench.submit(BatchStrategy="SingleRecord")
    with bench.store.folder(name).driving():
        first = Leaves(bench.store, name, bench.runtime)
        first.left = moment
        try:
            first.run()
        except HandOver:
            assert not bench.store.load(name).terminal
    record = drive(bench.store, name, runtime=bench.runtime)
    assert (str(record.status), record.failure_reason) == ("Completed", "")
    assert bench.written() == {"a.txt.out": "a1\na2\n", "b.txt.out": "b1\n"}
    assert len(bench.runtime.started) == 1
    assert not bench.store.folder(name).work_path.exists()


def test_a_file_that_is_done_is_not_done_again(bench):
    """The first driver is gone after file a; the next one has only b to do."""
    gone = threading.Event()

    def once(_container, _headers, body):
        if body == b"b1" and not gone.is_set():
            gone.set()
            time.sleep(0.3)
        return 200, body

    bench.answer = once
    bench.write(a="a1\n", b="b1\n")
    name = bench.submit(BatchStrategy="SingleRecord")

    class GoesAway(TransformDriver):
        def _check_stop(self):
            if gone.is_set():
                raise HandOver(15)
            super()._check_stop()

    with bench.store.folder(name).driving(), pytest.raises(HandOver):
        GoesAway(bench.store, name, bench.runtime).run()
    assert list(Journal(bench.store.folder(name).path / "done.jsonl").entries) == ["a.txt"]
    assert bench.written() == {"a.txt.out": "a1\n"}
    bench.seen.clear()
    drive(bench.store, name, runtime=bench.runtime)
    assert bench.requests == [b"b1"]
    assert bench.written() == {"a.txt.out": "a1\n", "b.txt.out": "b1\n"}


def test_a_journal_that_was_cut_in_two_counts_as_far_as_it_is_whole(tmp_path):
    (tmp_path / "done.jsonl").write_text('{"name": "a", "records": 1}\n{"name": "b", "rec')
    journal = Journal(tmp_path / "done.jsonl")
    assert list(journal.entries) == ["a"]
    journal.add("b", records=2)
    assert list(Journal(tmp_path / "done.jsonl").entries) == ["a", "b"]


def test_a_stop_leaves_whole_outputs_and_no_half_one(bench):
    name = ""

    def stops(_container, _headers, body):
        if body == b"b2":
            bench.store.folder(name).request_stop()
            time.sleep(0.3)
        return 200, body

    bench.answer = stops
    bench.write(a="a1\n", b="b1\nb2\nb3\n" + "b4\n" * 1000)
    name = bench.submit(BatchStrategy="SingleRecord")
    record = drive(bench.store, name, runtime=bench.runtime)
    assert str(record.status) == "Stopped"
    assert record.failure_reason == ""
    assert bench.written() == {"a.txt.out": "a1\n"}


def test_a_job_that_was_stopped_before_it_began_starts_nothing(bench):
    bench.write(a="a1\n")
    name = bench.submit()
    bench.store.folder(name).request_stop()
    assert str(drive(bench.store, name, runtime=bench.runtime).status) == "Stopped"
    assert bench.runtime.started == []


def test_nothing_to_read_is_said_before_anything_is_recorded(bench):
    bench.inputs.mkdir()
    with pytest.raises(ChannelError, match=r"transform job 'job-1': .* is an empty folder"):
        bench.submit()
    assert bench.store.names() == []


def test_outputs_among_the_inputs_are_refused(bench):
    bench.write(a="1\n")
    with pytest.raises(OutputPathError, match="lies inside the input"):
        bench.submit(put={"S3OutputPath": f"file://{bench.inputs}/out"})


def test_a_name_that_is_used_is_refused_as_aws_does(bench):
    bench.write(a="1\n")
    bench.run()
    with pytest.raises(JobExistsError, match="Transform job names must be unique") as caught:
        bench.submit()
    assert caught.value.aws_code == "ResourceInUse"


def test_a_model_that_is_not_there_is_named(bench):
    bench.write(a="1\n")
    with pytest.raises(BadInputError, match=r'Could not find model "arn:aws:sagemaker:.*:model/other"'):
        bench.submit(ModelName="other")


REFUSED = {
    "DataCaptureConfig": {"DestinationS3Uri": "s3://bucket/x"},
    "ExperimentConfig": {"TrialName": "x"},
}


@pytest.mark.parametrize(("member", "value"), REFUSED.items())
def test_what_is_not_emulated_raises_by_name(bench, member, value):
    bench.write(a="1\n")
    with pytest.raises(UnsupportedOptionError, match=member) as caught:
        bench.submit(**{member: value})
    assert caught.value.hint


WRONG = {
    "payload beyond 100": ({"MaxPayloadInMB": 101}, "MaxPayloadInMB=101 is more than 100"),
    "product beyond 100": ({"MaxPayloadInMB": 20, "MaxConcurrentTransforms": 6}, "is 120, more than 100"),
    "a filter of 64 characters": ({"DataProcessing": {"InputFilter": "$" + "x" * 63}}, "less than or equal to 63"),
    "a join of text": ({"DataProcessing": {"JoinSource": "Input"}}, "ContentType is None"),
    "a timeout of an hour and a second": (
        {"ModelClientConfig": {"InvocationsTimeoutInSeconds": 3601}},
        "less than or equal to 3600",
    ),
    "four retries": ({"ModelClientConfig": {"InvocationsMaxRetries": 4}}, "less than or equal to 3"),
    "17 variables": ({"Environment": {f"V{n}": "x" for n in range(17)}}, "less than or equal to 16"),
    "an unknown type": ({"TransformResources": {"InstanceType": "ml.m5.huge", "InstanceCount": 1}}, "enum value set"),
}


@pytest.mark.parametrize(("members", "reason"), WRONG.values(), ids=WRONG)
def test_a_request_beyond_a_limit_is_refused(bench, members, reason):
    bench.write(a="1\n")
    with pytest.raises(BadInputError, match=reason):
        bench.submit(**members)


def test_the_description_is_the_request_with_defaults_and_the_state(bench):
    bench.write(a="1\n")
    job = bench.run(MaxPayloadInMB=2)
    description = job.describe()
    assert description["TransformJobStatus"] == "Completed"
    assert description["TransformJobArn"].endswith(":transform-job/job-1")
    assert description["ModelClientConfig"] == {"InvocationsTimeoutInSeconds": 600, "InvocationsMaxRetries": 3}
    assert description["TransformInput"]["CompressionType"] == "None"
    assert description["DataProcessing"] == {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    assert description["MaxPayloadInMB"] == 2
    assert description["TransformEndTime"] >= description["TransformStartTime"] >= description["CreationTime"]


def test_deleting_the_model_ends_no_job(bench):
    bench.write(a="1\n")
    name = bench.submit()
    bench.models.remove("model-1")
    assert str(drive(bench.store, name, runtime=bench.runtime).status) == "Completed"


def test_clearing_away_leaves_what_a_running_job_needs_and_takes_what_an_ended_one_left(bench, monkeypatch):
    bench.write(a="1\n")
    name = bench.submit()
    remains = [Remains(label, "container 1", lambda: None) for label in (f"transform-jobs/{name}", "transform-jobs/z")]
    monkeypatch.setattr(leftovers, "engine_answers", lambda: True)
    monkeypatch.setattr(leftovers, "get_runtime", lambda runtime: Engine(remains if runtime == "docker" else []))
    leftover_entries, _ = leftovers.find_leftovers(JobStore(bench.store.home), with_work=True)
    assert [entry.text for entry in leftover_entries] == ["container 1 of transform job 'z'"]
    drive(bench.store, name, runtime=bench.runtime)
    bench.store.folder(name).make_work_path()
    leftover_entries, _ = leftovers.find_leftovers(JobStore(bench.store.home), with_work=True)
    assert sorted(entry.text.partition(" ")[0] for entry in leftover_entries) == [
        str(bench.store.folder(name).work_path),
        "container",
        "container",
    ]


class Engine:
    def __init__(self, remains):
        self.remains = remains

    def leftovers(self, _home):
        return self.remains
