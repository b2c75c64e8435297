"""The embedded store by itself: keys as S3 has them, nothing lost by a kill, nothing left behind, many processes."""

import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from launcher.s3_server.errors import S3Error
from launcher.s3_server.store import ObjectStore
from tests.launcher.storage.odd_names import BAD_BUCKETS, GOOD_BUCKETS, ODD_KEYS, REFUSED_KEYS

BUCKET = "some-bucket"


@pytest.fixture
def objects(tmp_path):
    store = ObjectStore(tmp_path / "s3")
    yield store
    store.close()


@pytest.fixture
def bucket(objects):
    objects.create_bucket(BUCKET)
    return objects


def put(store, key, data=b"data", **details):
    with store.content() as content:
        content.write(data)
        return store.put(BUCKET, key, content, **details)


def files(store):
    return sorted(path for path in store.root.rglob("*") if path.is_file() and path.parent != store.root)


def run_python(script, *arguments, **options):
    """Start a process that has ``store``, as the tests here do."""
    lines = "import sys, os\nfrom pathlib import Path\nfrom launcher.s3_server.store import ObjectStore\n"
    lines += "store = ObjectStore(Path(sys.argv[1]))\n" + textwrap.dedent(script)
    return subprocess.Popen([sys.executable, "-c", lines, *map(str, arguments)], text=True, **options)


def test_looking_into_a_store_that_is_not_there_writes_nothing(objects):
    assert objects.list_buckets() == []
    assert not objects.bucket_exists(BUCKET)
    assert objects.clean() == 0
    with pytest.raises(S3Error, match="NoSuchBucket"):
        objects.head(BUCKET, "key")
    assert not objects.root.exists()


def test_an_object_is_found_again_by_another_opener(bucket):
    stored = put(bucket, "a/b", b"text", content_type="text/plain", details={"metadata": {"who": "me"}})
    read_again = ObjectStore(bucket.root).get(BUCKET, "a/b")
    assert read_again == stored
    assert (read_again.size, read_again.etag) == (4, hashlib.md5(b"text").hexdigest())
    assert (read_again.content_type, read_again.metadata) == ("text/plain", {"who": "me"})
    assert read_again.path.read_bytes() == b"text"
    assert read_again.path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_odd_key_is_kept_as_it_is(bucket, key):
    put(bucket, key, key.encode())
    assert bucket.get(BUCKET, key).path.read_bytes() == key.encode()
    assert [stored.key for stored in bucket.list(BUCKET)] == [key]
    assert all(path.is_relative_to(bucket.root) for path in files(bucket))


def test_keys_that_look_alike_are_different_objects(bucket):
    for key in ODD_KEYS:
        put(bucket, key, key.encode())
    assert [stored.key for stored in bucket.list(BUCKET)] == sorted(ODD_KEYS, key=str.encode)
    for key in ODD_KEYS:
        assert bucket.get(BUCKET, key).path.read_bytes() == key.encode()


@pytest.mark.parametrize(("key", "code"), REFUSED_KEYS)
def test_a_key_that_s3_refuses_is_refused(bucket, key, code):
    with pytest.raises(S3Error) as caught:
        put(bucket, key)
    assert caught.value.code == code
    assert files(bucket) == []


@pytest.mark.parametrize("name", GOOD_BUCKETS)
def test_a_bucket_name_that_s3_takes_is_taken(objects, name):
    objects.create_bucket(name)
    assert [bucket_name for bucket_name, _ in objects.list_buckets()] == [name]


@pytest.mark.parametrize("name", BAD_BUCKETS)
def test_a_bucket_name_that_s3_refuses_is_refused(objects, name):
    with pytest.raises(S3Error) as caught:
        objects.create_bucket(name)
    assert caught.value.code == "InvalidBucketName"
    assert not objects.root.exists()


def test_a_misspelt_bucket_is_answered_with_the_near_one(bucket):
    with pytest.raises(S3Error, match=f"Did you mean s3://{BUCKET}"):
        bucket.head("sone-bucket", "key")


def test_only_an_empty_bucket_can_be_deleted(bucket):
    put(bucket, "key")
    with pytest.raises(S3Error, match="BucketNotEmpty"):
        bucket.delete_bucket(BUCKET)
    assert bucket.delete(BUCKET, "key")
    assert not bucket.delete(BUCKET, "key")
    bucket.delete_bucket(BUCKET)
    assert not bucket.bucket_exists(BUCKET)
    assert files(bucket) == []


def test_an_overwrite_leaves_what_a_reader_has_open(bucket):
    put(bucket, "key", b"old")
    with bucket.open(BUCKET, "key") as (_, file):
        put(bucket, "key", b"newer")
        assert file.read() == b"old"
    assert bucket.get(BUCKET, "key").path.read_bytes() == b"newer"
    assert len(files(bucket)) == 1


