"""Runs a Python program under debugpy: it begins when a debugger is there.

Started as a script, ``python debugging.py PROGRAM ARGUMENT...``; ``LAUNCHER_DEBUGPY`` names the folder of debugpy.
It listens on the loopback address alone, at a port that the system chooses; ``output/.debug-port`` tells the platform.
"""

import importlib
import os
import runpy
import sys
import traceback
from pathlib import Path
from types import TracebackType

FOLDER_VARIABLE = "LAUNCHER_DEBUGPY"  # the same name as in trainer.py, which this script does not load
PORT_FILE = ".debug-port"
_LOOPBACK = "127.0.0.1"


def main(program: str, arguments: list[str]) -> None:
    """Wait for a debugger, then run ``program`` as ``python program argument...`` would."""
    # Removed: a program of the script may be a job as well. At the end: only debugpy itself may come from there.
    sys.path.append(os.environ.pop(FOLDER_VARIABLE))
    sys.path[0] = str(Path(program).resolve().parent)
    sys.argv = [program, *arguments]
    # Python's own frozen modules cannot be stepped into, which debugpy would say at each start.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    debugpy = importlib.import_module("debugpy")
    port = debugpy.listen((_LOOPBACK, 0))[1]
    output = Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml", "output")
    part = output / f"{PORT_FILE}.part"
    part.write_text(str(port), encoding="ascii")
    part.replace(output / PORT_FILE)
    name = os.environ.get("TRAINING_JOB_NAME", "JOB")
    print(f"job_toolkit: {program} waits for a debugger: launcher debug {name}", flush=True)
    debugpy.wait_for_client()
    sys.excepthook = _print_error
    runpy.run_path(program, run_name="__main__")


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback that the program would have without a debugger."""
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, runpy.__file__, "<frozen runpy>"):
        trace = trace.tb_next
    traceback.print_exception(kind, error, trace)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
