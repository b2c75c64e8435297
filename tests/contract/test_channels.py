"""Channels as a job sees them, on both runtimes, from a folder and from S3: the same bytes under the same names."""

import gzip
import json
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import launcher
from launcher import errors
from launcher.aliases.inputs import ShuffleConfig
from launcher.requests.training import check_training_request
from launcher.storage import bucket_storage, storage_for, which_s3
from tests.shell import launcher_environment, run_launcher

RUNTIMES = [
    "process",
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("slurm", marks=pytest.mark.whole),
]
NAMES = ("train/a.csv", "train/deep/b.csv", "train/z.csv", "tr2.csv")
# Prints name and content of every file of a channel, or of every epoch of a stream.
SHOW = """
import json, os, pathlib
here = os.environ["SM_CURRENT_HOST"]
root = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"])
files = {str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}
print("SEEN", here, json.dumps(files), flush=True)
"""
STREAM = """
import os
for epoch in range(int(os.environ.get("EPOCHS", "2"))):
    with open(f"{os.environ['SM_CHANNEL_TRAIN']}_{epoch}", "rb") as stream:
        print("EPOCH", os.environ["SM_CURRENT_HOST"], epoch, stream.read().hex(), flush=True)
"""


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    return request.param


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    """A function that writes files and returns the URI of the folder around them."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if request.param == "folder":
            return f"file://{tmp_path}/data"
        storage = bucket_storage(which_s3())
        storage.make_bucket("s3://logs")
        storage.upload_all({tmp_path / "data" / name: f"s3://logs/{name}" for name in files})
        return "s3://logs"

    return write


@pytest.fixture
def run(make_source):
    def run(script, channels, runtime="process", **options):
        source = make_source(textwrap.dedent(script))
        estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=runtime, **options)
        try:
            estimator.fit(channels, logs=False, job_name="job-1")
        except launcher.JobFailedError as error:
            estimator.latest_training_job.error = error
        return estimator.latest_training_job

    return run


def seen(job, host="algo-1"):
    log = (job.path / ("job.log" if host == "algo-1" else f"job.{host}.log")).read_text()
    lines = [line for line in log.splitlines() if line.startswith(f"SEEN {host} ")]
    assert lines, log
    return json.loads(lines[0].split(" ", 2)[2])


def epochs(job, host="algo-1"):
    log = (job.path / ("job.log" if host == "algo-1" else f"job.{host}.log")).read_text()
    lines = [line.split() for line in log.splitlines() if line.startswith(f"EPOCH {host} ")]
    assert lines, log
    return [bytes.fromhex(line[3]) if len(line) > 3 else b"" for line in lines]


def records(data):
    """Take a RecordIO stream apart, by hand."""
    contents = []
    while data:
        magic, length = struct.unpack("<II", data[:8])
        assert magic == 0xCED7230A
        contents.append(data[8 : 8 + length])
        data = data[8 + length + -length % 4 :]
    return contents


@pytest.mark.parametrize("mode", ["File", "FastFile"])
def test_a_folder_has_the_same_files_in_either_mode_and_from_either_place(runtime, place, run, mode):
    uri = place({name: name for name in NAMES})
    job = run(SHOW, {"train": launcher.TrainingInput(f"{uri}/train/", input_mode=mode)}, runtime)
    assert seen(job) == {"a.csv": "train/a.csv", "deep/b.csv": "train/deep/b.csv", "z.csv": "train/z.csv"}
    config = job.describe()["InputDataConfig"][0]
    assert config["InputMode"] == mode


def test_fast_file_copies_nothing(place, run, home):
    """The job reads the very file that the folder, or the store, has."""
    uri = place({"train/a.bin": b"x" * 100_000})
    script = "import os; s = os.stat(os.environ['SM_CHANNEL_TRAIN'] + '/a.bin'); print('INODE', s.st_ino, s.st_nlink)"
    job = run(script, {"train": launcher.TrainingInput(f"{uri}/train/", input_mode="FastFile")})
    line = next(line for line in job.logs().splitlines() if line.startswith("INODE")).split()
    if uri.startswith("file://"):
        assert int(line[1]) == Path(uri.removeprefix("file://"), "train/a.bin").stat().st_ino
    else:
        assert int(line[2]) >= 2


def test_a_job_without_a_mode_of_a_channel_takes_that_of_the_job(run, tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a").write_text("1")
    job = run(STREAM, {"train": str(tmp_path / "rows")}, input_mode="Pipe")
    assert epochs(job) == [b"1", b"1"]
    assert job.describe()["AlgorithmSpecification"]["TrainingInputMode"] == "Pipe"


def test_a_pipe_streams_all_objects_in_order_in_every_epoch(runtime, place, run):
    uri = place({"train/a": "one,", "train/b": "two,", "train/deep/c": "three"})
    job = run(STREAM, {"train": launcher.TrainingInput(f"{uri}/train/", input_mode="Pipe")}, runtime)
    assert job.status == "Completed", job.logs()
    assert epochs(job) == [b"one,two,three"] * 2


def test_a_job_may_close_a_pipe_early_and_open_the_next_one_late(runtime, run, tmp_path):
    """4 MiB are more than a pipe holds: the writer is in the middle when the reader goes away."""
    (tmp_path / "big").write_bytes(b"x" * (4 << 20))
    script = """
    import os, time
    stem = os.environ["SM_CHANNEL_TRAIN"]
    with open(stem + "_0", "rb") as stream:
        assert stream.read(10) == b"x" * 10
    time.sleep(0.5)
    with open(stem + "_1", "rb") as stream:
        assert len(stream.read()) == 4 << 20
    # The writer removes a pipe once it has closed its end, which is when the reader sees the end too.
    for _ in range(1000):
        names = sorted(os.listdir(os.path.dirname(stem)))
        if names == ["train_2"]:
            break
        time.sleep(0.01)
    print("names", names)
    """
    job = run(script, {"train": launcher.TrainingInput(str(tmp_path / "big"), input_mode="Pipe")}, runtime)
    assert job.status == "Completed", (job.failure_reason, job.logs())
    assert "names ['train_2']" in job.logs()


def test_each_object_is_a_record_where_the_job_asks_for_recordio(place, run):
    contents = [b"", b"1", b"12345678", bytes(range(256)) * 5]
    uri = place({f"train/{number}": content for number, content in enumerate(contents)})
    job = run(STREAM, {"train": launcher.TrainingInput(f"{uri}/train/", input_mode="Pipe", record_wrapping="RecordIO")})
    assert [records(epoch) for epoch in epochs(job)] == [contents] * 2


@pytest.mark.parametrize("wrapping", ["None", "RecordIO"])
def test_gzip_is_unpacked_on_the_way(place, run, wrapping):
    uri = place({"train/a.gz": gzip.compress(b"first") + gzip.compress(b" half"), "train/b.gz": gzip.compress(b" end")})
    channel = launcher.TrainingInput(f"{uri}/train/", input_mode="Pipe", compression="Gzip", record_wrapping=wrapping)
    epoch = epochs(run(STREAM, {"train": channel}))[0]
    assert (epoch if wrapping == "None" else b"".join(records(epoch))) == b"first half end"


def test_what_is_no_gzip_fails_the_job_and_names_the_file(run, tmp_path):
    (tmp_path / "rows.gz").write_bytes(gzip.compress(random.Random(0).randbytes(300_000))[:-50_000])
    channel = launcher.TrainingInput(str(tmp_path / "rows.gz"), input_mode="Pipe", compression="Gzip")
    job = run(STREAM, {"train": channel})
    assert job.status == "Failed"
    assert job.failure_reason.startswith("ClientError: channel 'train' cannot be streamed: ")
    assert "rows.gz is no whole gzip file" in job.failure_reason


def test_a_seed_gives_each_epoch_an_order_of_its_own_and_each_job_the_same(place, run):
    letters = "abcdefghij"
    uri = place({f"train/{letter}": letter for letter in letters})
    channel = launcher.TrainingInput(f"{uri}/train/", input_mode="Pipe", shuffle_config=ShuffleConfig(7))
    first = epochs(run(STREAM, {"train": channel}))
    assert [sorted(epoch.decode()) for epoch in first] == [list(letters)] * 2
    assert first[0] != first[1]
    assert first[0].decode() != letters
    assert channel.config["ShuffleConfig"] == {"Seed": 7}


def test_hosts_get_parts_of_the_objects_that_are_whole_together(runtime, place, run):
    uri = place({f"train/{number}": str(number) for number in range(5)})
    channel = launcher.TrainingInput(f"{uri}/train/", distribution="ShardedByS3Key")
    job = run(SHOW, {"train": channel}, runtime, instance_count=2)
    assert job.status == "Completed", job.logs()
    assert seen(job, "algo-1") == {"0": "0", "2": "2", "4": "4"}
    assert seen(job, "algo-2") == {"1": "1", "3": "3"}


def test_a_host_may_get_no_object(run, tmp_path):
    (tmp_path / "lone").write_text("1")
    channel = launcher.TrainingInput(str(tmp_path / "lone"), distribution="ShardedByS3Key")
    job = run(SHOW, {"train": channel}, instance_count=2)
    assert [seen(job, "algo-1"), seen(job, "algo-2")] == [{"lone": "1"}, {}]


def test_a_shuffled_stream_in_parts_moves_between_hosts(place, run):
    uri = place({f"train/{letter}": letter for letter in "abcdefgh"})
    channel = launcher.TrainingInput(
        f"{uri}/train/", input_mode="Pipe", distribution="ShardedByS3Key", shuffle_config={"Seed": 3}
    )
    job = run(STREAM, {"train": channel}, instance_count=2)
    one_host, other_host = epochs(job, "algo-1"), epochs(job, "algo-2")
    for epoch in range(2):
        assert sorted((one_host[epoch] + other_host[epoch]).decode()) == list("abcdefgh")
        assert len(one_host[epoch]) == 4
    assert sorted(one_host[0]) != sorted(one_host[1])


@pytest.mark.parametrize("mode", ["File", "Pipe"])
def test_a_manifest_chooses_objects_by_prefix_and_path(place, run, mode):
    uri = place({name: f"{name};" for name in NAMES})
    place({"list.manifest": json.dumps([{"prefix": f"{uri}/train/"}, "z.csv", "deep/b.csv"])})
    channel = launcher.TrainingInput(f"{uri}/list.manifest", s3_data_type="ManifestFile", input_mode=mode)
    job = run(SHOW if mode == "File" else STREAM, {"train": channel})
    if mode == "File":
        assert seen(job) == {"z.csv": "train/z.csv;", "deep/b.csv": "train/deep/b.csv;"}
    else:
        assert epochs(job)[0] == b"train/z.csv;train/deep/b.csv;"


def test_an_augmented_manifest_streams_attributes_in_the_order_asked_for(runtime, place, run):
    uri = place({"images/1": b"\xff\x00one", "images/2": b"two"})
    lines = [
        {"source-ref": f"{uri}/images/1", "label": 3, "meta": {"b": [1], "a": "x"}},
        {"source-ref": f"{uri}/images/2", "label": 4, "meta": {}},
    ]
    place({"log.manifest": "\n".join(json.dumps(line) for line in lines) + "\n"})
    channel = launcher.TrainingInput(
        f"{uri}/log.manifest",
        s3_data_type="AugmentedManifestFile",
        input_mode="Pipe",
        record_wrapping="RecordIO",
        attribute_names=["label", "source-ref"],
        target_attribute_name="meta",
    )
    job = run(STREAM, {"train": channel}, runtime)
    assert job.status == "Completed", (job.failure_reason, job.logs())
    assert records(epochs(job)[0]) == [b"3", b"\xff\x00one", b'{"b":[1],"a":"x"}', b"4", b"two", b"{}"]


def test_a_writable_channel_is_a_copy_of_each_host(runtime, place, run, tmp_path):
    uri = place({"train/a.csv": "mine"})
    script = """
    import os, pathlib
    root = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"])
    assert (root / "a.csv").read_text() == "mine"
    (root / "a.csv").write_text("changed by " + os.environ["SM_CURRENT_HOST"])
    (root / "new").mkdir()
    """
    channel = launcher.TrainingInput(f"{uri}/train/", writable=True)
    job = run(script, {"train": channel}, runtime, instance_count=2)
    assert job.status == "Completed", (job.failure_reason, job.logs())
    storage = storage_for(uri)
    assert list(storage.channel_items(f"{uri}/train/")) == ["a.csv"]
    assert storage.fetch_object(f"{uri}/train/a.csv", tmp_path / "copy").read_text() == "mine"


def test_the_plan_says_how_a_channel_arrives(tmp_path, make_source):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    plan = str(
        estimator.plan(
            {
                "train": launcher.TrainingInput(str(tmp_path / "a"), input_mode="Pipe", record_wrapping="RecordIO"),
                "test": launcher.TrainingInput(str(tmp_path / "b"), writable=True),
            }
        )
    )
    assert "channel    train: 1 object, as RecordIO -> train_0, train_1, ..." in plan
    assert "channel    test: a copy for the job to change" in plan


def feeders():
    """Return the command lines of all feeders of this machine that belong to tests of this process."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "feeder.py" in text and os.environ["LAUNCHER_HOME"] in text:
            lines.append(path.parent.name)
    return lines


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_stop_ends_writers_that_wait_for_a_reader(runtime, make_source, store, tmp_path):
    (tmp_path / "rows").write_text("1")
    source = make_source("import time; print('ready', flush=True); time.sleep(60)")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=runtime, input_mode="Pipe")
    estimator.fit(str(tmp_path / "rows"), wait=False, job_name="job-1")
    wait_until(
        lambda: store.folder("job-1").log_path("algo-1").exists() and "ready" in estimator.latest_training_job.logs()
    )
    assert len(feeders()) == 1
    estimator.latest_training_job.stop()
    wait_until(lambda: estimator.latest_training_job.status == "Stopped")
    wait_until(lambda: feeders() == [])


