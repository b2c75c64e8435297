"""Another S3 as a storage: what is fetched, cached, written and listed when nothing goes wrong."""

import hashlib
import io
import json
import os
import threading
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig

import launcher
from launcher.errors import ChannelError, OutputPathError, StorageError
from launcher.settings import S3Settings
from launcher.storage import s3 as s3_module
from launcher.storage.cache import Cache
from launcher.storage.s3 import S3Storage
from launcher.trees import Tree
from tests.launcher.storage.conftest import MIB, PATIENT


def fill(s3, bucket, objects):
    for key, content in objects.items():
        s3.put_object(Bucket=bucket, Key=key, Body=content)


def files_below(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def keys_of(s3, bucket):
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def some_bytes(count):
    return hashlib.shake_256(b"seed").digest(count)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_prefix_becomes_a_folder(storage, s3, bucket, tmp_path, slash):
    fill(s3, bucket, {"p/d/": b"", "p/d/a": b"1", "p/d/x/ä ö+%": b"2", "p/d/empty": b"", "p/e": b"no"})
    uri = f"s3://{bucket}/p/d{slash}"
    assert storage.locate(uri, tmp_path / "in/train") == (tmp_path / "in/train", False)
    assert not (tmp_path / "in").exists(), "locating copies nothing"
    path = storage.fetch(uri, tmp_path / "in/train")
    assert files_below(path) == {"a": b"1", "x/ä ö+%": b"2", "empty": b""}
    assert storage.fetch(uri, tmp_path / "in/train") == path, "and may be repeated"
    assert files_below(tmp_path / "in") == {f"train/{name}": data for name, data in files_below(path).items()}


def test_one_object_becomes_a_file(storage, s3, bucket, tmp_path):
    fill(s3, bucket, {"p/a.csv": b"1"})
    path = storage.fetch(f"s3://{bucket}/p/a.csv", tmp_path / "train")
    assert path == tmp_path / "train/a.csv"
    assert storage.locate(f"s3://{bucket}/p/a.csv", tmp_path / "train") == (path, True)
    assert path.read_bytes() == b"1"
    assert storage.size(f"s3://{bucket}/p/a.csv") == 1
    assert storage.size(f"s3://{bucket}/p") is None


def test_a_choice_of_objects_is_lent_through_the_cache(storage, server, s3, bucket, tmp_path):
    """As for a manifest, or the part of a host: an object may be needed under two names."""
    fill(s3, bucket, {"p/a": b"1", "p/b": b"2", "p/c": b"3"})
    place = f"s3://{bucket}/p"
    assert storage.channel_items(f"{place}/") == {name: f"{place}/{name}" for name in "abc"}
    assert storage.missing([f"{place}/a", f"{place}/gone", f"{place}/b", f"{place}/"]) == [f"{place}/gone", f"{place}/"]
    wanted = {tmp_path / "1" / "x": f"{place}/a", tmp_path / "deep" / "y": f"{place}/c", tmp_path / "z": f"{place}/a"}
    storage.lend_all(wanted)
    storage.lend_all(wanted)
    assert [path.read_bytes() for path in wanted] == [b"1", b"3", b"1"]
    with pytest.raises(StorageError, match="gone"):
        storage.lend_all({tmp_path / "w": f"{place}/gone"})
    with pytest.raises(ChannelError, match="No S3 objects found under S3 URL"):
        storage.channel_items(f"{place}x/")


@pytest.mark.parametrize("mode", ["FastFile", "Pipe"])
def test_another_s3_is_fetched_before_a_job_streams_from_it_and_the_job_says_so(
    storage, server, s3, bucket, make_source, monkeypatch, mode
):
    fill(s3, bucket, {"p/a": b"1", "p/b": b"2"})
    monkeypatch.setenv("LAUNCHER_S3_ENDPOINT", server.url)
    script = (
        "import os, pathlib\nstem = os.environ['SM_CHANNEL_TRAIN']\n"
        "print('SEEN', open(stem + '_0').read() if not os.path.isdir(stem) else sorted(os.listdir(stem)))"
    )
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(script), runtime="process")
    channel = launcher.TrainingInput(f"s3://{bucket}/p/", input_mode=mode)
    estimator.fit({"train": channel}, logs=False, job_name="job-1")
    job = estimator.latest_training_job
    assert ("SEEN 12" if mode == "Pipe" else "SEEN ['a', 'b']") in job.logs()
    assert job.warnings == [
        f"channel 'train': {mode} downloads all objects from {server.url} before the job starts, through the cache"
    ]


