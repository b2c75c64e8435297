"""Archives: whole or not there, the same bytes again, and no name in them is trusted."""

import gzip
import io
import os
import socket
import subprocess
import tarfile
import tracemalloc

import pytest

from launcher.errors import ArtifactError, SettingsError
from launcher.running.artifacts import pack_hosts, unpack, write_archive


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "model"
    (root / "deep").mkdir(parents=True)
    (root / "b.bin").write_bytes(os.urandom(100_000))
    (root / "deep" / "a.txt").write_text("a")
    (root / "link").symlink_to("deep/a.txt")
    return root


def archive_of(path, *members):
    """Write (name, type, content or link target) as a gzipped tar, with nobody checking."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                archive.addfile(info)
    return path


def names_in(path):
    with tarfile.open(path) as archive:
        return archive.getnames()


def test_packing_and_unpacking_keeps_names_content_and_links(folder, tmp_path):
    pack_hosts([("", folder)], "", tmp_path / "m.tar.gz")
    unpack(tmp_path / "m.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "b.bin").read_bytes() == (folder / "b.bin").read_bytes()
    assert (tmp_path / "out" / "link").readlink().as_posix() == "deep/a.txt"
    assert (tmp_path / "out" / "deep" / "a.txt").stat().st_mtime == int((folder / "deep" / "a.txt").stat().st_mtime)


def test_gnu_tar_reads_what_we_write(folder, tmp_path):
    pack_hosts([("", folder)], "", tmp_path / "m.tar.gz")
    listed = subprocess.run(["tar", "-tzf", tmp_path / "m.tar.gz"], capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["b.bin", "deep/", "deep/a.txt", "link"]


def test_the_same_files_make_the_same_bytes(folder, tmp_path):
    pack_hosts([("", folder)], "", tmp_path / "1.tar.gz")
    pack_hosts([("", folder)], "", tmp_path / "2.tar.gz")
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()


def test_with_a_source_date_epoch_files_of_other_times_make_the_same_bytes(folder, tmp_path, monkeypatch):
    """A run that was interrupted writes its files later than one that ran through."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    pack_hosts([("algo-1", folder)], "", tmp_path / "first.tar.gz")
    for path in folder.rglob("*"):
        os.utime(path, (2_000_000_000, 2_000_000_000), follow_symlinks=False)
    pack_hosts([("algo-1", folder)], "", tmp_path / "second.tar.gz")
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "first.tar.gz") as archive:
        assert {member.mtime for member in archive} == {1_000_000_000}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(SettingsError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        pack_hosts([("algo-1", folder)], "", tmp_path / "third.tar.gz")


def test_an_empty_folder_makes_no_archive(tmp_path):
    (tmp_path / "empty").mkdir()
    assert pack_hosts([("", tmp_path / "empty")], "", tmp_path / "m.tar.gz").files == 0
    assert not (tmp_path / "m.tar.gz").exists()


def test_what_cannot_or_must_not_be_packed_is_left_out_and_said(folder, tmp_path):
    """A pipe would block the reader; a link out would carry foreign files into the archive."""
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(folder / "sock"))
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("../secret")
    report = pack_hosts([("", folder)], "", tmp_path / "m.tar.gz")
    assert [line.split(":")[0] for line in report.skipped] == ["out", "pipe", "sock", "up"]
    with tarfile.open(tmp_path / "m.tar.gz") as archive:
        names = archive.getnames()
    assert names == ["b.bin", "deep", "deep/a.txt", "link"]


def test_files_that_the_job_made_unreadable_are_packed(folder, tmp_path):
    (folder / "b.bin").chmod(0)
    (folder / "deep").chmod(0)
    assert pack_hosts([("", folder)], "", tmp_path / "m.tar.gz").files == 3


