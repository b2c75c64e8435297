"""Cached inputs: found by content, linked, bounded, and never a half or a changed file."""

import json
import multiprocessing
import os
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from launcher.cli import main
from launcher.storage.cache import Cache, ObjectVersion, link_or_copy

CONTENT = b"0123456789"
VERSION = ObjectVersion("http://s3", "bucket", "data/a.csv", "etag", len(CONTENT))


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", max_bytes=1000)


def put(cache, target, version=VERSION, content=CONTENT):
    partial = cache.begin(version)
    partial.path.write_bytes(content)
    partial.keep(target)


def file_of(cache, version=VERSION):
    return cache._paths(version.name)[0]


def test_a_kept_file_is_handed_out_again_without_a_copy(cache, tmp_path):
    put(cache, tmp_path / "first")
    assert cache.link(VERSION, tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == CONTENT
    assert (tmp_path / "first").samefile(tmp_path / "second")
    assert not os.access(tmp_path / "second", os.W_OK) or os.geteuid() == 0


@pytest.mark.parametrize("field", ["endpoint", "bucket", "key", "etag", "size"])
def test_another_version_of_the_object_is_not_taken_for_this_one(cache, tmp_path, field):
    put(cache, tmp_path / "first")
    other = replace(VERSION, **{field: 3 if field == "size" else "other"})
    assert not cache.link(other, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_file_that_was_written_to_after_it_came_is_dropped(cache, tmp_path):
    """A job that runs as root can write to its channel; the next job must not get that."""
    put(cache, tmp_path / "first")
    time.sleep(0.02)
    (tmp_path / "first").chmod(0o644)
    (tmp_path / "first").write_bytes(b"9876543210")
    assert not cache.link(VERSION, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    assert cache.entries() == []


@pytest.mark.parametrize("damage", ["cut file", "no file", "cut note", "no note"])
def test_a_damaged_entry_is_no_entry_and_can_be_replaced(cache, tmp_path, damage):
    put(cache, tmp_path / "first")
    kind, which = damage.split()
    path = file_of(cache) if which == "file" else file_of(cache).with_suffix(".json")
    path.unlink() if kind == "no" else os.truncate(path, 5)
    assert not cache.link(VERSION, tmp_path / "second")
    put(cache, tmp_path / "third")
    assert cache.link(VERSION, tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == CONTENT


def test_a_file_on_its_way_belongs_to_one_and_is_seen_by_none(cache, tmp_path):
    partial = cache.begin(VERSION)
    partial.path.write_bytes(b"012")
    assert cache.begin(VERSION) is None
    assert not cache.link(VERSION, tmp_path / "target")
    cache.prune(0)
    assert partial.path.exists(), "pruning leaves what is in use"
    partial.discard()
    partial.discard()
    assert cache.begin(VERSION).path.read_bytes() == b"", "the next one begins anew"


def test_what_a_killed_process_left_behind_is_cleared_away(cache, tmp_path):
    child = multiprocessing.get_context("fork").Process(target=_begin_and_die, args=(cache,))
    child.start()
    child.join()
    assert list((tmp_path / "cache/partial").iterdir())
    cache.prune()
    assert list((tmp_path / "cache/partial").iterdir()) == []


def _begin_and_die(cache):
    cache.begin(VERSION).path.write_bytes(b"012")
    os._exit(1)


def test_the_least_recently_used_goes_first(cache, tmp_path):
    versions = [replace(VERSION, key=f"key-{number}", size=400) for number in range(3)]
    for number, version in enumerate(versions[:2]):
        put(cache, tmp_path / f"put-{number}", version, b"x" * 400)
        os.utime(file_of(cache, version).with_suffix(".json"), (number, number))
    assert cache.link(versions[0], tmp_path / "used")
    put(cache, tmp_path / "put-2", versions[2], b"x" * 400)
    assert cache.prune() == 400
    assert {entry.version.key for entry in cache.entries()} == {"key-0", "key-2"}
    assert (tmp_path / "put-1").read_bytes() == b"x" * 400, "who has a file keeps it"


def test_what_is_larger_than_the_whole_cache_is_handed_out_and_not_kept(tmp_path):
    cache = Cache(tmp_path / "cache", max_bytes=0)
    put(cache, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == CONTENT
    assert cache.entries() == []


def test_a_copy_is_made_where_links_are_not_possible(tmp_path, monkeypatch):
    def refuse(*_paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_bytes(CONTENT)
    link_or_copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == CONTENT


def test_many_processes_fill_and_prune_at_once_and_get_whole_files(tmp_path):
    """Each wants the same 20 objects from a cache that has room for five."""
    with multiprocessing.get_context("fork").Pool(8) as pool:
        assert pool.map(_use, [(tmp_path, number) for number in range(8)], chunksize=1) == ["right"] * 8
        pool.close()
        pool.join()


def _use(arguments):
    tmp_path, worker = arguments
    cache = Cache(tmp_path / "cache", max_bytes=5 * 4096)
    for number in range(20):
        content = bytes([number]) * 4096
        version = replace(VERSION, key=f"key-{number}", size=4096)
        target = tmp_path / f"{worker}-{number}"
        while not cache.link(version, target):
            if (partial := cache.begin(version)) is None:
                time.sleep(0.001)
                continue
            partial.path.write_bytes(content)
            partial.keep(target)
            break
        if target.read_bytes() != content:
            return f"worker {worker}: wrong content of {number}"
        cache.prune()
    return "right"


def test_the_commands_list_and_clear_what_is_kept(home, tmp_path):
    put(Cache(home / "cache", 1000), tmp_path / "target")
    listed = CliRunner().invoke(main.app, ["cache", "ls"])
    assert listed.exit_code == 0
    assert "s3://bucket/data/a.csv" in listed.output
    assert "1 objects, 10 of 10,737,418,240 bytes" in listed.output
    rows = json.loads(CliRunner().invoke(main.app, ["cache", "ls", "--json"]).output)
    assert [(row["key"], row["size"], row["etag"]) for row in rows] == [("data/a.csv", 10, "etag")]
    assert "10 bytes removed" in CliRunner().invoke(main.app, ["cache", "clear"]).output
    assert "0 objects" in CliRunner().invoke(main.app, ["cache", "ls"]).output
    assert (tmp_path / "target").read_bytes() == CONTENT


@pytest.mark.parametrize("value", ["1e9", "-1", "10GB", "ten"])
def test_a_bound_that_is_no_number_of_bytes_is_refused(monkeypatch, value):
    monkeypatch.setenv("LAUNCHER_CACHE_BYTES", value)
    answer = CliRunner().invoke(main.app, ["cache", "ls"])
    assert answer.exit_code == 2
    assert "no number of bytes" in answer.output
