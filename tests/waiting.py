"""Waiting for something that other processes do."""

import time


def wait_until(condition, seconds=60.0):
    """Return as soon as a condition holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
