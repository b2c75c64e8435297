"""An engine of a test's own, in a network of its own; the engine of the machine is nobody's to stop."""

import io
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import docker

from tests.shell import launcher_environment


@dataclass
class Engine:
    """A running engine that only processes in its own network reach the bridge of.

    Args:
        folder: what is the engine's alone.
        options: of ``dockerd``, besides those that every one of them has.
    """

    folder: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen = field(init=False)

    @property
    def socket(self):
        return self.folder / "engine.sock"

    @property
    def address(self):
        return f"unix://{self.socket}"

    def start(self):
        """Start it, and wait until it answers."""
        log = self.folder / "log"
        folders = ("--data-root", "data", "--exec-root", "exec", "--pidfile", "pid")
        command = ["dockerd", *(str(self.folder / word) if word[0] != "-" else word for word in folders)]
        command += ["--host", self.address, "--storage-driver=vfs", "--iptables=false", "--ip-masq=false"]
        command += self.options
        inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
        with log.open("ab") as output:
            self.process = subprocess.Popen(inside, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self.process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)

    def end(self):
        self.process.terminate()  # it stops its own containerd as well
        self.process.wait()
        # One that died left the mount of its data.
        while subprocess.run(["umount", "-l", self.folder / "data"], capture_output=True, check=False).returncode == 0:
            pass

    def die(self):
        """End as by a crash; its containerd dies with it, and the next engine is not to wait for that process."""
        self.process.kill()
        self.process.wait()
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def remove_containers(self):
        """Remove all that runs on it: with live-restore they would outlive it."""
        client = docker.APIClient(self.address, version="auto")
        for container in client.containers(all=True):
            client.remove_container(container["Id"], force=True)
        client.close()

    def answers(self):
        try:
            client = docker.APIClient(self.address, version="auto")
        except docker.errors.DockerException:
            return False
        client.close()
        return True

    def import_image(self, name, program):
        """Make an image of bash, the libraries it needs, and a program of its own, ``train``."""
        client = docker.APIClient(self.address, version="auto")
        client.import_image_from_data(_image(program), repository=name)
        client.close()

    def run(self, script, home):
        """Run a program of Python where the engine runs."""
        variables = {"DOCKER_HOST": self.address, "LAUNCHER_HOME": str(home)}
        inside = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", sys.executable, "-c", script]
        environment = launcher_environment(**variables)
        return subprocess.run(inside, capture_output=True, text=True, env=environment, check=False)


def _image(program):
    """Return an archive of this machine's own bash, a few MB."""
    shell = shutil.which("bash")
    linked = subprocess.run(["ldd", shell], capture_output=True, text=True, check=True).stdout
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as image:
        image.add(shell, "bin/bash")
        for library in re.findall(r"(/\S+) \(", linked):
            image.add(library, library.lstrip("/"))
        train = tarfile.TarInfo("bin/train")
        train.size, train.mode = len(program), 0o755
        image.addfile(train, io.BytesIO(program.encode()))
    return archive.getvalue()
