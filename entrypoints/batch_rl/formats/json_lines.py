"""Tables as JSON lines: an object per line."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batch_rl.data.episodes import Episodes
from batch_rl.data.tables import JSON_LINES, episodes_from_frame
from batch_rl.errors import DatasetError
from batch_rl.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd


def write_json_lines(path: Path, frame: "pd.DataFrame") -> None:
    """Write a table as JSON lines: an object per row, maps as objects, missing values as null."""
    columns = [plain_cells(frame[name]) for name in frame.columns]
    names = [str(name) for name in frame.columns]

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in zip(*columns, strict=True):
                file.write(json.dumps(dict(zip(names, row, strict=True))) + "\n")

    write_atomically(path, write)


def read_json_lines_frame(path: Path) -> "pd.DataFrame":
    """Read JSON lines into a table; blank lines are refused, because they would shift the count of lines.

    Raises:
        DatasetError: the file cannot be read, or a line is not an object.
    """
    import pandas as pd

    records = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise DatasetError(f"{path}, line {number}: not a JSON object.")
                records.append(record)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON lines ({type(error).__name__}).") from error
    except ValueError as error:
        raise DatasetError(f"{path}, line {len(records) + 1}: not JSON: {error}.") from error
    if not records:
        raise DatasetError(f"{path}: it has no rows.")
    return pd.DataFrame(records)


def read_json_lines(path: Path, **options: Any) -> Episodes:
    """Read and check a table in JSON lines, in ReAgent's columns or any others of ``batch_rl.data.tables``.

    Args:
        options: ``action_names`` and ``require_propensities`` of ``tables.check_frame``.
    Raises:
        DatasetError: as ``read_json_lines_frame``, or the table has faults.
    """
    return episodes_from_frame(read_json_lines_frame(path), source=str(path), labels=JSON_LINES, **options)


def plain_cells(column: "pd.Series[Any]") -> list[Any]:
    """Return cells as JSON has them: no NumPy types, and None for missing values."""

    def plain(cell: Any) -> Any:
        if isinstance(cell, np.ndarray | np.generic):
            return plain(cell.tolist())
        return None if isinstance(cell, float) and np.isnan(cell) else cell

    return [plain(cell) for cell in column.tolist()]
