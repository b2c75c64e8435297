"""A job on another machine against a bare ``ssh host docker run`` of the same image, turn by turn.

    LAUNCHER_HOST=ssh://user@box python benchmarks/another_machine.py IMAGE [RUNS]

IMAGE is one of that machine, whose ``train`` does nothing; its user may use the engine there. Both sides go by an ssh
master that is up already.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from measuring import interleave

from launcher.elsewhere.connection import ssh_line
from launcher.runtimes.addresses import MachineAddress

_AIM = 1.3
_OURS = "from launcher import Estimator; Estimator(image_uri={image!r}, runtime='docker').fit({data!r}, logs=False)"
_INSIDE = """
import sys, time
from launcher import Estimator
estimator = Estimator(image_uri={image!r}, runtime="docker")
for line in sys.stdin:
    estimator.fit({data!r}, logs=False)
    print("done", flush=True)
"""


def main(image: str, runs: int) -> int:
    """Measure and print; return 1 where the aim is missed."""
    address = MachineAddress.of_host(os.environ["LAUNCHER_HOST"])
    bare = [*ssh_line(address), f"docker run --rm --init {image} train"]
    with tempfile.TemporaryDirectory() as scratch:
        data, home = f"{scratch}/data", f"{scratch}/home"
        os.mkdir(data)  # noqa: PTH102
        with open(f"{data}/rows.csv", "wb") as file:  # noqa: PTH123
            file.write(os.urandom(1 << 20))
        environment = {**os.environ, "LAUNCHER_HOME": home}
        whole = [sys.executable, "-c", _OURS.format(image=image, data=data)]
        session = subprocess.Popen(
            [sys.executable, "-c", _INSIDE.format(image=image, data=data)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
        )  # fmt: skip
        assert session.stdin is not None
        assert session.stdout is not None

        def fit_again() -> None:
            session.stdin.write("\n")
            session.stdin.flush()
            assert session.stdout.readline() == "done\n"

        fit_again()  # what is there from now on: code, input, the connection
        times = interleave(
            {
                "ssh host docker run": lambda: subprocess.run(bare, check=True, capture_output=True),
                "fit() again": fit_again,
                "a program with fit()": lambda: subprocess.run(whole, check=True, env=environment),
            },
            runs,
        )
        session.stdin.close()
        session.wait()
    floor = times.pop("ssh host docker run")
    print(f"ssh host docker run: best {min(floor):.0f} ms, median {statistics.median(floor):.0f} ms")
    for title, values in times.items():
        best, median = min(values) / min(floor), statistics.median(values) / statistics.median(floor)
        print(
            f"{title}: best {min(values):.0f} ms ({best:.2f}x), median {statistics.median(values):.0f} ms "
            f"({median:.2f}x); aim {_AIM}x"
        )
    again = times["fit() again"]
    return int(min(again) > _AIM * min(floor))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10))
