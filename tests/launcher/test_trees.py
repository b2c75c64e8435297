"""A folder that a job writes to: nothing outside it is read, changed or removed, whatever the job puts where."""

import ctypes
import os
import stat
import tarfile
import threading

import pytest

from launcher.running.artifacts import merge_hosts, pack_hosts, unpack
from launcher.running.opt_ml import OptMl
from launcher.storage.file import FileStorage
from launcher.trees import MAX_DEPTH, MAX_PATH_BYTES, NoFolderError, Skipped, Tree, remove_tree
from tests.launcher.test_artifacts import names_in

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


@pytest.fixture
def secret(tmp_path):
    """A file outside that nobody may read, in a folder that nobody may enter."""
    folder = tmp_path / "secret"
    (folder / "data").mkdir(parents=True)
    (folder / "key").write_text("SECRET")
    (folder / "key").chmod(0)
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


def unchanged(secret):
    return (stat.S_IMODE(secret.stat().st_mode), stat.S_IMODE((secret / "key").stat().st_mode)) == (0o500, 0)


def nested(folder, depth):
    """Make folders within folders, deeper than any path that the kernel takes."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open("leaf", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)


@pytest.mark.parametrize("link", ["model", "output", "output/data"])
def test_a_link_in_the_place_of_a_folder_leads_nowhere(tmp_path, secret, link):
    tree = tmp_path / "opt_ml"
    (tree / link).parent.mkdir(parents=True)
    (tree / link).symlink_to(secret)
    inside = "output/data" if link == "output" else link
    report = pack_hosts([("", tree)], inside, tmp_path / "m.tar.gz")
    assert report.skipped == [f"{inside}: the job put something else in the place of this folder"]
    assert not (tmp_path / "m.tar.gz").exists()
    with pytest.raises(NoFolderError):
        FileStorage().sync_folder(tree, f"file://{tmp_path}/copy", {}, inside=inside)
    assert not (tmp_path / "copy").exists()
    assert unchanged(secret)


def test_a_failure_file_below_a_link_is_not_read(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "failure").write_text("SECRET")
    (tmp_path / "opt_ml").mkdir()
    (tmp_path / "opt_ml" / "output").symlink_to(tmp_path / "outside")
    skipped = []
    assert OptMl(tmp_path / "opt_ml").read_failure(skipped.append) == ""
    assert skipped == ["output: the job put something else in the place of this folder"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_failure_that_is_no_file_is_no_reason(tmp_path, kind):
    failure = tmp_path / "output" / "failure"
    failure.parent.mkdir()
    {"folder": failure.mkdir, "pipe": lambda: os.mkfifo(failure), "link": lambda: failure.symlink_to("/etc/passwd")}[
        kind
    ]()
    skipped = []
    assert OptMl(tmp_path).read_failure(skipped.append) == ""
    assert len(skipped) == 1
    assert skipped[0].startswith("output/failure: ")


def test_a_failure_file_sets_no_title_of_a_terminal(tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "failure").write_text("\x1b]0;title\x07no\ttransitions\r\n\x1b[31mred\x9b\rend")
    assert OptMl(tmp_path).read_failure(print) == "^[]0;title\ufffdno\ttransitions\n^[[31mred\ufffd\nend"


def test_a_link_that_comes_in_the_middle_of_a_copy_is_not_followed(tmp_path):
    """Another thread swaps each file for a link to a file outside, and back, without pause."""
    inside, outside = tmp_path / "inside", tmp_path / "links"
    inside.mkdir()
    outside.mkdir()
    (tmp_path / "secret").write_text("SECRET" * 1000)
    for number in range(8):
        (inside / f"f{number}").write_text("fine")
        (outside / f"l{number}").symlink_to(tmp_path / "secret")
    libc, stop = ctypes.CDLL(None), threading.Event()

    def swap():
        while not stop.is_set():
            for number in range(8):
                pair = (bytes(inside / f"f{number}"), bytes(outside / f"l{number}"))
                libc.renameat2(_AT_FDCWD, pair[0], _AT_FDCWD, pair[1], _RENAME_EXCHANGE)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for round_number in range(150):
            target = tmp_path / "copy" / str(round_number)
            FileStorage().sync_folder(inside, f"file://{target}", {})
            copies = [path.read_text() for path in target.glob("*")] if target.exists() else []
            assert set(copies) <= {"fine"}
    finally:
        stop.set()
        thread.join()


def test_what_a_job_nested_too_deep_is_left_out_and_the_rest_packed(tmp_path):
    tree = tmp_path / "model"
    tree.mkdir()
    (tree / "weights").write_text("1")
    nested(tree, 1500)
    report = pack_hosts([("", tree)], "", tmp_path / "m.tar.gz")
    assert len(report.skipped) == 1
    assert report.skipped[0].endswith(f"more than {MAX_DEPTH} folders deep")
    names = names_in(tmp_path / "m.tar.gz")
    assert "weights" in names
    assert len(names) == MAX_DEPTH + 2
    skipped = []
    assert FileStorage().sync_folder(tree, f"file://{tmp_path}/copy", {}, settled=True, on_skip=skipped.append) == 1
    assert len(skipped) == 1
    remove_tree(tree)
    assert not tree.exists()


def test_a_path_that_is_too_long_is_left_out(tmp_path):
    tree = tmp_path / "model"
    tree.mkdir()
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(MAX_PATH_BYTES // 250 + 1):
        os.mkdir("n" * 250, dir_fd=descriptor)
        descriptor = os.open("n" * 250, os.O_RDONLY, dir_fd=descriptor)
    with Tree.open(tree) as opened:
        skipped = Skipped()
        paths = [entry.path for entry in opened.walk(skipped.add)]
    assert max(map(len, paths)) <= MAX_PATH_BYTES
    assert skipped.lines[0].endswith(f"its path is longer than {MAX_PATH_BYTES} bytes")


def test_links_that_lead_in_a_circle_are_left_out(tmp_path):
    tree = tmp_path / "model"
    tree.mkdir()
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    (tree / "itself").symlink_to("itself")
    (tree / "weights").write_text("1")
    (tree / "latest").symlink_to("weights")
    (tree / "dangling").symlink_to("none")
    report = pack_hosts([("", tree)], "", tmp_path / "m.tar.gz")
    assert [line.split(",")[0] for line in report.skipped] == [
        f"{name}: a link that leads in a circle" for name in ("a", "b", "itself")
    ]
    assert names_in(tmp_path / "m.tar.gz") == ["dangling", "latest", "weights"]


def test_a_link_that_leaves_by_way_of_another_link_is_left_out(tmp_path):
    tree = tmp_path / "model"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "up").symlink_to("..")
    (tree / "deep" / "out").symlink_to("up/../secret")
    report = pack_hosts([("", tree)], "", tmp_path / "m.tar.gz")
    assert report.skipped == ["deep/out: a link that leaves the folder, to up/../secret"]


@pytest.mark.parametrize("length", [240, 245, 255])
def test_a_long_name_is_copied_like_any_other(tmp_path, length):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / ("n" * length)).write_text("1")
    assert FileStorage().sync_folder(tmp_path / "inside", f"file://{tmp_path}/copy", {}) == 1
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["n" * length]


def test_a_file_that_became_a_folder_does_not_keep_the_others_from_their_place(tmp_path):
    inside, state, skipped = tmp_path / "inside", {}, []
    inside.mkdir()
    (inside / "a").write_text("1")
    FileStorage().sync_folder(inside, f"file://{tmp_path}/copy", state)
    (inside / "a").unlink()
    (inside / "a").mkdir()
    (inside / "a" / "b").write_text("2")
    (inside / "c").write_text("3")
    FileStorage().sync_folder(inside, f"file://{tmp_path}/copy", state, settled=True, on_skip=skipped.append)
    assert (tmp_path / "copy" / "c").read_text() == "3"
    assert len(skipped) == 1
    assert skipped[0].startswith("a/b: ")


def test_removing_goes_through_no_link_and_changes_no_mode_outside(tmp_path, secret):
    tree = tmp_path / "work"
    (tree / "sealed" / "deep").mkdir(parents=True)
    (tree / "sealed" / "link").symlink_to(secret)
    (tree / "sealed" / "deep" / "key").symlink_to(secret / "key")
    (tree / "sealed").chmod(0)
    remove_tree(tree)
    assert not tree.exists()
    assert unchanged(secret)


def test_thousands_of_odd_things_make_few_lines(tmp_path):
    skipped = Skipped()
    for number in range(5000):
        skipped.add(f"pipe\x1b{number}")
    assert len(skipped.lines) == 101
    assert skipped.lines[0] == "pipe\\x1b0"
    assert skipped.lines[-1] == "and 4,900 more"


def test_files_of_several_hosts_come_into_one_folder():
    """Folders are shared; of files of one name the first host's keeps it."""
    moved = merge_hosts(
        [
            ("algo-1", [("data", True), ("data/a", False), ("same", False), ("file", False)]),
            ("algo-2", [("data", True), ("data/a", False), ("data/b", False), ("file", True), ("file/x", False)]),
            ("algo-3", [("same", False), ("data", False)]),
        ]
    )
    assert moved == {
        ("algo-2", "data/a"): "algo-2/data/a",
        ("algo-2", "file"): "algo-2/file",
        ("algo-2", "file/x"): "algo-2/file/x",
        ("algo-3", "same"): "algo-3/same",
        ("algo-3", "data"): "algo-3/data",
    }