SLOW_READER = """
import hashlib, os, time
digest, count = hashlib.sha256(), 0
with open(os.environ["SM_CHANNEL_TRAINING"] + "_0", "rb") as stream:
    while chunk := stream.read(1 << 18):
        digest.update(chunk)
        count += len(chunk)
        print("read", count, flush=True)
        time.sleep(0.1)
print("DIGEST", digest.hexdigest())
"""


def _driver(runtime, source, data):
    script = (
        "import launcher\n"
        f"options = dict(source_dir={source!r}, runtime={runtime!r}, input_mode='Pipe')\n"
        "e = launcher.Estimator(entry_point='train.py', **options)\n"
        f"e.fit({data!r}, job_name='job-1')\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], env=launcher_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def test_a_stream_goes_on_when_its_driver_is_killed_and_another_takes_the_job_up(runtime, make_source, store, tmp_path):
    import hashlib

    data = random.Random(1).randbytes(6 << 20)
    (tmp_path / "rows").write_bytes(data)
    driver = _driver(runtime, make_source(SLOW_READER), str(tmp_path / "rows"))
    log = store.folder("job-1").log_path("algo-1")
    wait_until(lambda: log.exists() and "read" in log.read_text())
    driver.kill()
    driver.wait()
    job = launcher.TrainingJob("job-1")
    job.wait(logs=False)
    assert job.status == "Completed", job.failure_reason
    assert f"DIGEST {hashlib.sha256(data).hexdigest()}" in job.logs()
    assert feeders() == []


def test_a_feeder_that_is_killed_fails_the_job_which_cannot_know_what_it_missed(make_source, store, tmp_path):
    (tmp_path / "rows").write_bytes(bytes(6 << 20))
    source = make_source(SLOW_READER)
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="process", input_mode="Pipe")
    estimator.fit(str(tmp_path / "rows"), wait=False, job_name="job-1")
    log = store.folder("job-1").log_path("algo-1")
    wait_until(lambda: log.exists() and "read" in log.read_text())
    (feeder,) = feeders()
    os.kill(int(feeder), signal.SIGKILL)
    job = launcher.TrainingJob("job-1")
    with pytest.raises(launcher.JobFailedError, match="the process that writes the pipes was killed"):
        job.wait(logs=False)


