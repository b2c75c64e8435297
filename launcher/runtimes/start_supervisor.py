"""Begins ``supervisor.py`` from its compiled form: ``python -I -S start_supervisor.py STATE_PATH LOCK_FD [...]``.

What is started as a script is compiled each time, which would take as long as all that the supervisor does.
"""

import sys
from importlib import import_module
from os.path import dirname

if __name__ == "__main__":
    sys.path.insert(0, dirname(__file__))  # noqa: PTH120 - pathlib takes longer to load
    supervisor = import_module("supervisor")
    del sys.path[0]
    supervisor.begin(sys.argv[1:])
