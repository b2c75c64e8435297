"""Whether a request is accepted or refused as the service model says, in AWS's words.

python -m tests.launcher.aws.conformance          all mutants of all operations that are served
"""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker import OPERATIONS, answer
from tests.launcher.aws.mutants import mutants

COUNT = re.compile(r"([0-9]+) validation errors? detected: ")


def judged(mutant, home):
    """Return what is otherwise than the model says; empty where nothing is.

    Args:
        home: that nothing can be written to: what the model accepts has no effect.
    """
    try:
        answer(mutant.operation, mutant.document, home)
    except AwsError as error:
        code, message = error.code, error.message
    else:
        code, message = "", ""
    counted = COUNT.match(message)
    if not mutant.code:
        is_refused = code == "SerializationException" or counted
        return f"refused: {code}: {message:.200}" if is_refused else ""
    if not mutant.texts:
        return "" if code == mutant.code else f"{code}: {message:.200}"
    if code != mutant.code or counted is None:
        return f"not refused by the model: {code}: {message:.200}"
    if int(counted[1]) != len(mutant.texts) or any(text not in message for text in mutant.texts):
        return f"said {message:.400}, expected {mutant.texts}"
    return ""


def main():
    """Judge every mutant; end with 1 where one was answered otherwise."""
    began, count, failures = time.monotonic(), 0, []
    with tempfile.NamedTemporaryFile() as file:
        home = Path(file.name) / "home"
        os.environ |= {"LAUNCHER_HOME": str(home), "LAUNCHER_RUNTIME": "process"}
        for operation in sorted(OPERATIONS):
            for mutant in mutants(operation):
                count += 1
                if problem := judged(mutant, home):
                    failures.append(f"{operation}: {mutant.name}: {problem}")
    print(*failures, sep="\n", end="\n" if failures else "")
    print(
        f"{count:,} requests to {len(OPERATIONS)} operations in {time.monotonic() - began:.0f} s: {len(failures)} wrong"
    )
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
