"""An S3 that fails, refuses, hangs, breaks off or lies: a named error in bounded time, and nothing half left behind."""

import contextlib
import re
import socket
import threading

import pytest

import launcher
from launcher.errors import LauncherError, StorageError
from launcher.settings import S3Settings
from launcher.storage.s3 import S3Limits, S3Storage
from tests.fakes import FakeRuntime
from tests.launcher.storage.conftest import PATIENT

SEVERAL_RANGES = 3 * PATIENT.range_bytes // 2
SEVERAL_PARTS = 3 * PATIENT.part_bytes // 2
# Fault -> what the error says of it, and how often is tried.
REFUSALS = {
    "500": (r"InternalError \(500\)", 3),
    "503": (r"SlowDown \(503\): Please reduce your request rate", 3),
    "403": (r"AccessDenied \(403\): Access Denied", 1),
    "expired": (r"ExpiredToken \(400\): The provided token has expired", 1),
    "bucket gone": (r"NoSuchBucket \(404\)", 1),
    "hang": (r"ReadTimeoutError: nothing came for 1 s", 3),
    "reset": (r"ConnectionClosedError", 3),
}
BROKEN_CONTENTS = {
    "hang in content": (r"ReadTimeoutError: nothing came for 1 s", 3),
    "reset in content": (r"ResponseStreamingError.*reset", 3),
    "truncated": (r"IncompleteReadError|ResponseStreamingError", 3),
    "wrong bytes": (r"FlexibleChecksumError|the content that arrived is not the one that is stored", 3),
    "too short": (r"bytes were sent where \d+ were asked for", 1),
    "changed": (r"PreconditionFailed \(412\)", 1),
}


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch):
    """botocore waits up to 1 s and 2 s between tries; that it does is its own business."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)


def error_of(operation, bucket, key, reason, tries):
    count = "1 try" if tries == 1 else f"{tries} tries"
    address = rf"s3://{re.escape(f'{bucket}/{key}')} at http://127\.0\.0\.1:\d+"
    return rf"(?s)^{operation} of {address} failed after {count}: .*({reason})"


def uploads_left(s3, bucket):
    return s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


def keys_of(s3, bucket):
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


@pytest.mark.parametrize("size", [5, SEVERAL_RANGES], ids=["small", "large"])
@pytest.mark.parametrize("fault", [*REFUSALS, *BROKEN_CONTENTS])
def test_a_fetch_that_fails_names_the_fault_and_leaves_nothing(
    storage, server, s3, bucket, tmp_path, home, fault, size, patient_storage
):
    reason, tries = (REFUSALS | BROKEN_CONTENTS)[fault]
    s3.put_object(Bucket=bucket, Key="in/data", Body=bytes(size))
    server.fail("GetObject", fault)
    with pytest.raises(StorageError, match=error_of("GetObject", bucket, "in/data", reason, tries)) as caught:
        storage.fetch(f"s3://{bucket}/in/", tmp_path / "in")
    assert caught.value.hint
    assert list(tmp_path.glob("in*")) == []
    assert [path for path in (home / "cache").rglob("*") if path.is_file()] == []
    server.mend()
    assert (patient_storage.fetch(f"s3://{bucket}/in/", tmp_path / "in") / "data").read_bytes() == bytes(size), (
        "later it works"
    )


@pytest.mark.parametrize("size", [5, SEVERAL_RANGES], ids=["small", "large"])
@pytest.mark.parametrize("fault", [fault for fault, (_, tries) in (REFUSALS | BROKEN_CONTENTS).items() if tries > 1])
def test_a_fault_that_goes_away_is_not_noticed(storage, server, s3, bucket, tmp_path, fault, size):
    content = bytes(range(256)) * (size // 256) + b"end"
    s3.put_object(Bucket=bucket, Key="data", Body=content)
    server.fail("GetObject", fault, times=2)
    storage.download_all({f"s3://{bucket}/data": tmp_path / "data"})
    assert (tmp_path / "data").read_bytes() == content


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("act", ["fetch", "locate", "exists", "check_writable"])
def test_a_listing_that_fails_names_the_fault(storage, server, bucket, tmp_path, act, fault):
    reason, tries = REFUSALS[fault]
    server.fail("ListObjectsV2", fault)
    arguments = [tmp_path / "in"] if act in ("fetch", "locate") else []
    with pytest.raises(LauncherError, match=f"(?s){reason}") as caught:
        getattr(storage, act)(f"s3://{bucket}/in/", *arguments)
    assert re.search(rf"ListObjectsV2 of s3://{bucket}/(in/)? at http.* after {tries} tr", str(caught.value))
    assert server.count("ListObjectsV2") == tries
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_put_that_fails_names_the_fault_and_leaves_no_object(storage, server, s3, bucket, tmp_path, fault):
    reason, tries = REFUSALS[fault]
    (tmp_path / "file").write_bytes(b"12345")
    server.fail("PutObject", fault)
    with pytest.raises(StorageError, match=error_of("PutObject", bucket, "out/file", reason, tries)):
        storage.put_file(tmp_path / "file", f"s3://{bucket}/out/file")
    assert keys_of(s3, bucket) == []
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_an_upload_by_parts_that_fails_leaves_neither_object_nor_parts(
    storage, server, s3, bucket, tmp_path, operation, fault
):
    reason, tries = REFUSALS[fault]
    (tmp_path / "file").write_bytes(bytes(SEVERAL_PARTS))
    server.fail(operation, fault, skip=1 if operation == "UploadPart" else 0)
    with pytest.raises(StorageError, match=error_of(operation, bucket, "out/file", reason, tries)):
        storage.put_file(tmp_path / "file", f"s3://{bucket}/out/file")
    assert keys_of(s3, bucket) == []
    assert uploads_left(s3, bucket) == []


@pytest.mark.parametrize("fault", ["hang"])
def test_an_upload_that_is_interrupted_leaves_neither_object_nor_parts(storage, server, s3, bucket, tmp_path, fault):
    """Ctrl-C comes in the middle of a part."""
    (tmp_path / "file").write_bytes(bytes(SEVERAL_PARTS))
    server.fail("UploadPart", fault)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("launcher.storage.parallel.threading.Thread.join", _interrupted_once(server))
        with pytest.raises(KeyboardInterrupt):
            storage.put_file(tmp_path / "file", f"s3://{bucket}/out/file")
    assert keys_of(s3, bucket) == []
    assert uploads_left(s3, bucket) == []


def _interrupted_once(server):
    real_join, done = threading.Thread.join, []

    def join(thread, timeout=None):
        real_join(thread, timeout)
        if not done and server.count("UploadPart"):
            done.append(True)
            raise KeyboardInterrupt

    return join


def test_what_was_sent_of_a_folder_before_a_fault_is_not_sent_again(storage, server, s3, bucket, tmp_path):
    state = {}
    (tmp_path / "source").mkdir()
    for name in "abc":
        (tmp_path / "source" / name).write_text(name)
    server.fail("PutObject", "403", skip=2, times=1)
    with pytest.raises(StorageError, match="AccessDenied"):
        storage.sync_folder(tmp_path / "source", f"s3://{bucket}/i", state)
    assert sorted(f"i/{name}" for name in state) == keys_of(s3, bucket)
    storage.sync_folder(tmp_path / "source", f"s3://{bucket}/i", state)
    assert keys_of(s3, bucket) == ["i/a", "i/b", "i/c"]


def test_no_try_begins_after_the_deadline(server, s3, bucket):
    """Ten tries of 0.3 s would take three seconds; a deadline of 0.5 s lets two of them begin."""
    s3.put_object(Bucket=bucket, Key="data", Body=b"1")
    server.fail("GetObject", "hang")
    limits = S3Limits(connect_seconds=0.5, read_seconds=0.3, tries=10, deadline_seconds=0.5)
    with pytest.raises(StorageError, match=r"failed after [12] tr.*: DeadlineError: no answer in 0\.5 s"):
        S3Storage(S3Settings("endpoint", server.url), limits=limits).read_bytes(f"s3://{bucket}/data")
    assert server.count("GetObject") <= 2


def unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_an_s3_that_is_not_there_is_named(tmp_path):
    url = f"http://127.0.0.1:{unused_port()}"
    words = rf"ListObjectsV2 of s3://b/k at {url} failed after 3 tries: EndpointConnectionError"
    with pytest.raises(StorageError, match=words) as caught:
        S3Storage(S3Settings("endpoint", url), limits=PATIENT).fetch("s3://b/k", tmp_path / "in")
    assert "LAUNCHER_S3_ENDPOINT" in caught.value.hint


def test_a_host_name_that_nobody_knows_is_named(tmp_path):
    url = "http://s3.invalid:9000"
    with pytest.raises(StorageError, match=rf"at {url} failed after 3 tries: EndpointConnectionError"):
        S3Storage(S3Settings("endpoint", url), limits=PATIENT).fetch("s3://b/k", tmp_path / "in")


def test_without_credentials_nothing_is_sent_and_the_error_tells_how(server, s3, bucket, monkeypatch):
    """And the next request finds those that were given meanwhile."""
    storage = S3Storage(S3Settings("endpoint", server.url), limits=PATIENT)
    s3.put_object(Bucket=bucket, Key="data", Body=b"1")
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(StorageError, match=r"failed after 0 tries: NoCredentialsError.*\n.*AWS_ACCESS_KEY_ID"):
            storage.read_bytes(f"s3://{bucket}/data")
        assert server.seen == []
    assert storage.read_bytes(f"s3://{bucket}/data") == b"1"


def test_a_profile_that_does_not_exist_is_named(server):
    with pytest.raises(StorageError, match=r"ProfileNotFound|profile \(nobody\) could not be found"):
        S3Storage(S3Settings("endpoint", server.url, profile="nobody")).exists("s3://b/")


def test_the_endpoint_is_used_even_where_boto3_is_told_another(server, s3, bucket, monkeypatch):
    s3.put_object(Bucket=bucket, Key="data", Body=b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{unused_port()}")
    own = S3Storage(S3Settings("endpoint", server.url), limits=PATIENT)
    assert own.read_bytes(f"s3://{bucket}/data") == b"1"
    aws = S3Storage(S3Settings("aws", region="eu-west-1"))
    assert aws._client.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"


def test_the_defaults_bound_every_request_to_a_minute_and_a_half():
    limits = S3Limits()
    longest_try = limits.connect_seconds + limits.read_seconds
    assert limits.deadline_seconds + longest_try <= 90


# The same through a job.


@pytest.fixture
def run_job(server, storage, s3, bucket, make_source, monkeypatch):
    """Run a job whose channel and results are in the bucket; returns it, ended."""
    monkeypatch.setenv("LAUNCHER_S3_ENDPOINT", server.url)
    monkeypatch.setattr("launcher.storage._s3_storage", lambda _settings: storage)
    s3.put_object(Bucket=bucket, Key="in/data.csv", Body=b"1,2")
    script = """
