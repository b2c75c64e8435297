"""``launcher explain``: what docs/errors.md says of an error, at the terminal."""

from __future__ import annotations

import difflib
import re
import shlex
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from launcher import errors
from launcher.cli.printing import print_table
from launcher.errors import BadInputError, JobFailedError, LauncherError

PAGE = "errors.md"
_CELLS = re.compile(r"(?<!\\)\|")
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[([^\]]+)\]\(([\w/-]+\.md)?(?:#[\w-]*)?\)")
_CLASS = re.compile(r"\w+Error")
_LEAST_CHARACTERS = 11  # of a symptom's code that a message is searched for: "STATUS" would be in many
_MAX_COLUMNS = 100


@dataclass(frozen=True)
class Entry:
    """What the page says of some classes.

    Attributes:
        names: the classes; they share the row.
    """

    names: tuple[str, ...]
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Symptom:
    """A row of what users see, and what to do about it; both are Markdown."""

    text: str
    remedy: str

    @property
    def fragments(self) -> list[str]:
        """What a message with this symptom holds, in the words of the page: one of these, ``...`` being anything."""
        codes = (code.strip() for code in _CODE.findall(self.text))
        return [code for code in codes if len(code.replace("...", "")) >= _LEAST_CHARACTERS]

    def is_in(self, message: str) -> bool:
        """Return whether a message shows this symptom."""
        return any(
            re.search(".*".join(re.escape(part.strip()) for part in fragment.split("...")), message, re.DOTALL)
            for fragment in self.fragments
        )


def explain(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[ERROR]", help="An error's class, or some words of its message.")
    ] = None,
) -> None:
    """Say what an error means and what to do about it; without an argument, list all.

    launcher explain ChannelError

    launcher explain Read-only file system
    """
    entries, symptoms = read_page()
    term = " ".join(words or []).strip().rstrip(":")
    if not term:
        print_table([("ERROR", "MEANING"), *((name, _plain(e.meaning)) for e in entries for name in e.names)], fit=True)
        return
    entry = entry_of(term, entries)
    if entry is not None:
        name = next(name for name in entry.names if _is_class(term, name))
        rows = [row for row in symptoms if any(name in _CLASS.findall(code) for code in _CODE.findall(row.text))]
    else:
        rows = [row for row in symptoms if row.is_in(term) or term.lower() in _plain(row.text).lower().replace("`", "")]
        head = term.partition(":")[0]
        entry, name = entry_of(head, entries), head
    if entry is None and not rows:
        raise _unexplained(term, entries)
    _print(name, entry, rows)


def read_page() -> tuple[list[Entry], list[Symptom]]:
    """Return the two tables of the page of errors.

    Raises:
        SettingsError: the page does not belong to this installation.
    """
    from launcher.settings import data_path

    text = (data_path("docs") / PAGE).read_text(encoding="utf-8")
    entries, symptoms = [], []
    for line in text.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in _CELLS.split(line)[1:-1]]
        if cells and (cells[0] in ("symptom", "class") or set(cells[0]) == {"-"}):
            continue
        match cells:
            case [names, meaning, remedy]:
                entries.append(Entry(tuple(_CODE.findall(names)), meaning, remedy))
            case [symptom, remedy] if not symptom.isdigit():
                symptoms.append(Symptom(symptom, remedy))
    return entries, symptoms


def entry_of(name: str, entries: list[Entry]) -> Entry | None:
    """Return the entry of a class, whose name may be written small and without ``Error``."""
    return next((entry for entry in entries if any(_is_class(name, other) for other in entry.names)), None)


def pointer(error: LauncherError) -> str:
    """Return a line that names the command which says more of an error; empty where the error says what to do itself.

    A job that failed says what its script said. Where the page has a row for that, the line names the row.
    """
    if error.hint and not isinstance(error, JobFailedError):
        return ""
    try:
        entries, symptoms = read_page()
    except (LauncherError, OSError):  # an error is shown as it is, whatever is missing beside it
        return ""
    message = f"{type(error).__name__}: {error}"
    row = next((row for row in symptoms if row.is_in(message)), None)
    if row is not None:
        longest = max(
            (part.strip(" :") for code in row.fragments for part in code.split("...")),
            key=lambda part: (part in message, len(part)),
        )
        return f"\n  More: launcher explain {shlex.quote(longest)}"
    names = (kind.__name__ for kind in type(error).__mro__ if not error.hint)
    name = next((name for name in names if entry_of(name, entries) is not None), "")
    return f"\n  More: launcher explain {name}" if name else ""


def _is_class(text: str, name: str) -> bool:
    return text.lower() in (name.lower(), name.removesuffix("Error").lower())


def _unexplained(term: str, entries: list[Entry]) -> BadInputError:
    names = [name for entry in entries for name in entry.names]
    near = difflib.get_close_matches(term, names, n=1)
    also = f"Did you mean {near[0]}? " if near else ""
    return BadInputError(f"nothing is explained under {term!r}.", f"{also}List all errors: launcher explain")


def _print(name: str, entry: Entry | None, rows: list[Symptom]) -> None:
    if entry is not None:
        kind = getattr(errors, name, None)
        code = f" (exit code {kind.exit_code})" if isinstance(kind, type) and issubclass(kind, LauncherError) else ""
        print(f"{name}{code}")
        _print_text(entry.meaning, 1)
        _print_text(entry.remedy, 1)
    for row in rows:
        if entry is not None or row is not rows[0]:
            print()
        _print_text(row.text, 0)
        _print_text(row.remedy, 1)
    pages = {page for row in rows for _, page in _LINK.findall(row.remedy + row.text) if page}
    if entry is not None:
        pages |= {page for _, page in _LINK.findall(entry.meaning + entry.remedy) if page}
    if pages:
        from launcher.settings import data_path

        print()
        for page in sorted(pages):
            print(f"{page} is {_shown(data_path('docs') / page)}")


def _shown(path: Path) -> str:
    """Return a path as a person types it: from the home folder, where it lies below that."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):  # elsewhere, or there is no home folder
        return str(path)


def _plain(text: str) -> str:
    """Return Markdown without its links: their text, and the page where it does not name that itself."""

    def link(match: re.Match[str]) -> str:
        words, page = match[1], match[2]
        return words if page is None or words == page else f"{words} ({page})"

    return _LINK.sub(link, text)


def _print_text(text: str, depth: int) -> None:
    indent = "  " * depth
    width = min(shutil.get_terminal_size().columns, _MAX_COLUMNS)
    lines = textwrap.wrap(
        _plain(text), width, initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    print("\n".join(lines))
