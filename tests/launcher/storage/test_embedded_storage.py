"""The embedded store as a job's storage: links and renames, no copies, and S3's own words for what is not there."""

import pytest

from launcher.errors import ChannelError, OutputPathError, StorageError
from launcher.s3_server.store import ObjectStore
from launcher.storage.embedded import EmbeddedStorage


@pytest.fixture
def store(tmp_path):
    store = ObjectStore(tmp_path / "s3")
    store.create_bucket("bucket")
    return store


@pytest.fixture
def storage(store):
    return EmbeddedStorage(store)


@pytest.fixture
def put(store, tmp_path):
    def put(key, text):
        source = tmp_path / "source"
        source.write_text(text)
        return store.put_file("bucket", key, source, move=True)

    return put


def texts_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_an_object_is_fetched_as_a_link_under_its_own_name(storage, put, tmp_path):
    stored = put("data/train.csv", "1")
    path = storage.fetch("s3://bucket/data/train.csv", tmp_path / "cache")
    assert path == tmp_path / "cache" / "train.csv"
    assert path.samefile(stored.path)
    assert storage.size("s3://bucket/data/train.csv") == 1
    assert storage.size("s3://bucket/data") is storage.size("s3://none/data") is None


def test_a_prefix_is_fetched_as_a_folder_of_links(storage, put, tmp_path):
    stored = [put("data/a.csv", "a"), put("data/deep/b.csv", "b")]
    put("data", "an object beside the folder")
    put("database/c.csv", "another folder")
    put("data/empty/", "")
    path = storage.fetch("s3://bucket/data/", tmp_path / "cache")
    assert texts_below(path) == {"a.csv": "a", "deep/b.csv": "b"}
    assert (path / "a.csv").samefile(stored[0].path)
    assert (path / "deep" / "b.csv").samefile(stored[1].path)


def test_a_whole_bucket_can_be_fetched(storage, put, tmp_path):
    put("data/a.csv", "a")
    assert texts_below(storage.fetch("s3://bucket", tmp_path / "cache")) == {"data/a.csv": "a"}


def test_a_prefix_is_text_where_no_folder_has_its_name(storage, put, tmp_path):
    """As SageMaker's S3Prefix: every key that begins so."""
    put("logs/2026-01.csv", "1")
    put("logs/2026-02.csv", "2")
    put("logs/2027-01.csv", "3")
    path = storage.fetch("s3://bucket/logs/2026", tmp_path / "cache")
    assert texts_below(path) == {"2026-01.csv": "1", "2026-02.csv": "2"}


def test_what_was_fetched_stays_when_the_object_is_replaced(storage, put, tmp_path):
    """And follows when it is fetched again."""
    put("data/a.csv", "old")
    put("data/b.csv", "same")
    path = storage.fetch("s3://bucket/data", tmp_path / "cache")
    put("data/a.csv", "new")
    assert texts_below(path) == {"a.csv": "old", "b.csv": "same"}
    storage.fetch("s3://bucket/data", tmp_path / "cache")
    assert texts_below(path) == {"a.csv": "new", "b.csv": "same"}


def test_locating_says_where_fetching_will_put_it_and_writes_nothing(storage, put, tmp_path):
    put("data/a.csv", "a")
    cache = tmp_path / "cache"
    for uri, is_file in (("s3://bucket/data/a.csv", True), ("s3://bucket/data", False)):
        result = storage.locate(uri, cache)
        assert not cache.exists()
        assert result == (storage.fetch(uri, cache), is_file)
        (cache / "a.csv").unlink()
        cache.rmdir()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://bucket/none", "No S3 objects found under S3 URL"),
        ("s3://bucket/none/", "No S3 objects found under S3 URL"),
        ("s3://other/data", "The specified bucket does not exist"),
    ],
)
def test_a_channel_with_nothing_to_read_is_refused_in_sagemakers_words(storage, tmp_path, uri, words):
    with pytest.raises(ChannelError, match=words) as caught:
        storage.locate(uri, tmp_path / "cache")
    assert uri in str(caught.value)


@pytest.mark.parametrize("key", ["data/a//b.csv", "data/x/../a.csv", "data/./a.csv"])
def test_a_key_that_is_no_path_cannot_become_a_file(storage, put, tmp_path, key):
    put(key, "a")
    with pytest.raises(ChannelError, match="no file of a channel"):
        storage.fetch("s3://bucket/data", tmp_path / "cache")


def test_an_object_below_another_object_cannot_become_a_file(storage, put, tmp_path):
    put("data/a", "a")
    put("data/a/b", "b")
    with pytest.raises(ChannelError, match=r"bucket/data/a would be a file and, for s3://bucket/data/a/b, a folder"):
        storage.fetch("s3://bucket/data", tmp_path / "cache")


def test_a_result_is_renamed_into_the_store(storage, store, tmp_path):
    source = tmp_path / "model.tar.gz"
    source.write_text("model")
    inode = source.stat().st_ino
    storage.put_file(source, "s3://bucket/job/output/model.tar.gz")
    stored = store.head("bucket", "job/output/model.tar.gz")
    assert not source.exists()
    assert (stored.path.stat().st_ino, stored.path.read_text()) == (inode, "model")


def test_a_growing_file_is_copied_each_time_it_has_changed(storage, store, tmp_path):
    folder = tmp_path / "intermediate"
    folder.mkdir()
    state = {}
    for text in ("Epoch\n", "Epoch\n1\n"):
        (folder / "worker_0.csv").write_text(text)
        assert storage.sync_folder(folder, "s3://bucket/job/intermediate", state) == 1
        assert store.head("bucket", "job/intermediate/worker_0.csv").path.read_text() == text
        assert storage.sync_folder(folder, "s3://bucket/job/intermediate", state) == 0
    assert (folder / "worker_0.csv").exists()


def test_results_for_a_missing_bucket_are_refused_before_anything_runs(storage):
    with pytest.raises(OutputPathError, match="NoSuchBucket"):
        storage.check_writable("s3://other/job/output")


def test_a_missing_object_is_not_downloaded(storage, tmp_path):
    with pytest.raises(StorageError, match="NoSuchKey"):
        storage.download_all({"s3://bucket/none": tmp_path / "target"})
    assert list(tmp_path.glob("target*")) == []


def test_existence_is_that_of_an_object_or_of_something_below_it(storage, put):
    put("job/output/model.tar.gz", "1")
    there = ["s3://bucket/job/output/model.tar.gz", "s3://bucket/job/output", "s3://bucket"]
    assert all(storage.exists(uri) for uri in there)
    assert not any(storage.exists(uri) for uri in ("s3://bucket/job/out", "s3://other", "s3://bucket/none"))
