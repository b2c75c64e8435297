"""DataProcessing: filters records before they are sent, and joins answers with the records that they belong to."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from launcher.jobs.transform_spec import TransformJobSpec
from launcher.requests import json_path
from launcher.requests.json_path import FilterError
from launcher.requests.transform import CSV_TYPES, media_type

INPUT_MEMBER, OUTPUT_MEMBER = "SageMakerInput", "SageMakerOutput"


class JoinError(ValueError):
    """An answer does not belong to its records, or is not what its type says."""


class Processing:
    """What happens to each record and to its answer.

    Args:
        spec: the job; its ContentType and Accept say how records are read.

    Attributes:
        filters_input: whether a part of each record is sent, not all of it.
        keeps_records: whether answers are joined with records or filtered.
    """

    def __init__(self, spec: TransformJobSpec) -> None:
        self._input = json_path.parse(spec.input_filter)
        self._output = json_path.parse(spec.output_filter)
        self._joins = spec.join_source == "Input"
        self._is_csv = media_type(spec.content_type) in CSV_TYPES
        self._is_split = spec.split_type != "None"
        self.filters_input = not self._input.takes_all
        self.keeps_records = self._joins or not self._output.takes_all

    @property
    def reads_records(self) -> bool:
        """Whether records have to be told apart on their way in or out."""
        return self.filters_input or self.keeps_records

    def filtered(self, record: bytes) -> bytes:
        """Return what is sent of a record.

        Raises:
            FilterError: it has no such part.
            ValueError: it is no CSV or JSON.
        """
        if not self.filters_input:
            return record
        if self._is_csv:
            return _csv_row(self._input.select(_fields(record)))
        return _json_text(self._input.select(_parsed(record, "the record")))

    def joined(self, records: Sequence[bytes], answer: bytes) -> bytes:
        """Return what is written for a request: each of its records with its answer, filtered.

        Raises:
            JoinError: the answer has another number of records, or cannot be read or filtered.
        """
        answers = self._answers(records, answer)
        try:
            return b"".join(self._written(*pair) for pair in zip(records, answers, strict=True))
        except FilterError as error:
            raise JoinError(str(error)) from error
        except ValueError as error:
            raise JoinError(f"the answer cannot be joined: {error}") from error

    def _answers(self, records: Sequence[bytes], answer: bytes) -> list[bytes]:
        if not self._is_split:
            return [answer]
        lines = [line.rstrip(b"\r") for line in answer.split(b"\n")]
        answers = [line for line in lines if line]
        if len(answers) != len(records):
            if len(records) == 1 and not self._is_csv:
                return [answer]  # one JSON document, written over several lines
            raise JoinError(f"the answer has {len(answers)} records where the request has {len(records)}")
        return answers

    def _written(self, record: bytes, answer: bytes) -> bytes:
        end = b"\n" if self._is_split else b""
        if self._is_csv:
            # The texts are joined as they are: quotes stay quotes.
            row = record + b"," + answer if self._joins else answer
            return (row if self._output.takes_all else _csv_row(self._output.select(_fields(row)))) + end
        value = _parsed(answer, "the answer")
        if self._joins:
            value = _joined_json(_parsed(record, "the record"), value)
        return _json_text(self._output.select(value)) + end


def _joined_json(record: Any, answer: Any) -> dict[str, Any]:
    if isinstance(record, dict):
        return {**record, OUTPUT_MEMBER: answer}
    return {INPUT_MEMBER: record, OUTPUT_MEMBER: answer}


def _fields(row: bytes) -> list[str]:
    """Return the columns of one CSV row; a quoted one keeps its text without the quotes."""
    rows = list(csv.reader(io.StringIO(row.decode("utf-8"), newline=""), strict=True))
    if len(rows) != 1:
        raise ValueError(f"{len(rows)} CSV rows where one was expected")
    return rows[0]


def _csv_row(selected: Any) -> bytes:
    columns = selected if isinstance(selected, list) else [selected]
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(columns)
    return text.getvalue().encode()


def _parsed(text: bytes, subject: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{subject} is not JSON: {error}") from error


def _json_text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def excerpt(body: bytes, length: int = 200) -> str:
    """Return the beginning of an answer, for a reason of failure."""
    text = body[: 4 * length].decode("utf-8", "replace").strip()
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= length else f"{text[:length]}..."
