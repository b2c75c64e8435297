"""How files become requests: splitting, packing, filters and joins, by hand and by drawing."""

import io
import itertools
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import BadInputError
from launcher.jobs.transform_spec import TransformJobSpec
from launcher.requests import json_path
from launcher.requests.json_path import FilterError
from launcher.transform.packing import payloads_of
from launcher.transform.processing import JoinError, Processing
from launcher.transform.splitting import SplitError, records_of


def spec(**members):
    return TransformJobSpec("job-1", "model-1", "process", "file:///in", "file:///out", **members)


PLAIN = Processing(spec(split_type="Line"))


def payloads(data, *, split_type="Line", single=False, limit=1000, processing=PLAIN):
    file = io.BytesIO(data)
    return list(payloads_of(file, split_type=split_type, single=single, limit_bytes=limit, processing=processing))


def bodies(data, **options):
    return [payload.body for payload in payloads(data, **options)]


PATHS = {
    "$": {"a": 1, "b": [1, 2]},
    "$.a": 1,
    "$['a']": 1,
    "$['a','b']": {"a": 1, "b": [1, 2]},
    "$.b": [1, 2],
    "$.b[0]": 1,
    "$.b[-1]": 2,
    "$.b[0,1]": [1, 2],
    "$.b[*]": [1, 2],
    "$.*": [1, [1, 2]],
    "$[*]": [1, [1, 2]],
}


@pytest.mark.parametrize(("text", "expected"), PATHS.items())
def test_a_filter_takes_what_it_names_of_an_object(text, expected):
    assert json_path.parse(text).select({"a": 1, "b": [1, 2]}) == expected


INDEXES = {
    "$[1]": "b",
    "$[-1]": "e",
    "$[1,3]": ["b", "d"],
    "$[2:5]": ["c", "d", "e"],
    "$[:2]": ["a", "b"],
    "$[3:]": ["d", "e"],
    "$[0,3:]": ["a", "d", "e"],
    "$[1:,0]": ["b", "c", "d", "e", "a"],
    "$[-2:]": ["d", "e"],
}


@pytest.mark.parametrize(("text", "expected"), INDEXES.items())
def test_a_filter_takes_columns_of_a_row_by_their_numbers(text, expected):
    assert json_path.parse(text).select(list("abcde")) == expected


@pytest.mark.parametrize(
    "text",
    ["", "a", "$a", "$.", "$[", "$[]", "$[a]", "$['a.b'", "$[1,'a']", "$[::2]", "$[:]", "$..a", "$[?(@.a)]", "$.a b"],
)
def test_a_filter_that_sagemaker_does_not_know_is_refused(text):
    with pytest.raises(BadInputError, match="is not understood from character"):
        json_path.parse(text)


def test_a_filter_has_at_most_63_characters():
    assert json_path.parse("$." + "a" * 61).steps
    with pytest.raises(BadInputError, match="has 64 characters"):
        json_path.parse("$." + "a" * 62)


@pytest.mark.parametrize(
    ("text", "value"), [("$.b", {"a": 1}), ("$[3]", [1, 2]), ("$.a", [1]), ("$[0]", {"a": 1}), ("$.a.b", {"a": 1})]
)
def test_a_record_without_what_a_filter_names_is_an_error(text, value):
    with pytest.raises(FilterError, match="the filter"):
        json_path.parse(text).select(value)


def test_lines_are_records_without_their_ends_and_blank_ones_are_none():
    records = list(records_of(io.BytesIO(b"a,1\r\n\nb,2\nc"), "Line", 0))
    assert [record.data for record in records] == [b"a,1", b"b,2", b"c"]


def record_io(*records):
    frames = [struct.pack("<II", 0xCED7230A, len(data)) + data + b"\0" * (-len(data) % 4) for data in records]
    return b"".join(frames), frames


def test_record_io_loses_wrapper_and_padding_alone_but_not_in_a_batch():
    data, frames = record_io(b"abcde", b"xy")
    assert bodies(data, split_type="RecordIO", single=True) == [b"abcde", b"xy"]
    assert bodies(data, split_type="RecordIO") == [data]
    assert bodies(data, split_type="RecordIO", limit=len(frames[0])) == frames


def test_a_record_io_record_in_several_parts_is_one_record():
    """MXNet cuts a record where its data hold the magic number, and leaves that out."""
    parts = struct.pack("<II", 0xCED7230A, 1 << 29 | 4) + b"abcd" + struct.pack("<II", 0xCED7230A, 3 << 29 | 2)
    record = next(records_of(io.BytesIO(parts + b"ef\0\0"), "RecordIO", 0))
    assert record.data == b"abcd" + struct.pack("<I", 0xCED7230A) + b"ef"


def test_tf_records_are_told_apart_by_their_lengths():
    frames = [struct.pack("<QI", len(data), 7) + data + b"sums" for data in (b"abc\n", b"", b"defgh")]
    assert bodies(b"".join(frames), split_type="TFRecord", single=True) == [b"abc\n", b"", b"defgh"]
    assert bodies(b"".join(frames), split_type="TFRecord") == [b"".join(frames)]


