"""Values to requests and answers to values, as the SDK's classes do it."""

import io
import json

import numpy as np
import pandas as pd
import pytest

import launcher
from launcher import deserializers as ds
from launcher import serializers as sr
from launcher.errors import BadInputError, UnsupportedOptionError


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([1, 2.5, "a,b"], '1,2.5,"a,b"'),
        ([[1, 2], [3, 4]], "1,2\n3,4"),
        (((1, 2), (3, 4)), '"(1, 2)","(3, 4)"'),
        (np.array([[1, 2], [3, 4]]), "1,2\n3,4"),
        (np.array([1.5, 2.0]), "1.5,2.0"),
        ("1,2", "1,2"),
        (pd.DataFrame({"a": [1], "b": [2]}), "1,2\n"),
        (io.StringIO("5,6"), "5,6"),
    ],
)
def test_csv_is_written_a_row_for_each_inner_sequence(data, text):
    """The SDK takes only what can be assigned to for rows, so a tuple of tuples is one row."""
    assert sr.CSVSerializer().serialize(data) == text


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"a": np.array([1, 2])}, {"a": [1, 2]}),
        (np.array([[1.5]]), [[1.5]]),
        ([1, None], [1, None]),
    ],
)
def test_json_holds_arrays_as_lists(data, value):
    assert json.loads(sr.JSONSerializer().serialize(data)) == value


def test_json_lines_has_a_line_for_each_item():
    assert sr.JSONLinesSerializer().serialize([{"a": 1}, [2]]) == '{"a": 1}\n[2]'
    assert sr.JSONLinesSerializer().serialize("as it is") == "as it is"
    with pytest.raises(BadInputError, match="a int cannot be serialized as JSON Lines"):
        sr.JSONLinesSerializer().serialize(5)


def test_npy_goes_there_and_back():
    data = sr.NumpySerializer(dtype="float32").serialize([[1, 2]])
    array = ds.NumpyDeserializer().deserialize(io.BytesIO(data), "application/x-npy")
    assert (array.dtype, array.tolist()) == (np.dtype("float32"), [[1.0, 2.0]])
    for empty in ([], np.array([])):
        with pytest.raises(BadInputError, match="empty array"):
            sr.NumpySerializer().serialize(empty)


def test_files_bytes_and_text_go_as_they_are(tmp_path):
    (tmp_path / "image").write_bytes(b"\x00\x01")
    assert sr.DataSerializer().serialize(str(tmp_path / "image")) == b"\x00\x01"
    assert sr.DataSerializer().serialize({"data": b"x"}) == b"x"
    assert sr.IdentitySerializer("image/png").serialize(b"x") == b"x"
    assert sr.IdentitySerializer("image/png").CONTENT_TYPE == "image/png"
    assert sr.StringSerializer().serialize("é") == "é".encode()
    assert sr.LibSVMSerializer().serialize("1 1:2") == "1 1:2"
    with pytest.raises(BadInputError, match="cannot be read"):
        sr.DataSerializer().serialize(str(tmp_path / "missing"))


def test_sparse_matrices_raise_by_name():
    with pytest.raises(UnsupportedOptionError, match="SparseMatrixSerializer is not emulated"):
        sr.SparseMatrixSerializer()


@pytest.mark.parametrize(
    ("deserializer", "text", "content_type", "value"),
    [
        (ds.StringDeserializer(), b"ab", "text/plain", "ab"),
        (ds.BytesDeserializer(), b"ab", "", b"ab"),
        (ds.CSVDeserializer(), b'1,"a,b"\n3,4\n', "text/csv", [["1", "a,b"], ["3", "4"]]),
        (ds.JSONDeserializer(), b'{"a": 1}', "application/json", {"a": 1}),
        (ds.JSONLinesDeserializer(), b'{"a": 1}\n[2]\n', "application/jsonlines", [{"a": 1}, [2]]),
    ],
)
def test_answers_become_values(deserializer, text, content_type, value):
    assert deserializer.deserialize(io.BytesIO(text), content_type) == value


def test_arrays_and_frames_are_read_by_the_content_type():
    """Servers add a charset, which the SDK's class would not know."""
    numpy = ds.NumpyDeserializer()
    assert numpy.deserialize(io.BytesIO(b"1,2\n3,4"), "text/csv").tolist() == [[1, 2], [3, 4]]
    assert numpy.deserialize(io.BytesIO(b"[1, 2]"), "application/json; charset=utf-8").tolist() == [1, 2]
    frame = ds.PandasDeserializer().deserialize(io.BytesIO(b"a,b\n1,2\n"), "text/csv")
    assert frame.to_dict("list") == {"a": [1], "b": [2]}
    with pytest.raises(BadInputError, match="cannot read an answer of the type 'image/png'"):
        ds.PandasDeserializer().deserialize(io.BytesIO(b""), "image/png")


def test_arrays_of_objects_are_not_unpickled_unasked():
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInputError, match="allow_pickle=True"):
        ds.NumpyDeserializer().deserialize(io.BytesIO(file.getvalue()), "application/x-npy")
    trusted = ds.NumpyDeserializer(allow_pickle=True)
    assert trusted.deserialize(io.BytesIO(file.getvalue()), "application/x-npy")[0] == {"a": 1}


def test_a_stream_is_handed_on():
    stream = io.BytesIO(b"x")
    assert ds.StreamDeserializer().deserialize(stream, "text/plain") == (stream, "text/plain")
    assert not stream.closed
    assert ds.JSONDeserializer(accept=("a", "b")).ACCEPT == ("a", "b")


@pytest.mark.parametrize(
    "module",
    ["async_inference", "deserializers", "model_monitor", "predictor", "predictor_async", "serializers", "serverless"],
)
def test_the_sdks_modules_are_found(module):
    for name in getattr(launcher, module).__all__:
        assert getattr(getattr(launcher, module), name) is not None
