"""What every test gets: a home of its own, and a clear word on why a Docker test did not run."""

import fcntl
import functools
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from launcher.jobs.store import JobStore, ProcessingStore, TransformStore, TuningStore
from launcher.jobs.tuning_record import TuningRecord
from launcher.running.driving import drive
from launcher.runtimes.image import build_image, image_tag
from launcher.runtimes.probe import engine_address, engine_answers
from launcher.s3_server import service
from tests.slurm_cluster import Cluster, missing_programs
from tests.sshd import box, whole_box

__all__ = ["box", "whole_box"]  # fixtures of many tests

IN_CI = os.environ.get("CI") == "true"
WHOLE = "LAUNCHER_WHOLE_TESTS" in os.environ
_LONG = ("tests/end_to_end/", "tests/contract/")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))  # a long file that begins last is waited for alone
    for item in items:
        if item.get_closest_marker("whole") and not WHOLE:
            item.add_marker(pytest.mark.skip(reason="a smaller test shows the same; .ci/whole runs it"))
    if engine_answers():
        return
    reason = f"no Docker engine answers at {engine_address()}"
    for item in items:
        if item.get_closest_marker("docker"):
            item.add_marker(pytest.mark.docker_missing if IN_CI else pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _docker_may_not_be_missing_in_ci(request):
    if request.node.get_closest_marker("docker_missing"):
        pytest.fail(f"CI=true, and no Docker engine answers at {engine_address()}")


@pytest.fixture(autouse=True)
def _the_image_is_built_before_a_test_counts_seconds(request):
    if request.node.get_closest_marker("docker") and engine_answers():
        _build_bundled_image()


@functools.cache
def _build_bundled_image():
    """Build the bundled image of this checkout once, whichever worker comes first."""
    with Path(tempfile.gettempdir(), "launcher-test-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tag = image_tag()
        if subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False).returncode != 0:
            build_image(tag, Path(tempfile.gettempdir(), "launcher-test-image.log"))


@pytest.fixture(autouse=True)
def _sigterm_means_again_what_it_meant():
    """An entry point that runs inside a test keeps SIGTERM for itself; what a later test forks could not be stopped."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A launcher home that nobody else uses; the caller's own settings do not count, and no job is left running."""
    for name in (
        *("LAUNCHER_RUNTIME", "LAUNCHER_NAMESPACES", "LAUNCHER_PRESETS_DIR", "LAUNCHER_ENTRYPOINTS_DIR"),
        *("LAUNCHER_AWS_NAMES", "LAUNCHER_MODE", "LAUNCHER_S3_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    ):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "home"
    monkeypatch.setenv("LAUNCHER_HOME", str(path))
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "5")
    yield path
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "0")
    for store in (TuningStore(path), JobStore(path), TransformStore(path), ProcessingStore(path)):
        for name in store.names():
            record = store.load(name)
            if isinstance(record, TuningRecord) and not record.terminal:
                store.folder(name).request_stop()
                drive(store, name)
                continue
            # What a test serves itself ends with the test.
            if record.executions and not record.terminal and "fake-serving" not in str(record.executions):
                store.folder(name).request_stop()
                drive(store, name)
    service.stop(path)


@pytest.fixture(scope="session")
def _cluster():
    """A Slurm cluster for all tests of this process."""
    if missing := missing_programs():
        reason = f"no {', '.join(missing)} here (Debian: slurm-wlm, munge)"
        pytest.fail(f"CI=true, and {reason}") if IN_CI else pytest.skip(reason)
    if os.geteuid() != 0:
        pytest.skip("a Slurm cluster of a test's own takes root")
    with Cluster.running() as cluster:
        yield cluster


@pytest.fixture
def slurm(_cluster, monkeypatch):
    """A Slurm cluster that the launcher's commands find."""
    for name, value in _cluster.environment.items():
        monkeypatch.setenv(name, value)
    return _cluster


@pytest.fixture
def store(home) -> JobStore:
    return JobStore(home)


@pytest.fixture
def make_source(tmp_path):
    """A function that writes a source folder with one ``train.py`` and returns its path."""

    def make(script: str, name: str = "source") -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text(script)
        return str(folder)

    return make
