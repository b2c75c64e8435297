"""The process of an endpoint: what ``service`` starts, with its descriptors."""

import os
import sys
from pathlib import Path

if os.fork():
    os._exit(0)  # whoever started this need not wait for the endpoint

from launcher.endpoints.process import carry

carry(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