@pytest.mark.slow
def test_a_crash_of_the_driver_leaves_no_feeder_behind(runtime, make_source, store, tmp_path):
    """Nobody takes the job up: its host ends, and the feeder sees that by itself."""
    (tmp_path / "rows").write_text("1")
    source = make_source("import time; print('ready', flush=True); time.sleep(2)")
    driver = _driver(runtime, source, str(tmp_path / "rows"))
    log = store.folder("job-1").log_path("algo-1")
    wait_until(lambda: log.exists() and "ready" in log.read_text())
    time.sleep(0.3)  # the driver has told the feeder of the host
    driver.kill()
    driver.wait()
    assert len(feeders()) == 1
    wait_until(lambda: feeders() == [])


def test_a_job_that_puts_a_link_in_the_place_of_a_pipe_writes_nowhere_else(run, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "rows").write_text("data")
    script = f"""
    import os, time
    stem = os.environ["SM_CHANNEL_TRAIN"]
    with open(stem + "_0") as stream:
        stream.read()
    os.unlink(stem + "_1") if os.path.exists(stem + "_1") else None
    os.symlink({str(victim)!r}, stem + "_1")
    time.sleep(1)
    """
    run(script, {"train": launcher.TrainingInput(str(tmp_path / "rows"), input_mode="Pipe")})
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compression": "Gzip"}, "CompressionType=Gzip is used only in Pipe input mode"),
        ({"record_wrapping": "RecordIO"}, "RecordWrapperType=RecordIO is used only in Pipe input mode"),
        (
            {"s3_data_type": "AugmentedManifestFile", "attribute_names": ["a"]},
            "AugmentedManifestFile can only be used if the channel's input mode is Pipe",
        ),
        ({"s3_data_type": "AugmentedManifestFile", "input_mode": "Pipe"}, "AugmentedManifestFile needs AttributeNames"),
        ({"attribute_names": ["a"]}, "AttributeNames are those of an AugmentedManifestFile"),
        ({"s3_data_type": "ManifestFile", "input_mode": "FastFile"}, "FastFile reads S3Prefix only"),
        ({"writable": True, "input_mode": "FastFile"}, "a channel that the job may write to is a copy"),
    ],
)
def test_what_a_channel_cannot_be_is_refused_before_anything_starts(make_source, tmp_path, home, options, words):
    (tmp_path / "rows").write_text("1")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    with pytest.raises(errors.ChannelError, match=words):
        estimator.fit({"train": launcher.TrainingInput(str(tmp_path / "rows"), **options)}, job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "is not JSON"),
        ("{}", "the first element must be a valid non-empty S3Uri"),
        ('[{"prefix": ""}, "a"]', "the first element must be a valid non-empty S3Uri"),
        ('["a", "b"]', "the first element must be a valid non-empty S3Uri"),
        ('[{"prefix": "http://x/"}, "a"]', "is no S3 URI"),
        ('[{"prefix": "PLACE/"}]', "names no objects"),
        ('[{"prefix": "PLACE/"}, 7]', "element 2 is no text: 7"),
        ('[{"prefix": "PLACE/"}, "../a"]', "could leave the channel's folder"),
        ('[{"prefix": "PLACE/"}, "gone", "a"]', "names 1 object that cannot be read: PLACE/gone"),
    ],
)
def test_a_broken_manifest_is_refused_before_anything_starts(make_source, place, home, text, words):
    uri = place({"a": "1"})
    place({"m.json": text.replace("PLACE", uri)})
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    with pytest.raises(errors.ChannelError, match=words.replace("PLACE", uri)):
        estimator.fit({"train": launcher.TrainingInput(f"{uri}/m.json", s3_data_type="ManifestFile")}, job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no lines"),
        ("[1]", "line 1, is not a JSON object"),
        ('{"b": 1}', "has no attribute 'a-ref'"),
        ('{"a-ref": 5}', "the value of 'a-ref' is no S3 URI"),
        ('{"a-ref": "PLACE/a"}\n\n{"a-ref": "PLACE/gone"}', "names 1 object that cannot be read: PLACE/gone"),
    ],
)
def test_a_broken_augmented_manifest_is_refused(make_source, place, text, words):
    uri = place({"a": "1"})
    place({"m.json": text.replace("PLACE", uri)})
    channel = launcher.TrainingInput(
        f"{uri}/m.json", s3_data_type="AugmentedManifestFile", attribute_names=["a-ref"], input_mode="Pipe"
    )
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    with pytest.raises(errors.ChannelError, match=words.replace("PLACE", uri)):
        estimator.plan({"train": channel})