def test_listings_of_several_pages_are_read_to_their_end(storage, server, s3, bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    keys = [f"k/{number}" for number in range(8)]
    fill(s3, bucket, dict.fromkeys(keys, b""))
    assert list(storage.keys(f"s3://{bucket}", "k/")) == keys
    assert server.count("ListObjectsV2") == 3


@pytest.mark.parametrize("upload", ["in one piece", "by parts", "by odd parts"])
def test_a_large_object_arrives_as_it_was_sent(storage, s3, bucket, tmp_path, upload):
    content = some_bytes(13 * MIB + 5)
    if upload == "in one piece":
        fill(s3, bucket, {"big": content})
    else:
        size = 5 * MIB if upload == "by parts" else 5 * MIB + 7
        s3.upload_fileobj(io.BytesIO(content), bucket, "big", Config=TransferConfig(MIB, multipart_chunksize=size))
    assert storage.fetch(f"s3://{bucket}/big", tmp_path / "in").read_bytes() == content


def test_the_second_fetch_comes_from_the_cache(storage, server, s3, bucket, tmp_path, home):
    fill(s3, bucket, {"a": b"1", "b": b"2"})
    storage.fetch(f"s3://{bucket}/", tmp_path / "first")
    fill(s3, bucket, {"b": b"new"})
    server.seen.clear()
    storage.fetch(f"s3://{bucket}/", tmp_path / "second")
    assert server.seen == [("ListObjectsV2", ""), ("GetObject", "b")]
    assert files_below(tmp_path / "second") == {"a": b"1", "b": b"new"}
    assert (tmp_path / "first/a").samefile(tmp_path / "second/a")
    assert (home / "cache").is_dir()


def test_many_jobs_that_want_the_same_object_bring_it_once(server, storage, s3, bucket, tmp_path):
    fill(s3, bucket, {"big": some_bytes(3 * PATIENT.range_bytes // 2)})
    cache = Cache(tmp_path / "cache", 1 << 30)
    keys = []

    def fetch(number):
        own = S3Storage(S3Settings("endpoint", server.url), limits=PATIENT, cache=cache)
        keys.append(own.fetch(f"s3://{bucket}/big", tmp_path / f"job-{number}").stat().st_ino)

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert server.count("GetObject") == 2, "one for each of its two ranges"


def test_a_downloaded_file_is_the_callers_own(storage, s3, bucket, tmp_path):
    """It may be changed without anybody else's input changing."""
    fill(s3, bucket, {"a": b"1"})
    storage.download_all({f"s3://{bucket}/a": tmp_path / "x/a"})
    assert (tmp_path / "x/a").read_bytes() == b"1"
    assert (tmp_path / "x/a").stat().st_nlink == 1
    fill(s3, bucket, {"a": b"2"})
    storage.download_all({f"s3://{bucket}/a": tmp_path / "x/a"})
    assert (tmp_path / "x/a").read_bytes() == b"2"
    assert storage.read_bytes(f"s3://{bucket}/a") == b"2"


def test_what_is_known_of_an_object(storage, s3, bucket):
    fill(s3, bucket, {"p/a": b"123", "p/b/c": b""})
    result = storage.head(f"s3://{bucket}/p/a")
    assert (result.size, result.etag) == (3, hashlib.md5(b"123").hexdigest())
    assert storage.head(f"s3://{bucket}/p/x") is None
    there = {"p/a": True, "p/b": True, "p/b/": True, "": True, "p/x": False, "p/b/c/d": False}
    assert {key: storage.exists(f"s3://{bucket}/{key}") for key in there} == there


def test_a_beginning_of_a_name_is_not_there_by_itself(storage, s3, bucket):
    fill(s3, bucket, {"job-10/output": b""})
    assert not storage.exists(f"s3://{bucket}/job-1")


@pytest.mark.parametrize("size", [0, 5, 5 * MIB, 11 * MIB])
def test_a_result_is_stored_whole(storage, s3, bucket, tmp_path, size):
    content = some_bytes(size)
    (tmp_path / "model.tar.gz").write_bytes(content)
    storage.put_file(tmp_path / "model.tar.gz", f"s3://{bucket}/job/output/model.tar.gz")
    assert s3.get_object(Bucket=bucket, Key="job/output/model.tar.gz")["Body"].read() == content
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_what_a_killed_upload_of_the_same_result_left_behind_goes_away(storage, s3, bucket, tmp_path):
    for key in ("job/model.tar.gz", "job/model.tar.gz.other"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    (tmp_path / "model.tar.gz").write_bytes(bytes(6 * MIB))
    storage.put_file(tmp_path / "model.tar.gz", f"s3://{bucket}/job/model.tar.gz")
    left = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [entry["Key"] for entry in left] == ["job/model.tar.gz.other"]


def test_a_folder_is_followed_file_by_file(storage, server, s3, bucket, tmp_path):
    source, uri, state = tmp_path / "source", f"s3://{bucket}/job/intermediate", {}
    (source / "x").mkdir(parents=True)
    (source / "a").write_text("1")
    (source / "x/b").write_text("2")
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    assert storage.sync_folder(source, uri, state) == 2
    assert keys_of(s3, bucket) == ["job/intermediate/a", "job/intermediate/x/b"]
    assert storage.sync_folder(source, uri, state) == 0
    (source / "a").write_text("changed")
    server.seen.clear()
    assert storage.sync_folder(source, uri, state) == 1
    assert server.seen == [("PutObject", "job/intermediate/a")]
    assert storage.read_bytes(f"{uri}/a") == b"changed"


def test_a_file_that_changes_or_goes_while_it_is_read_is_left_for_the_next_time(storage, s3, bucket, tmp_path):
    """The job writes as the folder is read: what was read is not sent, and not taken for sent."""
    source, state = tmp_path / "source", {}
    source.mkdir()
    for name in ("gone", "small", "large", "quiet"):
        (source / name).write_bytes(bytes(6 * MIB if name == "large" else 5))
    real_pread = os.pread

    def pread(descriptor, count, offset):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        data = real_pread(descriptor, count, offset)
        if path.name in ("small", "large") and not offset:
            with path.open("ab") as file:
                file.write(b"more")
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", pread)
        real_open = Tree.open_file

        def open_file(tree, path, **options):
            if path == "gone":
                (source / path).unlink(missing_ok=True)
            return real_open(tree, path, **options)

        patch.setattr(Tree, "open_file", open_file)
        assert storage.sync_folder(source, f"s3://{bucket}/i", state) == 1
    assert set(state) == {"quiet"}
    assert keys_of(s3, bucket) == ["i/quiet"]
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert storage.sync_folder(source, f"s3://{bucket}/i", state) == 2
    assert len(storage.read_bytes(f"s3://{bucket}/i/small")) == 9


def test_a_name_that_is_no_text_is_sent_all_the_same(storage, s3, bucket, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / os.fsdecode(b"\xff")).touch()
    assert storage.sync_folder(tmp_path / "source", f"s3://{bucket}/i", {}) == 1
    assert keys_of(s3, bucket) == ["i/\ufffd"]


def test_nothing_below_a_prefix_is_said_in_sagemakers_words(storage, s3, bucket, tmp_path):
    fill(s3, bucket, {"data/": b"", "Data/a": b""})
    words = (
        rf'No S3 objects found under S3 URL "s3://{bucket}/data/" given in input data source\. Please ensure that the '
        rf"bucket exists in the selected region \(us-east-1\), that objects exist under that S3 prefix, and that the "
        rf'role "[^"]+" has "s3:ListBucket" permissions on bucket "{bucket}"\.'
    )
    for act in (storage.locate, storage.fetch):
        with pytest.raises(ChannelError, match=rf"{words}\n.*Keys are case-sensitive"):
            act(f"s3://{bucket}/data/", tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_a_missing_bucket_is_said_in_sagemakers_words_and_those_of_the_s3(storage, tmp_path):
    words = r"(?s)No S3 objects found.*NoSuchBucket \(404\): The specified bucket does not exist.*LAUNCHER_S3_ENDPOINT"
    with pytest.raises(ChannelError, match=words):
        storage.fetch("s3://no-such-bucket/data/", tmp_path / "in")
    with pytest.raises(OutputPathError, match=r"output path s3://no-such-bucket/x: .*NoSuchBucket"):
        storage.check_writable("s3://no-such-bucket/x")


@pytest.mark.parametrize("act", ["download_all", "read_bytes"])
@pytest.mark.parametrize("bucket_exists", [True, False])
def test_a_missing_key_is_said_in_the_words_of_the_s3(storage, bucket, tmp_path, act, bucket_exists):
    name = bucket if bucket_exists else "no-such-bucket"
    code = "NoSuchKey" if bucket_exists else "NoSuchBucket"
    uri = f"s3://{name}/no"
    with pytest.raises(StorageError, match=rf"s3://{name}/no.*{code} \(404\): The specified") as caught:
        getattr(storage, act)({uri: tmp_path / "file"} if act == "download_all" else uri)
    assert caught.value.aws_code == code
    assert list(tmp_path.glob("file*")) == []


def test_a_key_that_can_be_no_file_is_refused_before_anything_is_written(storage, server, s3, bucket, tmp_path):
    fill(s3, bucket, {"p/a": b"1", "p/x//y": b"2"})
    with pytest.raises(ChannelError, match="empty part"):
        storage.fetch(f"s3://{bucket}/p/", tmp_path / "in")
    assert not (tmp_path / "in").exists()
    assert server.count("GetObject") == 0


def test_a_bucket_is_made_unless_it_is_there(storage, s3, bucket):
    storage.make_bucket(f"s3://{bucket}-new")
    storage.make_bucket(f"s3://{bucket}-new")
    s3.head_bucket(Bucket=f"{bucket}-new")


def test_a_check_for_writing_writes_nothing(storage, server, bucket):
    storage.check_writable(f"s3://{bucket}/job")
    assert [operation for operation, _ in server.seen] == ["ListObjectsV2"]


def test_a_full_disk_leaves_no_half_of_a_channel(storage, s3, bucket, tmp_path, monkeypatch):
    fill(s3, bucket, {"a": b"1", "b": b"2"})

    def full(*_arguments):
        raise OSError(28, "No space left on device", str(tmp_path / "in"))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Exception, match="No space left on device"):
        storage.fetch(f"s3://{bucket}/", tmp_path / "in")
    assert list(tmp_path.glob("in*")) == []


def test_a_bar_is_shown_on_a_terminal_alone_and_to_those_who_wait(server, s3, bucket, tmp_path, monkeypatch, capsys):
    from launcher.storage import parallel

    fill(s3, bucket, {"a": b"1"})
    own = S3Storage(S3Settings("endpoint", server.url))
    for terminal, wait, shown in ((False, 0.0, False), (True, 60.0, False), (True, 0.0, True)):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(parallel, "_BAR_AFTER_SECONDS", wait)
        monkeypatch.setenv("FORCE_COLOR", "1")
        own.download_all({f"s3://{bucket}/a": tmp_path / "a"})
        captured = capsys.readouterr()
        assert ("Downloading a" in captured.err, captured.out) == (shown, "")


def test_many_objects_are_deleted_in_few_requests(storage, server, s3, bucket, monkeypatch):
    monkeypatch.setattr(s3_module, "_MAX_DELETES", 2)
    fill(s3, bucket, dict.fromkeys(["a & b", "<c>", "d", "é", "stays", "z"], b""))
    storage.delete(bucket, iter(["a & b", "<c>", "d", "é", "never was"]))
    assert keys_of(s3, bucket) == ["stays", "z"]
    assert server.count("DeleteObjects") == 3


def test_an_object_that_may_not_be_deleted_is_named(storage, s3, bucket):
    fill(s3, bucket, {"a": b"1", "kept": b"2"})
    resource = f"arn:aws:s3:::{bucket}/kept"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": resource}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    with pytest.raises(
        StorageError, match=rf"DeleteObjects of s3://{bucket}/kept at .* failed after 1 try: AccessDenied"
    ):
        storage.delete(bucket, ["a", "kept"])
    assert keys_of(s3, bucket) == ["kept"]


def test_a_listing_with_a_delimiter_goes_over_pages_in_the_order_of_keys(storage, s3, bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    fill(s3, bucket, dict.fromkeys(["a", "b/1", "b/2", "c", "d/1", "é"], b""))
    result = [entry if isinstance(entry, str) else entry.key for entry in storage.entries(f"s3://{bucket}/", "/")]
    assert result == ["a", "b/", "c", "d/", "é"]
