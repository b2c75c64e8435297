"""Many jobs through one store, on a runtime that runs nothing: a sample of benchmarks/scale.py."""

import importlib.util
from pathlib import Path

import pytest

SCALE = Path(__file__).parents[2] / "benchmarks" / "scale.py"
JOBS, DRIVERS = 100, 10


@pytest.fixture(scope="module")
def scale():
    place = importlib.util.spec_from_file_location("benchmark_of_scale", SCALE)
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_hundred_jobs_are_submitted_driven_listed_stopped_and_collected(scale):
    """The simulation itself checks how each job ended, and that each model was collected; no job is left behind."""
    figures = scale.measure(JOBS, 1, DRIVERS)
    assert figures["jobs"] == JOBS
    assert figures["files_per_job"] < 10
    # A driver has its lock, its ticket and the file of metrics, and a few while it packs; not one is left to the next.
    assert figures["descriptors"] < 20 + 8 * DRIVERS
    assert figures["threads"] < 10 + 5 * DRIVERS
