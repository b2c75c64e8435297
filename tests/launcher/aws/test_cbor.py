"""CBOR, against botocore's own reader and writer."""

import math
from datetime import UTC, datetime

import pytest
from botocore.parsers import RpcV2CBORParser
from hypothesis import given
from hypothesis import strategies as st

from launcher.aws.cbor import decoded, encoded

VALUES = st.recursive(
    st.integers(-(2**64), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary() | st.booleans(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_what_was_written_is_read_again_here_and_by_botocore(value):
    data = encoded(value)
    assert decoded(data) == value
    parser = RpcV2CBORParser()
    assert parser.parse_data_item(parser.get_peekable_stream_from_bytes(data)) == value


def test_times_are_tagged_for_botocore_and_read_as_seconds():
    moment = datetime(2026, 11, 21, 12, 30, 0, 250_000, tzinfo=UTC)
    data = encoded({"Timestamp": moment, "NextToken": None})
    assert decoded(data) == {"Timestamp": moment.timestamp()}
    parser = RpcV2CBORParser()
    assert parser.parse_data_item(parser.get_peekable_stream_from_bytes(data)) == {"Timestamp": moment}


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("bf616101ff", {"a": 1}),
        ("9f0203ff", [2, 3]),
        ("7f61616162ff", "ab"),
        ("5f41004101ff", b"\x00\x01"),
        ("f93c00", 1.0),
        ("fa3fc00000", 1.5),
        ("f7", None),
    ],
)
def test_forms_that_other_writers_choose(data, value):
    assert decoded(bytes.fromhex(data)) == value


def test_what_is_no_number_is_a_number_in_cbor():
    assert math.isnan(decoded(encoded(math.nan)))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(data):
    try:
        decoded(data)
    except ValueError:
        return
