"""The commands of a page, read from it and run in order, in one folder and one home, on the process runtime.

Comments before a block, which readers do not see:

    <!-- not run: REASON -->       the block is an overview, or needs what a test has not
    <!-- save: NAME -->            the block is a file of that name
    <!-- exit code: N -->          the block ends with that exit code
    <!-- after: PAGE -->           anywhere: the commands of that page are run before

Blocks of ``sh`` without a comment are run as they stand, by ``bash -eu``.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(
    r"(?:<!-- (?P<rule>[a-z ]+): (?P<value>[^>]+?) -->\n)?"
    r"^```(?P<language>\w*)(?: file=(?P<file>\S+))?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_AFTER = re.compile(r"<!-- after: (\S+) -->")
_RULES = (None, "not run", "save", "exit code")

SMALL = {
    "collect.py": ["collection.num_envs=10"],
    "train.py": ["agent.members=1", "training.epochs=1", "bcq.imitation_updates=50"],
    "evaluate.py": ["evaluation.episodes=1"],
}
"""The same jobs with less work, by entry point; what a page itself asks for is replaced by it."""

_SHIM = """#!{python}
# The launcher of this environment; the bundled entry points do less work, so that a page takes seconds.
import os, sys
arguments = sys.argv[1:]
if arguments[:1] == ["fit"] and any(word.startswith("preset-") for word in arguments) and "--dry-run" not in arguments:
    program = next((word for word in arguments[1:] if word.endswith(".py")), "train.py")
    for value in {small!r}.get(program, []):
        own = [place for place, word in enumerate(arguments) if word.startswith(value.split("=")[0] + "=")]
        for place in reversed(own):
            del arguments[place - 1 : place + 1]
        arguments += ["-p", value]
os.execv({python!r}, [{python!r}, "-m", "launcher", *arguments])
"""


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        rule: what the comment before it says is to be done with it; empty where there is none.
        value: what follows the colon in the comment.
        line: of the page, where it begins.
    """

    language: str
    text: str
    rule: str
    value: str
    line: int

    @property
    def runs(self):
        return self.language in ("sh", "bash") and self.rule != "not run"


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            match["language"],
            match["text"],
            "save" if match["file"] else match["rule"] or "",
            match["file"] or (match["value"] or "").strip(),
            text.count("\n", 0, match.start()) + 1,
        )
        for match in _BLOCK.finditer(text)
    ]


def unknown_rules(page):
    return [block.rule for block in blocks(page) if (block.rule or None) not in _RULES]


@dataclass(frozen=True)
class Reader:
    """Who runs a page's commands, and by which launcher.

    Attributes:
        python: the interpreter that has the launcher.
        environment: all that the commands have, besides what ``run_page`` says.
        wrap: makes a command that runs as this person.
    """

    python: str
    environment: Mapping[str, str]
    wrap: Callable[[list[str]], list[str]] = list

    @classmethod
    def of_this_checkout(cls):
        return cls(sys.executable, {**os.environ, "PYTHONPATH": str(ROOT)})

    def run(self, command, folder, **options):
        return subprocess.run(self.wrap(command), cwd=folder, capture_output=True, text=True, check=False, **options)


def run_page(page, folder, home, *, reader=None, until=""):
    """Run a page's commands, those of the pages that it follows first; returns all that was printed.

    Args:
        home: the launcher's; None for the reader's own.
        until: the heading that the commands end at; empty for the whole page.
    Raises:
        AssertionError: a command ended with another exit code than the page says; the message has page and line.
    """
    reader = reader or Reader.of_this_checkout()
    text = page.read_text(encoding="utf-8")
    printed = ""
    for name in _AFTER.findall(text):
        printed += run_page(page.parent / name, folder, home, reader=reader)
    shim = _SHIM.format(python=reader.python, small=SMALL)
    place = "mkdir -p .programs && cat > .programs/launcher && chmod 755 .programs/launcher"
    assert reader.run(["sh", "-c", place], folder, input=shim).returncode == 0
    environment = {
        **reader.environment,
        **({} if home is None else {"LAUNCHER_HOME": str(home)}),
        "LAUNCHER_RUNTIME": "process",
        "PATH": f"{folder}/.programs:{Path(reader.python).parent}:{reader.environment['PATH']}",
        "COLUMNS": "80",
    }
    last_line = text.count("\n", 0, text.index(f"\n{until}\n")) if until else len(text)
    for block in blocks(page):
        if block.line > last_line:
            break
        if block.rule == "save":
            save = 'mkdir -p "$(dirname "$0")" && cat > "$0"'
            assert reader.run(["sh", "-c", save, block.value], folder, input=block.text).returncode == 0
        elif block.runs:
            ended = reader.run(["bash", "-euc", block.text], folder, env=environment, stdin=subprocess.DEVNULL)
            wanted = int(block.value) if block.rule == "exit code" else 0
            said = f"$ {block.text}{ended.stdout}{ended.stderr}"
            assert ended.returncode == wanted, f"{page.name}:{block.line}: exit code {ended.returncode}\n{said}"
            printed += said
    return printed


def commands(page):
    """Return the words of each line that calls the launcher in the blocks that run."""
    text = "\n".join(block.text for block in blocks(page) if block.runs).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("launcher ")]