def test_a_full_disk_leaves_no_half_archive(folder, tmp_path):
    """/dev/full takes no byte; the archive's other name is what would be written to."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m.tar.gz.part").symlink_to("/dev/full")
    with pytest.raises(ArtifactError, match=r"m.tar.gz could not be written: No space left on device"):
        pack_hosts([("", folder)], "", tmp_path / "out" / "m.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []
    assert (folder / "b.bin").exists()


EVIL = {
    "climbs": [("../evil", tarfile.REGTYPE, b"x")],
    "absolute": [("/tmp/evil", tarfile.REGTYPE, b"x")],
    "climbs in the middle": [("a/../../evil", tarfile.REGTYPE, b"x")],
    "link out": [("l", tarfile.SYMTYPE, "../..")],
    "absolute link": [("l", tarfile.SYMTYPE, "/etc/passwd")],
    "through a link": [("l", tarfile.SYMTYPE, "."), ("l/evil", tarfile.REGTYPE, b"x")],
    "chain of links": [("a", tarfile.SYMTYPE, "."), ("b", tarfile.SYMTYPE, "a/.."), ("c", tarfile.SYMTYPE, "b/..")],
    "hard link": [("h", tarfile.LNKTYPE, "/etc/passwd")],
    "device": [("d", tarfile.CHRTYPE, "")],
    "pipe": [("p", tarfile.FIFOTYPE, "")],
    "links in a circle": [("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "a")],
    "nested too deep": [("/".join("d" * 1800), tarfile.DIRTYPE, "")],
    "twice": [("a", tarfile.REGTYPE, b"x"), ("a", tarfile.REGTYPE, b"y")],
}


@pytest.mark.parametrize("members", EVIL.values(), ids=EVIL)
def test_an_archive_that_would_leave_its_folder_is_refused_whole(members, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    archive = archive_of(tmp_path / "evil.tar.gz", ("fine", tarfile.REGTYPE, b"x"), *members)
    with pytest.raises(ArtifactError):
        unpack(archive, inside / "out")
    assert list(inside.iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("mtime", ["nan", "inf", "-inf", "1e300"])
def test_a_time_that_no_file_has_is_refused(tmp_path, mtime):
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("file")
        info.pax_headers = {"mtime": mtime}
        archive.addfile(info)
    with pytest.raises(ArtifactError, match="time"):
        unpack(tmp_path / "m.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_deflate_stream_is_refused(folder, tmp_path):
    pack_hosts([("", folder)], "", tmp_path / "m.tar.gz")
    content = bytearray((tmp_path / "m.tar.gz").read_bytes())
    content[20:2000] = bytes(255 - byte for byte in content[20:2000])
    (tmp_path / "m.tar.gz").write_bytes(content)
    with pytest.raises(ArtifactError, match="could not be unpacked"):
        unpack(tmp_path / "m.tar.gz", tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, kind):
    """300 MB of zeros take 300 KB in the archive, and would take a multiple of it in memory."""
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz", compresslevel=1) as archive:
        info = tarfile.TarInfo("bomb")
        info.type, info.size = kind, 300 << 20
        archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(300):
            archive.fileobj.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match="314,572,800 bytes"):
            unpack(tmp_path / "m.tar.gz", tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_a_chain_of_headers_is_refused(tmp_path):
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as archive:
        for _ in range(3000):
            info = tarfile.TarInfo("name")
            info.type, info.size = tarfile.GNUTYPE_LONGNAME, 5
            archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT) + b"name\0" + bytes(507))
    with pytest.raises(ArtifactError, match="could not be unpacked"):
        unpack(tmp_path / "m.tar.gz", tmp_path / "out")


def test_a_sparse_file_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "holes").touch()
    os.truncate(tmp_path / "holes", 1 << 20)
    subprocess.run(["tar", "-C", tmp_path, "-czSf", tmp_path / "m.tar.gz", "holes"], check=True)
    with pytest.raises(ArtifactError, match="--sparse"):
        unpack(tmp_path / "m.tar.gz", tmp_path / "out")


def test_modes_are_reduced(tmp_path):
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("setuid")
        info.mode, info.size = 0o6777, 1
        archive.addfile(info, io.BytesIO(b"x"))
    unpack(tmp_path / "m.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "setuid").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"not gzip", lambda b: gzip.compress(b"no tar")]
)
def test_a_damaged_archive_is_refused_and_leaves_nothing(folder, tmp_path, damage):
    pack_hosts([("", folder)], "", tmp_path / "m.tar.gz")
    (tmp_path / "m.tar.gz").write_bytes(damage((tmp_path / "m.tar.gz").read_bytes()))
    with pytest.raises(ArtifactError, match="could not be unpacked"):
        unpack(tmp_path / "m.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out-*"))


def test_a_fixed_time_makes_archives_independent_of_when_files_were_written(folder, tmp_path):
    members = [("b.bin", folder / "b.bin")]
    write_archive(members, tmp_path / "1.tar.gz", mtime=1)
    os.utime(folder / "b.bin", (5, 5))
    write_archive(members, tmp_path / "2.tar.gz", mtime=1)
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()
