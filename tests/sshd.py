"""Another machine for tests: a real sshd on the loopback address, and a user of its own to log in as."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.settings import data_path

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass
class Box:
    """A machine that a user can log in to.

    Attributes:
        user: who logs in.
        home: the user's home.
        folder: of the server's keys and settings, and of the client's.
        port: of the loopback address.
        python: a virtual environment of the user's, with what the launcher needs.
    """

    user: str
    home: Path
    folder: Path
    port: int
    python: Path
    server: subprocess.Popen | None = None

    @property
    def address(self):
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.python}"

    @property
    def bare_address(self):
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    @property
    def ssh(self):
        return f"ssh -F {self.folder}/client"

    def run(self, command):
        """Run a shell's line as the user, without ssh; return what it printed."""
        line = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", "sh", "-c", command]
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "USER": self.user}
        return subprocess.run(line, env=environment, cwd="/", capture_output=True, text=True, check=True).stdout

    def launcher(self, arguments):
        """Run a command of the launcher there, as somebody who is logged in."""
        return self.run(f"{self._python} -m launcher {arguments}")

    def python_there(self, program):
        """Run a program there that imports the launcher, as the user; return what it printed."""
        return self.run(f"{self._python} -c {shlex.quote(program)}")

    @property
    def _python(self):
        code = next((self.home / ".cache/launcher/code").iterdir())
        return f"PYTHONPATH={code} {self.python}/bin/python"

    def may_use_the_engine(self):
        """Let the user use the Docker engine, from the next connection on."""
        subprocess.run(["usermod", "--append", "--groups", "docker", self.user], check=True)
        self.cut()

    def connections(self):
        """Return the processes of the server that have a connection each."""
        found = subprocess.run(["pgrep", "-P", str(self.server.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def cut(self):
        """End every connection as a network that fails does: neither side says a word."""
        subprocess.run(["pkill", "-KILL", "-x", "-u", self.user, "sshd"], check=False)
        for pid in self.connections():
            subprocess.run(["pkill", "-KILL", "-P", str(pid)], check=False)
            subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)

    def stop_server(self):
        """Let nobody in any more."""
        self.cut()
        self.server.terminate()
        self.server.wait()
        self.cut()

    def start_server(self):
        """Let users in."""
        self.server = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(self.folder / "server")], stderr=(self.folder / "server.log").open("ab")
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.server.poll() is None, (self.folder / "server.log").read_text()
                assert time.monotonic() < deadline, "sshd does not listen"
                time.sleep(0.05)


def missing():
    """Return why there can be no such machine here; empty where there can."""
    if SSHD is None or shutil.which("ssh") is None:
        return "openssh-server is not installed: apt install openssh-server"
    if os.getuid() != 0:
        return "another user to log in as takes root"
    return ""


def unfit():
    """Return why another user cannot run the launcher of this checkout; empty where it can."""
    version = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
    ).stdout.split()
    if version != [str(number) for number in sys.version_info[:2]]:
        return f"{SYSTEM_PYTHON} is another version of Python than the tests'"
    for path in (site_packages(), data_path("container")):
        for folder in (path, *path.parents):
            if not folder.stat().st_mode & 0o001:
                return f"other users may not enter {folder}"
    return ""


def site_packages():
    """Return where the tests' own packages are."""
    import typer

    return Path(typer.__file__).resolve().parents[1]


def make_box():
    """Make the user, its environment and the server; the caller removes them."""
    user = f"lgst{os.getpid()}"
    folder = Path(tempfile.mkdtemp(prefix="launcher-ssh-", dir="/tmp"))
    folder.chmod(0o755)
    home = folder / "home"
    subprocess.run(
        ["useradd", "--create-home", "--home-dir", str(home), "--shell", "/bin/sh", "--password", "*", user],
        check=True, capture_output=True,
    )  # fmt: skip
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (folder / "server").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "MaxStartups 100\nMaxSessions 100\n"
    )
    key = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
    write_client(folder, "client")
    box = Box(user, home, folder, port, home / "venv")
    environment = f"{SYSTEM_PYTHON} -m venv --without-pip {box.python}"
    box.run(environment)
    (packages,) = box.python.glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text(f"{site_packages()}\n")
    box.start_server()
    return box


def write_client(folder, name, **changes):
    """Write settings of an ssh client, and return what LAUNCHER_SSH is with them."""
    options = {
        "IdentityFile": folder / "user", "IdentitiesOnly": "yes", "UserKnownHostsFile": folder / "known_hosts",
        "StrictHostKeyChecking": "yes", "LogLevel": "ERROR",
    } | changes  # fmt: skip
    (folder / name).write_text("".join(f"{option} {value}\n" for option, value in options.items()))
    return f"ssh -F {folder}/{name}"


def remove_box(box):
    """End the server, every process of the user, and remove the user."""
    box.stop_server()
    deadline = time.monotonic() + 20
    while subprocess.run(["pgrep", "-u", box.user], capture_output=True, check=False).returncode == 0:
        subprocess.run(["pkill", "-KILL", "-u", box.user], check=False)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    subprocess.run(["userdel", "--force", box.user], check=False, capture_output=True)
    shutil.rmtree(box.folder, ignore_errors=True)


def skip_where_missing():
    """Skip a test where there can be no other machine; in CI a missing package is a failure."""
    reason = missing()
    if reason and os.environ.get("CI") == "true" and os.getuid() == 0:
        pytest.fail(f"CI=true, and {reason}")
    if reason := reason or unfit():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def whole_box():
    """Another machine, made once a worker."""
    skip_where_missing()
    box = make_box()
    yield box
    remove_box(box)


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
    whole_box.cut()
    subprocess.run(["pkill", "-KILL", "-u", whole_box.user], check=False)
    shutil.rmtree(whole_box.home / ".launcher", ignore_errors=True)