@pytest.mark.parametrize(
    ("data", "split_type", "reason"),
    [
        (b"junkjunkjunk", "RecordIO", "it is no RecordIO"),
        (record_io(b"abcde")[0][:-3], "RecordIO", "ends in the middle of a RecordIO record"),
        (struct.pack("<QI", 9, 0) + b"short", "TFRecord", "ends in the middle of a TFRecord"),
        (b"x" * 1001, "None", "longer than"),
        (b"ok\n" + b"x" * 1001 + b"\n", "Line", "record 2 is longer"),
    ],
)
def test_a_damaged_file_or_a_record_beyond_the_limit_is_an_error(data, split_type, reason):
    with pytest.raises(SplitError, match=reason):
        payloads(data, split_type=split_type)


def test_records_are_packed_greedily_up_to_the_limit():
    """By hand, at most 7 bytes: aaa+bbb are 7 with the line's end between them; cc would make 10; dddd is 4 more."""
    assert bodies(b"aaa\nbbb\ncc\ndddd\n", limit=7) == [b"aaa\nbbb", b"cc\ndddd"]


def test_what_is_packed_is_the_filtered_record():
    """The second column alone has 1 byte, so three of them fit where one whole record would not."""
    filtering = Processing(spec(content_type="text/csv", split_type="Line", input_filter="$[1]"))
    assert bodies(b"aaaa,1\nbbbb,2\ncccc,3\n", limit=5, processing=filtering) == [b"1\n2\n3"]


lines = st.lists(st.binary(min_size=1, max_size=12).filter(lambda line: not set(line) & {10, 13}), max_size=30)


@settings(max_examples=200, deadline=None)
@given(lines, st.integers(12, 40), st.booleans())
def test_cutting_blocks_and_packing_line_by_line_are_the_same(records, limit, ended):
    """Joining answers needs the records one by one; nothing else may differ for it."""
    data = b"\n".join(records) + (b"\n" if ended else b"")
    joining = Processing(spec(content_type="text/csv", accept="text/csv", split_type="Line", join_source="Input"))
    cut, packed = payloads(data, limit=limit), payloads(data, limit=limit, processing=joining)
    assert [(payload.body, payload.first, payload.records) for payload in cut] == [
        (payload.body, payload.first, payload.records) for payload in packed
    ]
    assert [line for payload in cut for line in payload.body.split(b"\n")] == records
    assert all(len(payload.body) <= limit for payload in cut)
    for before, after in itertools.pairwise(cut):
        assert len(before.body) + 1 + len(after.body.split(b"\n")[0]) > limit, "the next record would have fitted"


@settings(max_examples=100, deadline=None)
@given(lines)
def test_single_records_are_the_lines(records):
    assert bodies(b"\n".join(records), single=True) == records


def joining(**members):
    return Processing(spec(**{"join_source": "Input", "split_type": "Line", "assemble_with": "Line", **members}))


def test_csv_answers_follow_the_columns_of_their_records_and_quotes_stay():
    processing = joining(content_type="text/csv", accept="text/csv", input_filter="$[1:]")
    records = [b'"Smith, Ann",1,2', b'"say ""hi""",3,4']
    assert processing.filtered(records[0]) == b"1,2"
    assert processing.joined(records, b"0.5\n0.25\n") == b'"Smith, Ann",1,2,0.5\n"say ""hi""",3,4,0.25\n'


def test_an_output_filter_sees_the_joined_row():
    processing = joining(content_type="text/csv", accept="text/csv", output_filter="$[0,-1]")
    assert processing.joined([b'"Smith, Ann",1,2'], b"0.5") == b'"Smith, Ann",0.5\n'


def test_json_answers_are_a_member_of_their_record():
    processing = joining(content_type="application/jsonlines", accept="application/jsonlines", input_filter="$.x")
    records = [b'{"id": 1, "x": [1, 2]}', b'{"id": 2, "x": [3]}']
    assert processing.filtered(records[0]) == b"[1,2]"
    joined = processing.joined(records, b'{"p": 0.5}\n{"p": 0.25}')
    assert [json.loads(line) for line in joined.splitlines()] == [
        {"id": 1, "x": [1, 2], "SageMakerOutput": {"p": 0.5}},
        {"id": 2, "x": [3], "SageMakerOutput": {"p": 0.25}},
    ]


def test_a_record_that_is_no_object_is_put_beside_its_answer():
    processing = joining(content_type="application/jsonlines", accept="application/jsonlines")
    assert json.loads(processing.joined([b"[1, 2]"], b"0.5")) == {"SageMakerInput": [1, 2], "SageMakerOutput": 0.5}


def test_a_json_document_is_joined_whole():
    processing = joining(
        content_type="application/json", accept="application/json", split_type="None", assemble_with="None"
    )
    assert json.loads(processing.joined([b'{"id": 7,\n "x": 1}'], b'{\n"p": 2}')) == {
        "id": 7,
        "x": 1,
        "SageMakerOutput": {"p": 2},
    }


def test_an_answer_with_another_number_of_records_cannot_be_joined():
    with pytest.raises(JoinError, match="the answer has 1 records where the request has 2"):
        joining(content_type="text/csv", accept="text/csv").joined([b"1", b"2"], b"0.5\n")


def test_an_answer_that_is_no_json_cannot_be_joined():
    processing = joining(content_type="application/jsonlines", accept="application/jsonlines")
    with pytest.raises(JoinError, match="the answer is not JSON"):
        processing.joined([b"{}"], b"oops")
