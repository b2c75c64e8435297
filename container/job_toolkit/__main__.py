"""The container's command: ``python -m job_toolkit train|evaluate|collect|serve``."""

import os
import sys

from job_toolkit.failure import fail_job
from job_toolkit.trainer import Start, StopSignals, install_requirements, run_job

JOB_COMMANDS = ("train", "evaluate", "collect")

HELP = f"""\
usage: python -m job_toolkit {{{",".join(JOB_COMMANDS)},serve,install}}

Runs one job in this container, as Amazon SageMaker would.

  train     run train.py, or the program that the hyperparameter sagemaker_program names
  evaluate  the same with evaluate.py
  collect   the same with collect.py
  serve     answer inference requests at port 8080, or $SAGEMAKER_BIND_TO_PORT, with the model in model/
  install   install the requirements.txt of code/ into requirements/, for the launcher's cache

The job finds its files below /opt/ml, or below $SAGEMAKER_BASE_DIR:
  code/            source files; a requirements.txt there is installed first
  input/config/    hyperparameters.json, inputdataconfig.json, resourceconfig.json
  input/data/X/    the files of channel X
  model/           what the job writes here becomes model.tar.gz; what serve answers by
  output/data/     ... and here output.tar.gz
  output/failure   why the job failed
"""


def main(arguments: list[str], start: Start | None = None) -> int:
    """Run one command; return the exit code of this process (2: the command line makes no sense).

    Args:
        start: starts a program in another way than by a new interpreter.
    """
    if arguments and arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    command = arguments[0] if arguments else "train"
    if command not in (*JOB_COMMANDS, "serve", "install"):
        commands = ", ".join((*JOB_COMMANDS, "serve", "install"))
        print(f"job_toolkit: unknown command {command!r}; the commands are: {commands}.", file=sys.stderr)
        return 2
    if len(arguments) > 1:
        print(
            f"job_toolkit: {command} takes no arguments, but got: {' '.join(arguments[1:])}. "
            "Pass values as hyperparameters.",
            file=sys.stderr,
        )
        return 2
    if command == "serve":
        # A program of its own, with packages of its own; it takes the place of this one, and so its signals.
        os.execv(sys.executable, [sys.executable, "-m", "model_server"])
    try:
        with StopSignals().caught() as signals:
            if command == "install":
                return install_requirements(signals)
            return run_job(command, signals, start)
    except OSError as error:
        fail_job(f"Framework Error: {error}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
