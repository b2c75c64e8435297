"""A server of our own in the role of AWS: another process, with a home of its own."""

import contextlib
import json
import os
import subprocess
import sys

from tests.shell import launcher_environment

KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
"""What a client of it has in its environment, beside its address."""


@contextlib.contextmanager
def another_aws(home, **variables):
    """Yield the address of a local AWS whose home is not the caller's; its jobs run as processes.

    Args:
        variables: of its own environment.
    """
    environment = {
        **{name: text for name, text in launcher_environment().items() if not name.startswith(("AWS_", "LAUNCHER_"))},
        **{"LAUNCHER_HOME": str(home), "LAUNCHER_RUNTIME": "process", "LAUNCHER_STOP_GRACE_SECONDS": "5"},
        **variables,
    }

    def run(*arguments):
        command = [sys.executable, "-m", "launcher", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    url = json.loads(run("up", "--json"))["url"]
    try:
        yield url
    finally:
        run("down")


def client_variables(url):
    """Return the variables by which boto3 takes that server for AWS."""
    return {"AWS_ENDPOINT_URL": url, "AWS_CONFIG_FILE": os.devnull, **KEYS}
