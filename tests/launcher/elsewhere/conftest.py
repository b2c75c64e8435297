"""Another machine, made once a worker; each test finds its home there empty."""

import os
import shutil
import subprocess

import pytest

from tests import sshd


@pytest.fixture(scope="session")
def whole_box():
    sshd.skip_where_missing()
    box = sshd.make_box()
    yield box
    sshd.remove_box(box)


@pytest.fixture
def box(whole_box, home, tmp_path, monkeypatch):
    """The machine that LAUNCHER_HOST names; no job, no input and no connection of another test is there."""
    sockets = whole_box.folder / f"s{os.getpid()}"
    sockets.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(sockets))
    monkeypatch.setenv("LAUNCHER_SSH", whole_box.ssh)
    monkeypatch.setenv("LAUNCHER_HOST", whole_box.address)
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    if whole_box.server.poll() is not None:
        whole_box.start_server()
    yield whole_box
    if whole_box.server.poll() is not None:
        whole_box.start_server()


@pytest.fixture(autouse=True)
def _nothing_is_left_there(request):
    yield
    if "whole_box" in request.fixturenames:
        whole = request.getfixturevalue("whole_box")
        whole.cut()
        subprocess.run(["pkill", "-KILL", "-u", whole.user], check=False)
        shutil.rmtree(whole.home / ".launcher", ignore_errors=True)