import os, time
from pathlib import Path
data = Path(os.environ["SM_CHANNEL_TRAIN"], "data.csv").read_text()
Path(os.environ["SM_MODEL_DIR"], "model").write_text(data)
intermediate = Path(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"])
intermediate.mkdir(parents=True, exist_ok=True)
(intermediate / "metrics.csv").write_text("epoch\\n")
"""

    def run(before_it_runs=lambda: None, addition=""):
        estimator = launcher.Estimator(
            entry_point="train.py",
            source_dir=make_source(script + addition),
            runtime=FakeRuntime(),
            output_path=f"s3://{bucket}/out",
        )
        job = estimator.submit({"train": f"s3://{bucket}/in/"}, job_name="job-1")
        before_it_runs()
        with contextlib.suppress(LauncherError):
            job.wait(logs=False)
        return job

    return run


def test_a_job_reads_and_writes_the_other_s3(run_job, s3, bucket):
    job = run_job()
    assert job.status == "Completed", job.failure_reason
    assert keys_of(s3, bucket) == [
        "in/data.csv",
        "out/job-1/output/intermediate/metrics.csv",
        "out/job-1/output/model.tar.gz",
        "out/job-1/source/sourcedir.tar.gz",
    ]
    assert (job.outputs.model_path / "model").read_text() == "1,2"
    assert not (job.path / "work").exists()


@pytest.mark.parametrize("fault", [*REFUSALS, *BROKEN_CONTENTS])
def test_a_job_whose_channel_cannot_be_had_fails_by_name(run_job, server, s3, bucket, fault):
    reason, tries = (REFUSALS | BROKEN_CONTENTS)[fault]
    job = run_job(lambda: server.fail("GetObject", fault))
    assert job.status == "Failed"
    words = error_of("GetObject", bucket, "in/data.csv", reason, tries).removeprefix("(?s)^")
    assert re.search(f"(?s)^ClientError: {words}", job.failure_reason)
    assert not (job.path / "work").exists(), "no part of the input is left"
    assert "out/job-1/output/model.tar.gz" not in keys_of(s3, bucket)


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_job_whose_results_cannot_be_stored_fails_by_name_and_keeps_them(run_job, server, s3, bucket, fault):
    reason, tries = REFUSALS[fault]
    job = run_job(lambda: server.fail("PutObject", fault))
    assert job.status == "Failed"
    assert re.search(
        rf"PutObject of s3://{bucket}/out/job-1/output/.* after {tries} tr.*({reason})", job.failure_reason
    )
    assert (job.path / "work/algo-1/opt_ml/model/model").read_text() == "1,2"
    assert any(str(job.path / "work") in line for line in job.warnings)
    assert keys_of(s3, bucket) == ["in/data.csv", "out/job-1/source/sourcedir.tar.gz"]


@pytest.mark.parametrize("fault", ["403", "hang"])
def test_a_job_outlives_an_s3_that_fails_while_it_runs(run_job, server, s3, bucket, fault):
    """Its intermediate files come late, which it is told."""
    times, seconds = (3, 8) if fault == "hang" else (1, 4)
    job = run_job(lambda: server.fail("PutObject", fault, times=times), f"time.sleep({seconds})\n")
    assert job.status == "Completed", job.failure_reason
    assert any(re.search(f"came late: PutObject of .*({REFUSALS[fault][0]})", line) for line in job.warnings)
    assert "out/job-1/output/intermediate/metrics.csv" in keys_of(s3, bucket)


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_job_is_refused_before_it_is_recorded_when_the_s3_does_not_answer(run_job, server, store, fault):
    server.fail("ListObjectsV2", fault)
    with pytest.raises(LauncherError, match=f"(?s){REFUSALS[fault][0]}"):
        run_job()
    assert store.names() == []
