"""Files of two jobs: members of archives, files of folders and objects of an S3, told apart by size and content."""

from __future__ import annotations

import difflib
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from launcher.comparing.differences import Difference, without_name
from launcher.running import artifacts

MOST_LINES = 40
"""How many lines of a text file's differences are kept."""

MAX_TEXT_BYTES = 4 << 20
_MAX_DIFF_LINES = 5000  # of a file: beyond, difflib takes minutes, and the first lines that differ are shown
_LONGEST_LINE = 400
_BLOCK_BYTES = 1 << 20

Reader = Callable[[str], bytes | None]
"""Returns the content of a file of the listing; None where it is too large to be shown."""


@dataclass(frozen=True)
class Facts:
    """What tells one file from another.

    Attributes:
        size: in bytes.
        content: a digest, with its kind: ``sha256:...`` or ``etag:...``; empty where the size alone was looked at.
        link: where a symbolic link points to; empty for a file.
        executable: whether its owner may run it.
    """

    size: int
    content: str = ""
    link: str = ""
    executable: bool = False

    @property
    def text(self) -> str:
        """The facts for people."""
        if self.link:
            return f"a link to {self.link}"
        digest = f", {self.content[:19]}" if self.content else ""
        return f"{self.size:,} bytes{digest}{', executable' if self.executable else ''}"

    def same_as(self, other: Facts) -> bool:
        """Whether two files are the same; digests of two kinds cannot be compared, and sizes then decide."""
        kinds = {facts.content.partition(":")[0] for facts in (self, other)}
        if len(kinds) > 1:
            return (self.size, self.link) == (other.size, other.link)
        return self == other


def archive_facts(path: Path) -> dict[str, Facts]:
    """Return the facts of each file and link in an archive, by name; times and owners are left out.

    Raises:
        ArtifactError: no archive, or damaged.
    """
    return {
        member.name: Facts(member.size, f"sha256:{member.digest}" if member.digest else "", member.link, member.runs)
        for member in artifacts.digest_members(path)
    }


def folder_facts(folder: Path) -> dict[str, Facts]:
    """Return the facts of each file below a folder of the launcher's own, by its path there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_facts(path) for path in paths}


def file_facts(path: Path) -> Facts:
    """Return size and digest of a file."""
    return Facts(path.stat().st_size, f"sha256:{digest_of(path)}")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def compare_files(
    first: Mapping[str, Facts],
    second: Mapping[str, Facts],
    readers: tuple[Reader, Reader],
    prefix: str = "",
    *,
    names: tuple[str, str] = ("", ""),
) -> list[Difference]:
    """Return the files that differ or that only one side has, in the order of their names.

    Args:
        readers: return the content of a file of each side, for the lines that differ.
        prefix: goes before each name.
        names: of the two jobs; texts that differ in nothing but the job's own name are the same.
    """
    differences = []
    for name in sorted({*first, *second}):
        before, after = first.get(name), second.get(name)
        texts = [None if facts is None else facts.text for facts in (before, after)]
        lines: tuple[str, ...] = ()
        if before is not None and after is not None:
            if before.same_as(after):
                continue
            changed = before.content != after.content and not (before.link or after.link)
            if changed and max(before.size, after.size) <= MAX_TEXT_BYTES:
                sides = [_as_text(reader(name)) for reader in readers]
                if sides[0] is not None and sides[1] is not None:
                    if without_name(sides[0], names[0]) == without_name(sides[1], names[1]):
                        continue
                    lines = _changed_lines(sides[0], sides[1])
        differences.append(Difference(f"{prefix}{name}", texts[0], texts[1], lines))
    return differences


def archive_reader(path: Path) -> Reader:
    """Return what reads a member of an archive."""
    return lambda name: artifacts.read_member(path, name, MAX_TEXT_BYTES)


def folder_reader(folder: Path) -> Reader:
    """Return what reads a file below a folder."""
    return lambda name: (folder / name).read_bytes()


def no_reader(_name: str) -> bytes | None:
    """Read nothing: of these files nothing but size and digest is shown."""
    return None


def in_scratch(work: Callable[[Path], Any]) -> Any:
    """Do something with a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="launcher-") as folder:
        return work(Path(folder))


def _as_text(content: bytes | None) -> str | None:
    try:
        text = "\0" if content is None else content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _changed_lines(first: str, second: str) -> tuple[str, ...]:
    before, after = first.splitlines(), second.splitlines()
    if before == after:
        return ("the line ends differ",)
    if max(len(before), len(after)) <= _MAX_DIFF_LINES:
        changes = difflib.unified_diff(before, after, lineterm="", n=0)
        lines = list(islice(changes, 2, 3 + MOST_LINES))
    else:
        number = next(
            (number for number, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]),
            min(len(before), len(after)),
        )
        lines = [f"@@ line {number + 1} is the first that differs @@"]
        lines += [
            f"{sign}{side[number]}" for sign, side in (("-", before), ("+", after)) if number < len(side)
        ]  # fmt: skip
    cut = [line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..." for line in lines[:MOST_LINES]]
    return (*cut, *(["..."] if len(lines) > MOST_LINES else []))