def test_a_moved_file_is_not_copied(bucket, tmp_path):
    source = tmp_path / "model.tar.gz"
    source.write_bytes(b"model")
    inode = source.stat().st_ino
    stored = bucket.put_file(BUCKET, "model.tar.gz", source, move=True)
    assert stored.path.stat().st_ino == inode
    assert stored.etag == hashlib.md5(b"model").hexdigest()
    assert not source.exists()


@pytest.mark.parametrize("move", [False, True])
def test_a_file_with_a_second_name_is_copied(bucket, tmp_path, move):
    """Its other name could change what the store holds."""
    source, other = tmp_path / "one", tmp_path / "other"
    source.write_bytes(b"text")
    other.hardlink_to(source)
    stored = bucket.put_file(BUCKET, "key", source, move=move, metadata={"a": "b"})
    other.write_bytes(b"changed")
    assert stored.path.read_bytes() == b"text"
    assert stored.metadata == {"a": "b"}
    assert source.exists() != move


def test_a_file_for_no_bucket_stays_where_it_is(objects, tmp_path):
    source = tmp_path / "one"
    source.write_bytes(b"text")
    with pytest.raises(S3Error, match="NoSuchBucket"):
        objects.put_file(BUCKET, "key", source, move=True)
    assert source.read_bytes() == b"text"
    assert not objects.root.exists()


def test_a_copy_shares_the_content_and_outlives_its_source(bucket):
    first = put(bucket, "first", b"text", details={"tags": {"a": "b"}})
    second = bucket.copy((BUCKET, "first"), BUCKET, "second", replace=lambda source: {})
    assert second.path.stat().st_ino == first.path.stat().st_ino
    bucket.delete(BUCKET, "first")
    assert second.path.read_bytes() == b"text"
    assert bucket.get(BUCKET, "second").tags == {"a": "b"}


def test_pages_follow_one_another_without_gap_or_repetition(bucket):
    keys = sorted([f"a/{i:03}" for i in range(25)] + [f"b/{i}/c" for i in range(7)] + ["a", "a0", "b", "c"])
    for key in keys:
        put(bucket, key)
    for limit in (1, 2, 3, 7, 100):
        for prefix, delimiter in [("", ""), ("", "/"), ("b/", "/"), ("a", ""), ("a", "0"), ("nothing", "")]:
            matching = [key for key in keys if key.startswith(prefix)]
            cut = len(prefix)
            expected = []
            for key in matching:
                place = key.find(delimiter, cut) if delimiter else -1
                name = key if place < 0 else key[: place + 1]
                if name not in expected:
                    expected.append(name)
            listed, after = [], ""
            while after is not None:
                page = bucket.list_page(BUCKET, prefix, delimiter=delimiter, after=after, limit=limit)
                names = sorted([stored.key for stored in page.objects] + page.prefixes)
                assert len(names) <= limit
                listed += names
                after = page.next_after
            assert listed == expected


def test_a_listing_goes_on_while_objects_come_and_go(bucket):
    for number in range(2500):
        put(bucket, f"{number:05}", b"")
    seen = []
    for stored in bucket.list(BUCKET, start_after="00009"):
        seen.append(stored.key)
        bucket.delete(BUCKET, stored.key)
    assert seen == [f"{number:05}" for number in range(10, 2500)]
    assert len(list(bucket.list(BUCKET))) == 10


def test_a_check_that_raises_changes_nothing(bucket):
    put(bucket, "key", b"old")

    def refuse(stored):
        raise S3Error("PreconditionFailed", f"there is {stored.size}")

    with pytest.raises(S3Error, match="there is 3"):
        put(bucket, "key", b"new", check=refuse)
    assert bucket.get(BUCKET, "key").path.read_bytes() == b"old"
    assert len(files(bucket)) == 1


@pytest.mark.parametrize("moment", ["while writing", "before the commit"])
def test_a_full_disk_is_named_and_changes_nothing(bucket, moment, monkeypatch):
    """/dev/full stands for the disk: the kernel refuses the write."""
    put(bucket, "key", b"old")
    if moment == "before the commit":
        monkeypatch.setattr(bucket._contents, "settle", raise_full)

    def put_half():
        with bucket.content() as content:
            content.write(b"half")
            if moment == "while writing":
                content.file.close()
                content.file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - the store closes it
                content.write(b"the rest")
            bucket.put(BUCKET, "key", content)

    with pytest.raises(S3Error) as caught:
        put_half()
    assert caught.value.code == "InsufficientStorage"
    assert str(bucket.root) in str(caught.value)
    assert bucket.get(BUCKET, "key").path.read_bytes() == b"old"
    assert len(files(bucket)) == 1


