"""The process of the scheduler: what ``process`` starts, with the home and the descriptor of its lock."""

import os
import sys
from pathlib import Path

if os.fork():
    os._exit(0)  # whoever started this need not wait for the scheduler

from launcher.batch_queues.process import run

run(Path(sys.argv[1]), int(sys.argv[2]))