def test_a_fast_file_prefix_is_the_whole_name_of_a_folder(make_source, place):
    uri = place({"train/a": "1", "tr2": "2"})
    if uri.startswith("file://"):
        pytest.skip("a path is a folder or a file")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    assert estimator.plan({"train": launcher.TrainingInput("s3://logs/tr")})
    with pytest.raises(errors.ChannelError, match="FastFile needs the whole name of a folder"):
        estimator.plan({"train": launcher.TrainingInput("s3://logs/tr", input_mode="FastFile")})


def test_more_channels_than_20_are_refused_in_awss_words(make_source, tmp_path):
    (tmp_path / "rows").write_text("1")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    with pytest.raises(errors.RequestError, match="Member must have length less than or equal to 20"):
        estimator.plan({f"c{number}": str(tmp_path / "rows") for number in range(21)})
    with pytest.raises(errors.RequestError, match="Member must satisfy regular expression pattern"):
        estimator.plan({"no good": str(tmp_path / "rows")})


def test_a_folder_with_the_name_of_another_channels_pipe_is_refused(make_source, tmp_path):
    (tmp_path / "rows").write_text("1")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    with pytest.raises(errors.ChannelError, match="'train_0' has the name of a pipe of channel 'train'"):
        estimator.plan(
            {
                "train": launcher.TrainingInput(str(tmp_path / "rows"), input_mode="Pipe"),
                "train_0": str(tmp_path / "rows"),
            }
        )