def raise_full(content):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_killed_writer_leaves_no_object_and_its_file_is_removed(bucket):
    process = run_python(
        f"""
        with store.content() as content:
            content.write(b"half")
            print("writing", flush=True)
            sys.stdin.read()
            store.put({BUCKET!r}, "key", content)
        """,
        bucket.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "writing\n"
    assert bucket.clean() == 0, "content that somebody is writing is not left over"
    assert ObjectStore(bucket.root).clean() == 0
    process.kill()
    process.communicate()
    assert bucket.head(BUCKET, "key") is None
    assert len(files(bucket)) == 1
    put(ObjectStore(bucket.root), "other")
    assert files(bucket) == [bucket.get(BUCKET, "other").path], "the next writer clears it away"


def test_what_was_settled_but_not_committed_is_removed_and_what_is_held_is_not(bucket):
    stored = put(bucket, "key")
    left = bucket.content_path("ff" + "0" * 30)
    held = bucket.content_path("ee" + "0" * 30)
    for path in (left, held):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert bucket.clean() == 1
        assert files(bucket) == sorted([stored.path, held])
    assert bucket.clean() == 1
    assert files(bucket) == [stored.path]


def test_an_acknowledged_put_survives_a_kill_at_any_moment(bucket):
    """Forty writers, each killed while it puts object after object; whatever they reported is there and whole."""
    script = f"""
    import hashlib
    number = 0
    while True:
        data = f"{{sys.argv[2]}}-{{number}}-".encode() * 2000
        with store.content() as content:
            content.write(data)
            store.put({BUCKET!r}, f"{{sys.argv[2]}}/{{number % 7}}", content)
        print(number, flush=True)
        number += 1
    """
    acknowledged = {}
    for writer in range(8):
        process = run_python(script, bucket.root, writer, stdout=subprocess.PIPE)
        for _ in range(5 + 3 * writer):
            last = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        acknowledged[writer] = int((rest or [last])[-1])
    bucket.clean()
    result = {entry.key: entry for entry in bucket.list(BUCKET)}
    assert len(files(bucket)) == len(result)
    for writer, last in acknowledged.items():
        for number in range(max(0, last - 6), last + 1):
            text = result[f"{writer}/{number % 7}"].path.read_bytes()
            # The one after the last report may have been committed as well.
            assert text in {f"{writer}-{n}-".encode() * 2000 for n in (number, number + 7)}
            assert hashlib.md5(text).hexdigest() == result[f"{writer}/{number % 7}"].etag


@pytest.mark.slow
def test_thirty_processes_use_a_new_store_at_once(objects):
    script = f"""
    store.create_bucket({BUCKET!r})
    for number in range(10):
        with store.content() as content:
            content.write(sys.argv[2].encode())
            store.put({BUCKET!r}, f"own/{{sys.argv[2]}}/{{number}}", content)
        with store.content() as content:
            content.write(sys.argv[2].encode() * 1000)
            store.put({BUCKET!r}, "shared", content)
        store.clean()
        with store.open({BUCKET!r}, "shared") as (found, file):
            text = file.read().decode()
            assert len(text) == found.size and len(set(text.split("-"))) == 2, text
    """
    processes = [run_python(script, objects.root, f"{number}-", stderr=subprocess.PIPE) for number in range(30)]
    assert [process.communicate()[1] for process in processes] == [""] * 30
    assert len(list(objects.list(BUCKET))) == 301
    assert objects.clean() == 0
    assert len(files(objects)) == 301


def test_a_fork_has_connections_of_its_own(bucket):
    put(bucket, "key")
    child = os.fork()
    if child == 0:
        put(bucket, "child")
        os._exit(0 if bucket.head(BUCKET, "key") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert {stored.key for stored in bucket.list(BUCKET)} == {"key", "child"}


def test_content_that_was_damaged_from_outside_is_named(bucket):
    stored = put(bucket, "key", b"text")
    stored.path.chmod(0o644)
    stored.path.write_bytes(b"te")
    with pytest.raises(S3Error, match="is not 4 bytes long"), bucket.open(BUCKET, "key"):
        pass
    stored.path.unlink()
    with pytest.raises(S3Error, match="is missing"), bucket.open(BUCKET, "key"):
        pass


def test_an_index_that_is_no_database_is_named(tmp_path):
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "index.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 30)
    with pytest.raises(S3Error, match=r"index\.sqlite"):
        ObjectStore(tmp_path / "s3").list_buckets()


def test_times_do_not_come_from_the_file(bucket, tmp_path):
    source = tmp_path / "old"
    source.write_bytes(b"x")
    os.utime(source, (0, 0))
    before = time.time()
    assert before <= bucket.put_file(BUCKET, "key", source, move=True).modified <= time.time()
