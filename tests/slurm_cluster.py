"""A Slurm cluster of this machine alone, for tests: munge, a controller and several nodes, all in one folder."""

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = 3
_CPUS = 16
_SECONDS = 60
# "low" gives way to "high", with as long for SIGTERM as GraceTime says.
_CONFIGURATION = """\
ClusterName=launcher-test
SlurmctldHost=localhost({address})
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
KillWait=2
ReturnToService=2
InactiveLimit=0
MinJobAge=300
MessageTimeout=5
GresTypes=gpu
TreeWidth=65533
{nodes}
PartitionName=low Nodes=node[1-2] Default=YES MaxTime=7-0 State=UP PriorityTier=1 GraceTime=10
PartitionName=high Nodes=node[1-2] MaxTime=7-0 State=UP PriorityTier=2 PreemptMode=OFF
PartitionName=short Nodes=node[1-2] MaxTime=10 State=UP
PartitionName=blind Nodes=node3 State=UP
"""


class Cluster:
    """A cluster with nodes ``node1`` and so on, each with 16 CPUs and 2 GPUs as Slurm counts them.

    The last node, in the partition "blind", does not see what is in the folder ``unseen``. The folder
    ``cdi`` describes devices to the nodes' engines of containers.

    Args:
        folder: for all that it writes; short, because a socket is in it.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.configuration = self.folder / "slurm.conf"
        self._processes = []

    def start(self):
        """Start it and wait until its nodes are idle."""
        for name in ("state", *(f"spool-node{number}" for number in range(1, NODES + 1))):
            (self.folder / name).mkdir(parents=True)
        controller_port, *ports = _free_ports(NODES + 1)
        nodes = "\n".join(
            f"NodeName=node{number} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={_CPUS}"
            f" RealMemory=500000 Gres=gpu:2"
            for number, port in enumerate(ports, 1)
        )
        text = _CONFIGURATION.format(
            folder=self.folder, controller_port=controller_port, nodes=nodes, address="127.0.0.1"
        )
        self.configuration.write_text(text)
        (self.folder / "gres.conf").write_text("NodeName=node[1-3] Name=gpu File=/dev/tty[1-2]\n")
        (self.folder / "unseen").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munge.seed"}
        options = [f"--{name}={self.folder / file}" for name, file in files.items()]
        self._start("munged", "--foreground", "--force", *options)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._start("slurmctld", "-D", "-f", str(self.configuration))
        (self.folder / "cdi").mkdir()
        for number in range(1, NODES + 1):
            words = ["slurmd", "-D", "-N", f"node{number}", "-f", str(self.configuration)]
            # crun runs nothing where both versions of cgroups are mounted.
            around = "umount /sys/fs/cgroup/unified 2>/dev/null; mkdir -p /run/cdi"
            around += f"; mount --bind {self.folder / 'cdi'} /run/cdi"
            if number == NODES:
                around += f"; mount -t tmpfs none {self.folder / 'unseen'}"
            self._start(*words, around=around)
        self._wait(lambda: self.run("sinfo", "--noheader", "-o", "%D %T", check=False).split() == [str(NODES), "idle"],
                   "the nodes")  # fmt: skip

    @classmethod
    @contextlib.contextmanager
    def running(cls):
        """Yield one that is up; afterwards nothing of it is left."""
        folder = tempfile.mkdtemp(prefix="slurm-")
        cluster = cls(folder)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(folder)

    @property
    def environment(self):
        """The variables by which Slurm's commands find it."""
        return {"SLURM_CONF": str(self.configuration)}

    def run(self, *command, check=True):
        """Run a command of Slurm's; return what it printed."""
        answer = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False, timeout=60
        )
        assert not check or answer.returncode == 0, (command, answer.stdout, answer.stderr)
        return answer.stdout

    def silence(self, number):
        """Send a signal to the controller: SIGSTOP, or SIGCONT."""
        next(process for process in self._processes if process.args[3].endswith("slurmctld")).send_signal(number)

    def stop(self):
        """End its jobs and every process of it."""
        if self._processes:
            self.run("scancel", "--user", "root", check=False)
            self._wait(lambda: not self.run("squeue", "--noheader", check=False).strip(), "the jobs' end")
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []

    def _start(self, *command, around=""):
        with (self.folder / f"{command[0]}.out").open("ab") as log:
            environment = {**os.environ, **self.environment}
            # Nothing of it outlives the tests, however they end.
            words = ["setpriv", "--pdeathsig", "KILL", _path_of(command[0]), *command[1:]]
            if around:
                words = ["unshare", "--mount", "sh", "-c", f"{around} && exec {shlex.join(words)}"]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._processes.append(process)

    def _wait(self, condition, name):
        deadline = time.monotonic() + _SECONDS
        while not condition():
            assert all(process.poll() is None for process in self._processes), self._logs()
            assert time.monotonic() < deadline, f"{name}: it takes too long\n{self._logs()}"
            time.sleep(0.05)

    def _logs(self):
        texts = [path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log")]
        return "\n".join([*texts, *(path.read_text()[-1000:] for path in self.folder.glob("*.out"))])


def missing_programs():
    """Return the programs of Debian's slurm-wlm and munge that are not here."""
    return [name for name in _PROGRAMS if _path_of(name) is None]


def _path_of(program):
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")


def _free_ports(count):
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
