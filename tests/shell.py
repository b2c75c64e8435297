"""The launcher as a shell or another program starts it: from this checkout, whatever the folder."""

import os
import subprocess
import sys

from launcher.settings import data_path


def launcher_environment(**variables):
    """Return the tests' own environment, in which ``import launcher`` finds this checkout."""
    return {**os.environ, "PYTHONPATH": str(data_path("container").parent), **variables}


def run_launcher(*arguments, cwd, text=None, **variables):
    """Run a command line to its end, whatever its exit code; ``text`` is for its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "launcher", *arguments],
        capture_output=True,
        input=text,
        text=True,
        cwd=cwd,
        env=launcher_environment(**variables),
        check=False,
    )