@pytest.mark.slow
def test_the_command_line_gives_copies_and_modes(tmp_path, make_source):
    (tmp_path / "rows").write_text("1")
    source = make_source("")
    common = ["fit", "--source-dir", source, "--runtime", "process", "--dry-run", "-i", f"a={tmp_path}/rows"]
    answer = run_launcher(*common, "--writable", "a", "--json", cwd=tmp_path)
    document = json.loads(answer.stdout)
    assert document["Launcher"]["WritableChannels"] == ["a"]
    answer = run_launcher(*common, "--input-mode", "Pipe", cwd=tmp_path)
    assert "channel    a: 1 object -> a_0, a_1, ..." in answer.stdout
    answer = run_launcher(*common, "--writable", "b", cwd=tmp_path)
    assert answer.returncode == 2
    assert "--writable b: there is no channel 'b'" in answer.stderr


def test_a_document_that_names_no_channel_to_write_to_is_refused(tmp_path):
    request = {
        "TrainingJobName": "job-1",
        "RoleArn": "arn:aws:iam::111122223333:role/r",
        "AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": f"file://{tmp_path}/out"},
        "ResourceConfig": {"InstanceType": "local", "InstanceCount": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "Launcher": {"WritableChannels": ["b"]},
    }
    with pytest.raises(errors.ChannelError, match="WritableChannels names 'b', which is no channel"):
        check_training_request(request)


