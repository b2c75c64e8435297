"""An index of a home, for lists of many jobs: which there are, and what a line of a list says of each.

The records stay the truth. The index is a copy of a few of their fields in one SQLite file; it may be deleted at any
moment, and is made again by the next list. No job reads or writes it. Who lists brings it up to date, and looks at

- every record that has not ended, and every one that had a process at it when it was read last;
- what has a mark (``changes.py``): made under a name that was used before, or written again after its end;
- the folder of all jobs: its time changes when one is made or removed;
- some of the records that have ended, at random: all of a small home, so that an edit by hand shows.

The file is replaced as a whole, by one process at a time. A process that is killed, a damaged file, a full disk and a
home that cannot be written therefore cost time, and nothing else: the list is then made in memory.

Example:
    >>> listing = list_entries(home, [TRAINING_JOBS], statuses=["Failed"], name_contains="bcq", limit=20)
    >>> [entry.name for entry in listing.entries], listing.total
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from launcher.errors import BadInputError, RecordError
from launcher.jobs.changes import INDEX_LOCK_FILE, drop_taken_marks, marked_names, take_marks
from launcher.jobs.kinds import KINDS, Kind
from launcher.jobs.record import Record
from launcher.jobs.store import Store, unreadable
from launcher.jobs.tags import TAGS_FILE, tags_are_changing

INDEX_FILE = "index.sqlite3"
_VERSION = 1  # of the tables below
_PART_FILE = f"{INDEX_FILE}.part"
_LOOKED_AT = 500  # ended records a list; each costs some 10 us
_SETTLING_NS = 100_000_000  # a folder's time is as coarse as the kernel's clock
_MOST_CHARACTERS = 1024
_TABLES = """
CREATE TABLE kinds (kind TEXT PRIMARY KEY, look TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (
    kind TEXT NOT NULL, name TEXT NOT NULL, signature TEXT NOT NULL, settled INTEGER NOT NULL,
    readable INTEGER NOT NULL, error TEXT NOT NULL, hint TEXT NOT NULL,
    status TEXT NOT NULL, secondary_status TEXT NOT NULL, runtime TEXT NOT NULL,
    created REAL NOT NULL, started REAL, ended REAL, modified REAL NOT NULL, unknown_since REAL,
    terminal INTEGER NOT NULL, failure_reason TEXT NOT NULL, billable_seconds REAL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX by_settled ON entries (kind, settled, name, signature, terminal);
CREATE INDEX by_created ON entries (readable, created, name);
CREATE INDEX by_status ON entries (kind, status, readable);
"""

_Answer = TypeVar("_Answer")


class Entry(NamedTuple):
    """A line of a list; times in seconds since 1970.

    Attributes:
        kind: the name of the kind's folder, as ``KINDS`` has it.
        status: empty for what has none, such as a model.
        started, ended, unknown_since, billable_seconds: None where the record has none.
        terminal: whether nothing will happen to it any more.
        failure_reason: its beginning.
    """

    kind: str
    name: str
    status: str
    secondary_status: str
    runtime: str
    created: float
    started: float | None
    ended: float | None
    modified: float
    unknown_since: float | None
    terminal: bool
    failure_reason: str
    billable_seconds: float | None

    @property
    def kind_of(self) -> Kind[Any]:
        """The kind."""
        return KINDS[self.kind]


class Listing(NamedTuple):
    """An answer.

    Attributes:
        total: how many entries the filters leave, on all pages together.
        errors: why each record that cannot be read is in no list.
    """

    entries: list[Entry]
    total: int
    errors: list[RecordError]


SortBy = Literal["name", "created", "modified", "status"]
_FIELDS = ", ".join(Entry._fields)
_TERMINAL = Entry._fields.index("terminal")


def list_entries(
    home: Path,
    kinds: Iterable[Kind[Any]],
    *,
    statuses: Sequence[str] = (),
    name_contains: str = "",
    created: tuple[float | None, float | None] = (None, None),
    modified: tuple[float | None, float | None] = (None, None),
    terminal: bool | None = None,
    sort_by: SortBy = "created",
    descending: bool = True,
    limit: int | None = None,
    offset: int = 0,
    after: tuple[Any, str] | None = None,
    shown_as: Mapping[str, Iterable[str]] | None = None,
) -> Listing:
    """Return a page of what lives in a home.

    Args:
        home: ``LAUNCHER_HOME``; it need not exist.
        kinds: of what; entries of several kinds are merged.
        statuses: any of these; empty: all.
        name_contains: upper and lower case count.
        created, modified: the first and the last moment, both included; None: no limit.
        terminal: only what has ended, or only what has not; None: both.
        sort_by: entries that are equal in it are sorted by name, in the same direction.
        limit: the most entries of the page; None: all.
        offset: how many to leave out at the beginning.
        after: the page begins behind this place: the value that is sorted by, and the name, of the last entry before.
        shown_as: statuses that are shown instead of those recorded, by status the names.
    Raises:
        SettingsError: the home may not be looked into.
        TypeError: ``after`` has a value of another type than the list is sorted by.
    """
    stores = [Store(home, kind) for kind in kinds]
    status, status_values = _shown_status(shown_as or {})
    key = {"status": status}.get(sort_by, sort_by)
    tests: list[tuple[str, Sequence[Any]]] = [
        (f"kind IN ({_places(stores)})", [store.kind.folder for store in stores]),
        ("readable", ()),
    ]
    if statuses:
        tests.append((f"{status} IN ({_places(statuses)})", [*status_values, *map(str, statuses)]))
    if name_contains:
        tests.append(("instr(name, ?)", [name_contains]))
    for column, (first, last) in (("created", created), ("modified", modified)):
        tests += [(f"{column} >= ?", [first])] if first is not None else []
        tests += [(f"{column} <= ?", [last])] if last is not None else []
    if terminal is not None:
        tests.append(("terminal = ?", [int(terminal)]))
    counted = list(tests)
    key_values = status_values if sort_by == "status" else []
    if after is not None:
        if not isinstance(after[0], str if sort_by in ("name", "status") else (int, float)):
            raise TypeError(f"a list by {sort_by} has no place {after[0]!r}.")
        tests.append((f"({key}, name) {'<' if descending else '>'} (?, ?)", [*key_values, *after]))
    order = f"{key} {(word := 'DESC' if descending else 'ASC')}, name {word}, kind {word}"
    fields = _FIELDS.replace(", status", f", {status}", 1)

    def ask(index: sqlite3.Connection) -> Listing:
        condition = " AND ".join(test for test, _ in tests)
        rows = index.execute(
            f"SELECT {fields} FROM entries WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",
            [
                *status_values,
                *(value for _, values in tests for value in values),
                *key_values,
                -1 if limit is None else limit,
                offset,
            ],
        )
        entries = [_entry(row) for row in rows]
        total = len(entries)
        if limit is not None or offset or after is not None:
            condition = " AND ".join(test for test, _ in counted)
            values = [value for _, values in counted for value in values]
            [(total,)] = index.execute(f"SELECT count(*) FROM entries WHERE {condition}", values)
        errors = index.execute(
            f"SELECT error, hint FROM entries WHERE {tests[0][0]} AND NOT readable AND error != '' ORDER BY name",
            tests[0][1],
        )
        return Listing(entries, total, [RecordError(*row) for row in errors])

    return _ask(home, stores, ask)


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry._make((*row[:_TERMINAL], bool(row[_TERMINAL]), *row[_TERMINAL + 1 :]))


def names_by_age(store: Store[Any], *, prefix: str = "", limit: int | None = None) -> list[str]:
    """Return the names of all that can be read, the newest first.

    Args:
        prefix: only names that begin so.
        limit: the most names; None: all.
    Raises:
        SettingsError: the home may not be looked into.
    """
    return _ask(
        store.home,
        [store],
        lambda index: [
            name
            for (name,) in index.execute(
                "SELECT name FROM entries WHERE kind = ? AND readable AND substr(name, 1, ?) = ?"
                " ORDER BY created DESC, name DESC LIMIT ?",
                [store.kind.folder, len(prefix), prefix, -1 if limit is None else limit],
            )
        ],
    )


def signatures(store: Store[Any]) -> list[tuple[str, str]]:
    """Return all names that can be read, and of each a text that changes with its record and its tags.

    Raises:
        SettingsError: the home may not be looked into.
    """
    return _ask(
        store.home,
        [store],
        lambda index: index.execute(
            "SELECT name, signature FROM entries WHERE kind = ? AND readable", [store.kind.folder]
        ).fetchall(),
    )


def _ask(home: Path, stores: Sequence[Store[Any]], question: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
    """Return the answer of an index that is up to date; one that is damaged is made again."""
    try:
        file = _file_signature(str(home / INDEX_FILE))
        with closing(_up_to_date(home, stores, _opened(home), file)) as index:
            return question(index)
    except sqlite3.DatabaseError:
        with closing(_up_to_date(home, stores, None, "")) as index:
            return question(index)


def _up_to_date(
    home: Path, stores: Sequence[Store[Any]], index: sqlite3.Connection | None, file: str
) -> sqlite3.Connection:
    """Return the index if nothing has changed; else one in memory, which is written where that can be done.

    Args:
        index: as it is on the disk; None makes it from the records.
        file: the signature of its file, from before it was opened.
    """
    with contextlib.ExitStack() as closed_on_errors:
        memory = closed_on_errors.enter_context(closing(sqlite3.connect(":memory:", isolation_level=None)))
        changes: dict[Path, _Changes | None] = {}
        if index is not None:
            closed_on_errors.enter_context(closing(index))
            changes = {store.path: _changes(index, store) for store in stores}
            if not any(changes.values()) and not any(marked_names(store.path) for store in stores):
                closed_on_errors.pop_all()
                memory.close()
                return index
        with _writing(home) as may_write:
            if index is not None and may_write and file != _file_signature(str(home / INDEX_FILE)):
                index.close()  # another process has replaced it meanwhile
                index, changes = _opened(home), {}
            if index is None:
                memory.executescript(f"{_TABLES} PRAGMA user_version = {_VERSION};")
            else:
                index.backup(memory)
                index.close()
            marks = {store.path: _marks(store, take=may_write) for store in stores}
            changes = changes or {store.path: _changes(memory, store) for store in stores}
            memory.execute("BEGIN")
            for store in stores:
                _apply(memory, store, changes[store.path], marks[store.path])
            memory.execute("COMMIT")
            if may_write and _saved(memory, home):
                for path, names in marks.items():
                    drop_taken_marks(path, names)
        closed_on_errors.pop_all()
        return memory


def _opened(home: Path) -> sqlite3.Connection | None:
    """Open the index to read it; None where there is none of this version.

    ``immutable``: nobody changes the file, it is only ever replaced, so that no lock is needed.
    """
    path = home / INDEX_FILE
    if not path.exists():
        return None
    index = None
    try:
        index = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        if index.execute("PRAGMA user_version").fetchone() == (_VERSION,):
            return index
    except sqlite3.DatabaseError:
        pass  # it is made again
    if index is not None:
        index.close()
    return None


@contextmanager
def _writing(home: Path) -> Iterator[bool]:
    """Hold the right to replace the index; yield whether this process has it."""
    try:
        if home.stat().st_uid != os.geteuid():  # whoever looks at another's home leaves nothing in it
            raise PermissionError
        descriptor = os.open(home / INDEX_LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            try:
                yield True
            finally:
                # Closing is not enough: a forked child may hold the descriptor as well.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _saved(memory: sqlite3.Connection, home: Path) -> bool:
    """Replace the index on the disk; return whether it could be written."""
    part = home / _PART_FILE
    try:
        part.unlink(missing_ok=True)  # of a process that was killed
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            memory.backup(copy)
        part.replace(home / INDEX_FILE)
    except (OSError, sqlite3.DatabaseError):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        return False
    return True


class _Changes(NamedTuple):
    """What of a kind in the index is not as it is in the home.

    Attributes:
        read: names whose records are to be read.
        gone: names that are no more.
        look: what is remembered of the folder; None where it stays.
    """

    read: set[str]
    gone: set[str]
    look: str | None


def _changes(index: sqlite3.Connection, store: Store[Any]) -> _Changes | None:
    """Return what has changed, but for what has a mark; None where nothing has.

    Raises:
        SettingsError: the home may not be looked into.
    """
    kind, read, gone = store.kind.folder, set[str](), set[str]()
    look, is_settled = _look(store.path)
    before = index.execute("SELECT look FROM kinds WHERE kind = ?", [kind]).fetchone()
    if before != (look,):
        [(joined,)] = index.execute("SELECT group_concat(name, '/') FROM entries WHERE kind = ?", [kind])
        indexed, names = set(joined.split("/") if joined else ()), _names(store.path)
        # A link to a job, as docker compose makes them for the newest, is not another job.
        read = {name for name in names - indexed if name[0] != "." and not (store.path / name).is_symlink()}
        gone = indexed - names
    for name, signature, settled, terminal in _watched(index, kind):
        if name not in gone:
            at_rest = terminal and not settled and _is_at_rest(store, name)
            if at_rest or _signature(store, name) != signature:
                read.add(name)
    remembered = look if is_settled else ""
    if before == (remembered,) or (before is None and not look):
        return _Changes(read, gone, None) if read or gone else None
    return _Changes(read, gone, remembered)


def _watched(index: sqlite3.Connection, kind: str) -> list[tuple[str, str, int, int]]:
    """Return name, signature, ``settled`` and ``terminal`` of all that may change, and of some that should not."""
    columns = "SELECT name, signature, settled, terminal FROM entries WHERE kind = ? AND settled = ?"
    rows = index.execute(columns, [kind, 0]).fetchall()
    [(count,)] = index.execute("SELECT count(*) FROM entries WHERE kind = ? AND settled = 1", [kind])
    block = random.randrange(count // max(1, _LOOKED_AT) + 1)
    rows += index.execute(f"{columns} ORDER BY name LIMIT ? OFFSET ?", [kind, 1, _LOOKED_AT, block * _LOOKED_AT])
    return rows


def _apply(index: sqlite3.Connection, store: Store[Any], changes: _Changes | None, marked: set[str]) -> None:
    kind = store.kind.folder
    read, vanished, look = changes or (set(), set(), None)
    gone = [(kind, name) for name in vanished]
    rows = []
    for name in read | marked:
        row = _row(store, name)
        if row is None:
            gone.append((kind, name))
        else:
            rows.append((kind, name, *row))
    index.executemany("DELETE FROM entries WHERE kind = ? AND name = ?", gone)
    if rows:
        index.executemany(f"INSERT OR REPLACE INTO entries VALUES ({_places(rows[0])})", rows)
    if look is not None:
        index.execute("INSERT OR REPLACE INTO kinds VALUES (?, ?)", [kind, look])


def _row(store: Store[Any], name: str) -> tuple[Any, ...] | None:
    """Return what the index has of a record, but kind and name; None where there is no such folder."""
    if not os.path.lexists(f"{store.path}/{name}"):
        return None
    # In this order: who changes the record after this look at its lock leaves a mark; before, what was written is read.
    is_at_rest = _is_at_rest(store, name)
    signature = _signature(store, name)
    error, hint, record = "", "", None
    try:
        record = store.load(name)
    except RecordError as refused:
        error, hint = refused.message, refused.hint
    except BadInputError:
        pass  # a claim of the name, whose record comes or does not
    if record is None:
        return signature, 0, 0, error, hint, "", "", "", 0.0, None, None, 0.0, None, 0, "", None
    return signature, int(record.terminal and is_at_rest), 1, "", "", *_values(record)


def _values(record: Record) -> tuple[Any, ...]:
    def get(name: str) -> Any:
        return getattr(record, name, None)

    return (
        str(get("status") or ""),
        str(get("secondary_status") or ""),
        str(get("runtime") or ""),
        record.created,
        get("started"),
        get("ended"),
        record.modified,
        get("unknown_since"),
        int(record.terminal),
        str(get("failure_reason") or "")[:_MOST_CHARACTERS],
        get("billable_seconds"),
    )


def _is_at_rest(store: Store[Any], name: str) -> bool:
    """Return whether no process is at a job."""
    try:
        return not store.folder(name).driven() and not tags_are_changing(store, name)
    except OSError:
        return False


def _signature(store: Store[Any], name: str) -> str:
    """Return a text that changes with a record, with its tags and with who may read it."""
    folder = f"{store.path}/{name}"
    return f"{_file_signature(f'{folder}/{store.kind.record_file}')} {_file_signature(f'{folder}/{TAGS_FILE}')}"


def _file_signature(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116 - ten times as fast
    except (FileNotFoundError, NotADirectoryError):
        return "-"
    except OSError as error:
        return f"error-{error.errno}"
    return f"{status.st_ino}.{status.st_ctime_ns}.{status.st_size}"


def _look(path: Path) -> tuple[str, bool]:
    """Return a text that changes when something is made or removed in a folder; empty where it is not there.

    Returns:
        The text, and whether it can be trusted: a change at this moment may have the same time.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "", True
    except OSError as error:
        raise unreadable(path, error) from error
    is_settled = time.time_ns() - status.st_mtime_ns > _SETTLING_NS
    return f"{status.st_dev}.{status.st_ino}.{status.st_mtime_ns}", is_settled


def _names(path: Path) -> set[str]:
    try:
        return set(os.listdir(path))  # noqa: PTH208 - names are enough, and there may be many
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise unreadable(path, error) from error


def _marks(store: Store[Any], *, take: bool) -> set[str]:
    if take:
        with contextlib.suppress(OSError):
            return take_marks(store.path)
    return marked_names(store.path)


def _shown_status(shown_as: Mapping[str, Iterable[str]]) -> tuple[str, list[str]]:
    """Return the SQL of the status that is shown, and its values."""
    words, values = "", list[str]()
    for status, names in shown_as.items():
        if chosen := sorted(names):
            words += f" WHEN name IN ({_places(chosen)}) THEN ?"
            values += [*chosen, status]
    return (f"CASE{words} ELSE status END", values) if words else ("status", [])


def _places(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
