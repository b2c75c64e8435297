"""Checking and describing presets for a host, before a job starts: ``python -m batch_rl.presets``.

It reads ``{"folders": [...], "entry_point": "train.py", "hyperparameters": {...}}`` from standard input and exits
with 0, or with 2 and one line that says what is wrong. The request ``{"folders": [...], "show": "a-preset"}`` is
answered with all keys of the preset, as JSON.
"""

import json
import sys
from pathlib import Path

from batch_rl.errors import PresetError
from batch_rl.presets.checking import check_request, describe_preset
from batch_rl.presets.reading import find_preset


def main() -> int:
    """Answer the request on standard input; return the exit code."""
    try:
        try:
            request = json.load(sys.stdin)
        except ValueError as error:
            raise PresetError(f"the request is not JSON: {error}") from error
        if isinstance(request, dict) and "show" in request:
            folders = [Path(str(folder)) for folder in request.get("folders", ())]
            print(json.dumps(describe_preset(find_preset(request["show"], folders))))
        else:
            check_request(request)
    except PresetError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