def test_without_namespaces_channels_are_the_same_below_another_base(place, run, monkeypatch):
    """Parts of hosts and copies are folders of the job's own there, and pipes are pipes."""
    monkeypatch.setenv("LAUNCHER_NAMESPACES", "off")
    uri = place({f"train/{number}": str(number) for number in range(4)})
    script = f"""
    {"".join(SHOW.splitlines(keepends=True)).strip().replace(chr(10), chr(10) + "    ")}
    with open(os.environ["SM_CHANNEL_STREAM"] + "_0") as stream:
        assert stream.read() == "0123"
    copy = pathlib.Path(os.environ["SM_CHANNEL_COPY"], "0")
    copy.write_text("changed")
    """
    channels = {
        "train": launcher.TrainingInput(f"{uri}/train/", distribution="ShardedByS3Key"),
        "stream": launcher.TrainingInput(f"{uri}/train/", input_mode="Pipe"),
        "copy": launcher.TrainingInput(f"{uri}/train/", writable=True),
    }
    job = run(script, channels, instance_count=2)
    assert job.status == "Completed", (job.failure_reason, job.logs())
    assert [seen(job, "algo-1"), seen(job, "algo-2")] == [{"0": "0", "2": "2"}, {"1": "1", "3": "3"}]
    storage = storage_for(uri)
    assert storage.fetch_object(f"{uri}/train/0", job.path / "original").read_text() == "0"
