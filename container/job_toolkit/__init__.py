"""Runs inside the job: reads the ``/opt/ml`` tree, runs the entry point, reports how it ended.

Standard library only, because it also runs as a plain process in a user's own environment.
"""

from job_toolkit.environment import JobEnvironment, JobInputError, read_environment
from job_toolkit.failure import fail_job
from job_toolkit.paths import JobPaths, job_paths

__all__ = ["JobEnvironment", "JobInputError", "JobPaths", "fail_job", "job_paths", "read_environment"]
