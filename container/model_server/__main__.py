"""The server's command: ``python -m model_server``, which ``python -m job_toolkit serve`` becomes."""

import os
import sys

from job_toolkit.environment import JobInputError, count_cpus
from job_toolkit.trainer import ChildFailedError, StopSignals, installed_requirements
from model_server.errors import ServingError
from model_server.programs import find_program
from model_server.settings import read_settings


def main() -> int:
    """Serve until SIGTERM; return the exit code of this process."""
    try:
        settings = read_settings()
        program = find_program(settings)
        _limit_threads(settings.workers, is_ours=program is None)
        from model_server.supervisor import Supervisor  # numpy reads the limit when it is loaded

        folder = settings.model / "code" if program is None else program.parent
        with StopSignals().caught() as signals, installed_requirements(folder, signals) as requirements:
            if signals.received is not None:
                return 0
            if requirements is not None:
                sys.path.insert(0, str(requirements))
            return Supervisor(settings, program).run()
    except ModuleNotFoundError as error:
        reason = (
            f"serving needs the package {error.name}, which {sys.executable} does not have. "
            "As a process: pip install 'sagemaker-launcher[rl]'; the bundled image has it."
        )
    except ChildFailedError as error:
        reason = f"requirements.txt in {folder} could not be installed: pip ended with {error.exit_code}."
    except (ServingError, JobInputError, OSError) as error:
        reason = str(error)
    print(f"serve: {reason}", file=sys.stderr, flush=True)
    return 1


def _limit_threads(workers: int, *, is_ours: bool) -> None:
    """Set how many threads a worker's libraries use, unless the environment says it.

    Our policy is small and takes one; the workers of a user's own code share the CPUs.
    """
    threads = 1 if is_ours else max(1, count_cpus() // workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


if __name__ == "__main__":
    sys.exit(main())