def test_a_file_with_the_name_of_a_host_is_lost_to_none():
    moved = merge_hosts(
        [("algo-1", [("algo-2", False), ("a", False)]), ("algo-2", [("a", False)]), ("algo-3", [("algo-2", True)])]
    )
    assert len({"algo-2", "a", *moved.values()}) == 4
    assert moved["algo-2", "a"] != "algo-2/a", "algo-2 is a file of the first host"


def test_the_archive_of_several_hosts_holds_the_work_of_all(tmp_path):
    for host, text in (("algo-1", "one"), ("algo-2", "two")):
        (tmp_path / host / "model" / "shards").mkdir(parents=True)
        (tmp_path / host / "model" / "shards" / host).write_text(text)
        (tmp_path / host / "model" / "weights").write_text(text)
        (tmp_path / host / "model" / "latest").symlink_to("weights")
    trees = [(host, tmp_path / host) for host in ("algo-1", "algo-2")]
    report = pack_hosts(trees, "model", tmp_path / "m.tar.gz")
    assert names_in(tmp_path / "m.tar.gz") == [
        *("latest", "shards", "shards/algo-1", "weights"),
        *("algo-2/latest", "shards/algo-2", "algo-2/weights"),
    ]
    assert report.skipped == [
        f"{name} of algo-2 is kept as algo-2/{name}: another host wrote something of that name"
        for name in ("latest", "weights")
    ]
    unpack(tmp_path / "m.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "algo-2" / "latest").read_text() == "two"


def test_a_file_that_shrinks_while_it_is_packed_costs_no_other_file(tmp_path, monkeypatch):
    """It is cut between the header of its member and its content."""
    tree = tmp_path / "model"
    tree.mkdir()
    for name in "abc":
        (tree / name).write_bytes(b"x" * 100)
    add = tarfile.TarFile.addfile

    def cut_then_add(archive, info, content=None):
        if info.name == "b":
            os.truncate(tree / "b", 10)
        add(archive, info, content)

    monkeypatch.setattr(tarfile.TarFile, "addfile", cut_then_add)
    report = pack_hosts([("", tree)], "", tmp_path / "m.tar.gz")
    assert report.skipped == ["b: it became shorter while it was packed; it ends with zeros"]
    assert names_in(tmp_path / "m.tar.gz") == ["a", "b", "c"]
