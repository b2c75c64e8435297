"""What users of boto3 do with S3, by the same code against the embedded server and against a plain moto server.

Where moto is known to differ from what S3 documents, the test says how and is left out for it.
"""

import base64
import hashlib
import http.client
import io
import json
import os
import threading
import time
import urllib.error
import urllib.request
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from launcher.s3_server import service
from tests.launcher.storage.odd_names import ODD_KEYS, REFUSED_KEYS

BUCKET = "conformance"
MIB = 1 << 20


@pytest.fixture(scope="module", params=["embedded", "moto"])
def endpoint(request, tmp_path_factory):
    if request.param == "embedded":
        home = tmp_path_factory.mktemp("s3")
        yield service.ensure(home)
        service.stop(home)
    else:
        server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        server.start()
        yield "http://{}:{}".format(*server.get_host_and_port())
        server.stop()


@pytest.fixture(autouse=True)
def leave_out_what_moto_does_otherwise(request, endpoint):
    mark = request.node.get_closest_marker("not_moto")
    if mark and request.node.callspec.params["endpoint"] == "moto":
        pytest.skip(f"moto: {mark.args[0]}")


@pytest.fixture(scope="module")
def s3(endpoint):
    return client(endpoint)


@pytest.fixture
def bucket(s3):
    """An empty bucket of that name, as good as new after each test."""
    s3.create_bucket(Bucket=BUCKET)
    yield BUCKET
    for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", []):
            s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
    s3.delete_bucket(Bucket=BUCKET)


def client(url, **config):
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )  # fmt: skip


def fails(call, code, status=None):
    with pytest.raises(ClientError) as caught:
        call()
    assert caught.value.response["Error"]["Code"] == code
    if status is not None:
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    return caught.value.response


def body(answer):
    return answer["Body"].read()


def http_request(method, url, data=None):
    """Return status, headers and body of a request without any client of AWS."""
    request = urllib.request.Request(
        url, data=data, method=method, headers={"Content-Type": "text/plain"} if data else {}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def raw(endpoint, method, path, headers=(), data=b""):
    """Return status and body of a request whose path and framing are sent as they are."""
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=30)
    connection.putrequest(method, path)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders(data)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, text


def b64(digest):
    return base64.b64encode(digest).decode()


# Objects


def test_an_object_comes_back_as_it_was_put(s3, bucket):
    put = s3.put_object(
        Bucket=bucket, Key="dir/key", Body=b"text", ContentType="text/plain", ContentEncoding="identity",
        ContentDisposition="attachment", CacheControl="no-cache", ContentLanguage="en",
        Metadata={"who": "me", "n": "1"},
    )  # fmt: skip
    etag = f'"{hashlib.md5(b"text").hexdigest()}"'
    assert put["ETag"] == etag
    for answer in (s3.get_object(Bucket=bucket, Key="dir/key"), s3.head_object(Bucket=bucket, Key="dir/key")):
        assert answer["ETag"] == etag
        assert answer["ContentLength"] == 4
        assert answer["ContentType"] == "text/plain"
        assert answer["ContentEncoding"] == "identity"
        assert answer["ContentDisposition"] == "attachment"
        assert answer["CacheControl"] == "no-cache"
        assert answer["ContentLanguage"] == "en"
        assert answer["Metadata"] == {"who": "me", "n": "1"}
        assert abs((answer["LastModified"] - datetime.now(UTC)).total_seconds()) < 60
    assert body(s3.get_object(Bucket=bucket, Key="dir/key")) == b"text"


def test_an_object_without_a_type_has_s3s(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"")
    answer = s3.get_object(Bucket=bucket, Key="key")
    assert (answer["ContentType"], answer["ContentLength"], body(answer)) == ("binary/octet-stream", 0, b"")


def test_a_later_put_replaces_all_of_an_earlier_one(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"old", ContentType="text/plain", Metadata={"a": "b"}, Tagging="a=b")
    s3.put_object(Bucket=bucket, Key="key", Body=b"new")
    answer = s3.get_object(Bucket=bucket, Key="key")
    assert (body(answer), answer["Metadata"], answer["ContentType"]) == (b"new", {}, "binary/octet-stream")
    assert s3.get_object_tagging(Bucket=bucket, Key="key")["TagSet"] == []


def test_headers_of_an_answer_can_be_asked_for(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"text")
    answer = s3.get_object(
        Bucket=bucket, Key="key", ResponseContentType="text/html", ResponseContentDisposition="inline"
    )
    assert (answer["ContentType"], answer["ContentDisposition"]) == ("text/html", "inline")


@pytest.mark.not_moto("takes any size")
def test_metadata_beyond_2_kb_are_refused(s3, bucket):
    fails(lambda: s3.put_object(Bucket=bucket, Key="key", Body=b"", Metadata={"a": "x" * 2048}), "MetadataTooLarge")


@pytest.mark.parametrize("name", ["get_object", "head_object"])
def test_a_key_that_is_not_there(s3, bucket, name):
    code = "404" if name == "head_object" else "NoSuchKey"
    fails(lambda: getattr(s3, name)(Bucket=bucket, Key="nothing"), code, 404)


def test_a_bucket_that_is_not_there(s3):
    fails(lambda: s3.get_object(Bucket="nowhere", Key="key"), "NoSuchBucket", 404)
    fails(lambda: s3.put_object(Bucket="nowhere", Key="key", Body=b""), "NoSuchBucket", 404)
    fails(lambda: s3.list_objects_v2(Bucket="nowhere"), "NoSuchBucket", 404)
    fails(lambda: s3.head_bucket(Bucket="nowhere"), "404", 404)
    fails(lambda: s3.delete_bucket(Bucket="nowhere"), "NoSuchBucket", 404)


@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=pytest.mark.not_moto("knows no line breaks")) if "\n" in key else key for key in ODD_KEYS],
)
def test_an_odd_key_comes_back_as_it_was(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert body(s3.get_object(Bucket=bucket, Key=key)) == key.encode()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    assert [entry["Key"] for entry in s3.list_objects(Bucket=bucket)["Contents"]] == [key]
    assert s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})["Deleted"] == [{"Key": key}]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_plain_unicode_keys_and_neighbours_live_side_by_side(s3, bucket):
    keys = ["a", "a/b", "a//b", "a b", "a+b", "é", "日本語/キー", "a%20b", "z/" * 300 + "end"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == sorted(keys, key=str.encode)
    for key in keys:
        assert body(s3.get_object(Bucket=bucket, Key=key)) == key.encode()


@pytest.mark.parametrize(("key", "code"), [row for row in REFUSED_KEYS if row[0].isprintable() and row[0]])
@pytest.mark.not_moto("takes keys that lead out of the bucket")
def test_a_key_that_s3_refuses(s3, bucket, key, code):
    fails(lambda: s3.put_object(Bucket=bucket, Key=key, Body=b""), code, 400)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_deleting(s3, bucket):
    for key in ("a", "b", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    s3.delete_object(Bucket=bucket, Key="a")
    s3.delete_object(Bucket=bucket, Key="a")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "b"}, {"Key": "nothing"}]})
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == ["b", "nothing"]
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["c"]


@pytest.mark.not_moto("is not quiet")
def test_deleting_quietly(s3, bucket):
    s3.put_object(Bucket=bucket, Key="c", Body=b"")
    assert "Deleted" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "c"}], "Quiet": True})
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


# Ranges and conditions


@pytest.mark.parametrize(
    ("asked", "expected", "shown"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-4", b"4", "bytes 4-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
        ("bytes=-100", b"0123456789", "bytes 0-9/10"),
    ],
)
def test_a_range(s3, bucket, asked, expected, shown):
    s3.put_object(Bucket=bucket, Key="key", Body=b"0123456789")
    answer = s3.get_object(Bucket=bucket, Key="key", Range=asked)
    assert (body(answer), answer["ContentRange"]) == (expected, shown)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert s3.head_object(Bucket=bucket, Key="key", Range=asked)["ContentLength"] == len(expected)


def test_a_range_outside_of_the_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"0123456789")
    fails(lambda: s3.get_object(Bucket=bucket, Key="key", Range="bytes=10-"), "InvalidRange", 416)


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=3-1",
        "bytes=",
        "bytes=a-b",
        pytest.param("lines=1-2", marks=pytest.mark.not_moto("reads bytes")),
    ],
)
def test_what_is_no_range_is_ignored(s3, bucket, asked):
    s3.put_object(Bucket=bucket, Key="key", Body=b"0123456789")
    assert body(s3.get_object(Bucket=bucket, Key="key", Range=asked)) == b"0123456789"


def test_conditions_of_reading(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="key", Body=b"text")["ETag"]
    before, after = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)

    def get(**conditions):
        return lambda: s3.get_object(Bucket=bucket, Key="key", **conditions)

    for fine in ({"IfMatch": etag}, {"IfNoneMatch": '"x"'}, {"IfModifiedSince": before}, {"IfUnmodifiedSince": after}):
        assert body(get(**fine)()) == b"text"
    fails(get(IfMatch='"x"'), "PreconditionFailed", 412)
    fails(get(IfUnmodifiedSince=before), "PreconditionFailed", 412)
    fails(get(IfNoneMatch=etag), "304", 304)
    fails(get(IfModifiedSince=datetime.now(UTC)), "304", 304)
    fails(lambda: s3.head_object(Bucket=bucket, Key="key", IfNoneMatch=etag), "304", 304)


def test_a_put_only_if_there_is_nothing(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"first", IfNoneMatch="*")
    fails(lambda: s3.put_object(Bucket=bucket, Key="key", Body=b"2nd", IfNoneMatch="*"), "PreconditionFailed", 412)
    assert body(s3.get_object(Bucket=bucket, Key="key")) == b"first"


def test_a_put_only_if_it_is_what_was_read(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="key", Body=b"first")["ETag"]
    s3.put_object(Bucket=bucket, Key="key", Body=b"second", IfMatch=etag)
    fails(lambda: s3.put_object(Bucket=bucket, Key="key", Body=b"3", IfMatch=etag), "PreconditionFailed", 412)
    fails(lambda: s3.put_object(Bucket=bucket, Key="none", Body=b"3", IfMatch=etag), "NoSuchKey", 404)
    fails(lambda: s3.delete_object(Bucket=bucket, Key="key", IfMatch=etag), "PreconditionFailed", 412)
    assert body(s3.get_object(Bucket=bucket, Key="key")) == b"second"


@pytest.mark.not_moto("looks and puts in two steps")
def test_of_many_that_create_a_key_at_once_one_wins(endpoint, s3, bucket):
    winners, refusals = [], []

    def create(number):
        try:
            client(endpoint).put_object(Bucket=bucket, Key="lock", Body=str(number).encode(), IfNoneMatch="*")
            winners.append(number)
        except ClientError as error:
            refusals.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(winners), refusals) == (1, ["PreconditionFailed"] * 7)
    assert body(s3.get_object(Bucket=bucket, Key="lock")) == str(winners[0]).encode()


# Copies


def test_a_copy_keeps_or_replaces_what_describes_it(s3, bucket):
    s3.put_object(
        Bucket=bucket, Key="a b/é", Body=b"text", ContentType="text/plain", Metadata={"a": "b"}, Tagging="t=1"
    )
    source = {"Bucket": bucket, "Key": "a b/é"}
    answer = s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    assert answer["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(b"text").hexdigest()}"'
    s3.copy_object(
        Bucket=bucket, Key="new", CopySource=source, MetadataDirective="REPLACE", Metadata={"c": "d"},
        ContentType="text/html", TaggingDirective="REPLACE", Tagging="u=2",
    )  # fmt: skip
    plain, new = (s3.get_object(Bucket=bucket, Key=key) for key in ("kept", "new"))
    assert (body(plain), plain["ContentType"], plain["Metadata"]) == (b"text", "text/plain", {"a": "b"})
    assert (body(new), new["ContentType"], new["Metadata"]) == (b"text", "text/html", {"c": "d"})
    assert s3.get_object_tagging(Bucket=bucket, Key="kept")["TagSet"] == [{"Key": "t", "Value": "1"}]
    assert s3.get_object_tagging(Bucket=bucket, Key="new")["TagSet"] == [{"Key": "u", "Value": "2"}]


def test_an_objects_description_is_changed_by_a_copy_onto_itself(s3, bucket):
    source = {"Bucket": bucket, "Key": "key"}
    s3.put_object(**source, Body=b"text", Metadata={"a": "b"})
    s3.copy_object(**source, CopySource=source, MetadataDirective="REPLACE", Metadata={"c": "d"})
    answer = s3.get_object(**source)
    assert (body(answer), answer["Metadata"]) == (b"text", {"c": "d"})


def test_copies_that_cannot_be(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"text")
    nothing, itself = {"Bucket": bucket, "Key": "nothing"}, {"Bucket": bucket, "Key": "key"}
    fails(lambda: s3.copy_object(Bucket=bucket, Key="new", CopySource=nothing), "NoSuchKey", 404)
    fails(lambda: s3.copy_object(Bucket=bucket, Key="key", CopySource=itself), "InvalidRequest", 400)


@pytest.mark.not_moto("does not look at all conditions of a copy")
def test_conditions_of_a_copy(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="key", Body=b"text")["ETag"]
    source = {"Bucket": bucket, "Key": "key"}
    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, CopySourceIfMatch=etag)
    for condition in ({"CopySourceIfMatch": '"x"'}, {"CopySourceIfNoneMatch": etag}, {"IfNoneMatch": "*"}):
        fails(
            lambda condition=condition: s3.copy_object(Bucket=bucket, Key="new", CopySource=source, **condition),
            "PreconditionFailed",
            412,
        )


def test_a_managed_copy_between_buckets(s3, bucket):
    s3.create_bucket(Bucket="other-bucket")
    s3.put_object(Bucket=bucket, Key="key", Body=b"x" * (6 * MIB))
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.copy({"Bucket": bucket, "Key": "key"}, "other-bucket", "key", Config=config)
    assert body(s3.get_object(Bucket="other-bucket", Key="key")) == b"x" * (6 * MIB)
    s3.delete_object(Bucket="other-bucket", Key="key")
    s3.delete_bucket(Bucket="other-bucket")


# Multipart uploads


def test_a_large_file_goes_up_in_parts_and_comes_down_in_ranges(s3, bucket, tmp_path):
    data = os.urandom(17 * MIB + 5)
    (tmp_path / "up").write_bytes(data)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    s3.upload_file(str(tmp_path / "up"), bucket, "big", Config=config, ExtraArgs={"Metadata": {"a": "b"}})
    s3.download_file(bucket, "big", str(tmp_path / "down"), Config=config)
    assert (tmp_path / "down").read_bytes() == data
    digests = b"".join(hashlib.md5(data[at : at + 5 * MIB]).digest() for at in range(0, len(data), 5 * MIB))
    head = s3.head_object(Bucket=bucket, Key="big")
    assert head["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-4"'
    assert (head["Metadata"], head["ContentLength"]) == ({"a": "b"}, len(data))


def test_parts_may_come_in_any_order_and_more_than_once(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key", ContentType="text/plain")["UploadId"]
    first, second, third = b"1" * (5 * MIB), b"2" * (5 * MIB), b"3"
    sent = {}
    for number, data in ((30, third), (2, b"wrong"), (1, first), (2, second), (7, b"not wanted")):
        answer = s3.upload_part(Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, Body=data)
        sent[number] = answer["ETag"]
    fails(lambda: s3.get_object(Bucket=bucket, Key="key"), "NoSuchKey")
    listed = s3.list_parts(Bucket=bucket, Key="key", UploadId=upload)["Parts"]
    assert [(part["PartNumber"], part["ETag"]) for part in listed] == sorted(sent.items())
    parts = [{"PartNumber": number, "ETag": sent[number]} for number in (1, 2, 30)]
    s3.complete_multipart_upload(Bucket=bucket, Key="key", UploadId=upload, MultipartUpload={"Parts": parts})
    answer = s3.get_object(Bucket=bucket, Key="key")
    assert (body(answer), answer["ContentType"]) == (first + second + third, "text/plain")
    fails(lambda: s3.list_parts(Bucket=bucket, Key="key", UploadId=upload), "NoSuchUpload", 404)


def test_parts_that_do_not_fit(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    etags = {
        number: s3.upload_part(Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, Body=b"small")["ETag"]
        for number in (1, 2)
    }

    def complete(*parts):
        wanted = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
        return lambda: s3.complete_multipart_upload(
            Bucket=bucket, Key="key", UploadId=upload, MultipartUpload={"Parts": wanted}
        )

    fails(complete((1, etags[1]), (2, etags[2])), "EntityTooSmall", 400)
    fails(complete((1, '"0123"')), "InvalidPart", 400)
    fails(complete((3, etags[1])), "InvalidPart", 400)


@pytest.mark.not_moto("looks at the sizes first")
def test_parts_out_of_order(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    parts = []
    for number in (2, 1):
        answer = s3.upload_part(Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, Body=b"x")
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    fails(
        lambda: s3.complete_multipart_upload(
            Bucket=bucket, Key="key", UploadId=upload, MultipartUpload={"Parts": parts}
        ),
        "InvalidPartOrder",
        400,
    )


def test_an_aborted_upload_is_gone(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="key", UploadId=upload, PartNumber=1, Body=b"x")
    assert [entry["UploadId"] for entry in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    s3.abort_multipart_upload(Bucket=bucket, Key="key", UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@pytest.mark.not_moto("fails with 500")
def test_a_part_of_an_upload_that_is_not_there(s3, bucket):
    fails(lambda: s3.upload_part(Bucket=bucket, Key="key", UploadId="x", PartNumber=1, Body=b"x"), "NoSuchUpload", 404)


def test_a_part_can_be_a_range_of_another_object(s3, bucket):
    data = os.urandom(6 * MIB)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    source = {"Bucket": bucket, "Key": "source"}
    parts = []
    for number, asked in ((1, f"bytes=0-{5 * MIB - 1}"), (2, f"bytes={5 * MIB}-{6 * MIB - 1}")):
        answer = s3.upload_part_copy(
            Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, CopySource=source, CopySourceRange=asked
        )
        parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="key", UploadId=upload, MultipartUpload={"Parts": parts})
    assert body(s3.get_object(Bucket=bucket, Key="key")) == data


@pytest.mark.not_moto("does not say where parts begin")
def test_a_part_can_be_read_by_its_number(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    parts = []
    for number, data in ((1, b"1" * (5 * MIB)), (2, b"22")):
        answer = s3.upload_part(Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, Body=data)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="key", UploadId=upload, MultipartUpload={"Parts": parts})
    answer = s3.get_object(Bucket=bucket, Key="key", PartNumber=2)
    assert (body(answer), answer["PartsCount"]) == (b"22", 2)
    attributes = s3.get_object_attributes(
        Bucket=bucket, Key="key", ObjectAttributes=["ETag", "ObjectParts", "ObjectSize"]
    )
    assert attributes["ObjectSize"] == 5 * MIB + 2
    assert attributes["ObjectParts"]["TotalPartsCount"] == 2


def test_uploads_and_parts_by_pages(s3, bucket):
    ids = []
    for key in ("a", "b", "b", "c/d"):
        ids.append(s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"])
    listed = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert {(entry["Key"], entry["UploadId"]) for entry in listed} == set(zip(("a", "b", "b", "c/d"), ids, strict=True))
    assert [entry["Key"] for entry in s3.list_multipart_uploads(Bucket=bucket, Prefix="b")["Uploads"]] == ["b", "b"]
    for number in range(1, 6):
        s3.upload_part(Bucket=bucket, Key="a", UploadId=ids[0], PartNumber=number, Body=b"x")
    pages = s3.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="a", UploadId=ids[0], PaginationConfig={"PageSize": 2}
    )
    assert [part["PartNumber"] for page in pages for part in page.get("Parts", [])] == [1, 2, 3, 4, 5]


# Listings


def put_many(s3, bucket, keys):
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")


@pytest.mark.parametrize("name", ["list_objects_v2", "list_objects"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_pages_of_a_listing(s3, bucket, name, size):
    keys = ["a", "a/1", "a/2", "b", "b/1/x", "b/2", "c", "é", "日 本"]
    put_many(s3, bucket, keys)
    pages = s3.get_paginator(name).paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
    listed = []
    for page in pages:
        assert len(page["Contents"]) <= size
        listed += [entry["Key"] for entry in page["Contents"]]
    assert listed == sorted(keys, key=str.encode)


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_listing_with_a_delimiter(s3, bucket, size):
    put_many(s3, bucket, ["a", "a/1", "a/2", "a/b/1", "a/b/2", "a/c/1", "b/1", "c"])

    def listed(prefix):
        keys, prefixes = [], []
        paginator = s3.get_paginator("list_objects_v2")
        for page in paginator.paginate(
            Bucket=bucket, Prefix=prefix, Delimiter="/", PaginationConfig={"PageSize": size}
        ):
            keys += [entry["Key"] for entry in page.get("Contents", [])]
            prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        return keys, prefixes

    assert listed("") == (["a", "c"], ["a/", "b/"])
    assert listed("a/") == (["a/1", "a/2"], ["a/b/", "a/c/"])
    assert listed("a/b/") == (["a/b/1", "a/b/2"], [])
    assert listed("nothing/") == ([], [])


def test_where_a_listing_begins(s3, bucket):
    put_many(s3, bucket, ["a", "b", "c", "d"])
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, StartAfter="b")["Contents"]] == ["c", "d"]
    assert [entry["Key"] for entry in s3.list_objects(Bucket=bucket, Marker="b")["Contents"]] == ["c", "d"]
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=2)
    assert (page["IsTruncated"], page["KeyCount"]) == (True, 2)
    rest = s3.list_objects_v2(Bucket=bucket, ContinuationToken=page["NextContinuationToken"])
    assert (rest["IsTruncated"], [entry["Key"] for entry in rest["Contents"]]) == (False, ["c", "d"])


def test_what_a_listing_says_of_an_object(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="key", Body=b"text")["ETag"]
    [listed] = s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"]
    assert (listed["ETag"], listed["Size"], listed["StorageClass"]) == (etag, 4, "STANDARD")
    assert "Owner" in listed
    assert abs((listed["LastModified"] - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.not_moto("answers 200 to max-keys that is no number")
def test_arguments_of_a_listing_that_mean_nothing(s3, bucket):
    fails(lambda: s3.list_objects_v2(Bucket=bucket, ContinuationToken="?!"), "InvalidArgument", 400)
    fails(lambda: s3.list_objects_v2(Bucket=bucket, MaxKeys=-1), "InvalidArgument", 400)
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["IsTruncated"] is False


# Tags, versions


def test_tags(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"text", Tagging="a=b&c=d%20e")
    assert s3.get_object(Bucket=bucket, Key="key")["TagCount"] == 2
    tags = [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d e"}]
    assert s3.get_object_tagging(Bucket=bucket, Key="key")["TagSet"] == tags
    s3.put_object_tagging(Bucket=bucket, Key="key", Tagging={"TagSet": [{"Key": "x", "Value": "y +-=._:/@"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="key")["TagSet"] == [{"Key": "x", "Value": "y +-=._:/@"}]
    s3.delete_object_tagging(Bucket=bucket, Key="key")
    assert s3.get_object_tagging(Bucket=bucket, Key="key")["TagSet"] == []
    fails(lambda: s3.get_object_tagging(Bucket=bucket, Key="nothing"), "NoSuchKey", 404)
    bad = {"TagSet": [{"Key": "x", "Value": "<&>"}]}
    fails(lambda: s3.put_object_tagging(Bucket=bucket, Key="key", Tagging=bad), "InvalidTag", 400)


def test_too_many_tags(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"")
    tags = {"TagSet": [{"Key": str(number), "Value": ""} for number in range(11)]}
    fails(lambda: s3.put_object_tagging(Bucket=bucket, Key="key", Tagging=tags), "BadRequest", 400)


@pytest.mark.not_moto("keeps versions")
def test_versions_are_refused_in_so_many_words(s3, bucket):
    answer = fails(
        lambda: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}),
        "NotImplemented",
        501,
    )
    assert "a single version" in answer["Error"]["Message"]
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="key", Body=b"")
    [version] = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert (version["Key"], version["VersionId"], version["IsLatest"]) == ("key", "null", True)
    fails(lambda: s3.get_object(Bucket=bucket, Key="key", VersionId="another"), "NoSuchVersion", 404)
    s3.delete_object(Bucket=bucket, Key="key", VersionId="null")


def test_a_bucket_emptied_by_resource(endpoint, bucket, s3):
    put_many(s3, bucket, ["a", "b/c"])
    resource = boto3.resource(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    resource.Bucket(bucket).objects.all().delete()
    assert list(resource.Bucket(bucket).objects.all()) == []


# Checksums


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [
        ("CRC32", b64(zlib.crc32(b"123456789").to_bytes(4))),
        ("SHA1", b64(hashlib.sha1(b"123456789").digest())),
        ("SHA256", b64(hashlib.sha256(b"123456789").digest())),
        # From the catalogue of parametrised CRC algorithms: the check value of each is that of "123456789".
        ("CRC32C", b64(bytes.fromhex("e3069283"))),
        ("CRC64NVME", b64(bytes.fromhex("ae8b14860a799888"))),
    ],
)
@pytest.mark.not_moto("does not give checksums back")
def test_a_checksum_is_kept_and_given_back(s3, bucket, algorithm, value):
    s3.put_object(Bucket=bucket, Key="key", Body=b"123456789", **{f"Checksum{algorithm}": value})
    head = s3.head_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == value
    attributes = s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=["Checksum"])
    assert attributes["Checksum"][f"Checksum{algorithm}"] == value


@pytest.mark.not_moto("takes a wrong checksum")
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_a_wrong_checksum_is_refused(s3, bucket, algorithm):
    length = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32}[algorithm]
    wrong = {f"Checksum{algorithm}": b64(b"\1" * length)}
    fails(lambda: s3.put_object(Bucket=bucket, Key="key", Body=b"text", **wrong), "BadDigest", 400)
    no_digest = {f"Checksum{algorithm}": b64(b"\1")}
    fails(lambda: s3.put_object(Bucket=bucket, Key="key", Body=b"text", **no_digest), "InvalidDigest", 400)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.not_moto("takes a wrong digest")
def test_other_wrong_digests_are_refused(s3, bucket, endpoint):
    wrong = b64(hashlib.md5(b"other").digest())
    fails(lambda: s3.put_object(Bucket=bucket, Key="key", Body=b"text", ContentMD5=wrong), "BadDigest", 400)
    status, text = raw(
        endpoint, "PUT", f"/{bucket}/key", [("Content-Length", "4"), ("x-amz-content-sha256", "0" * 64)], b"text"
    )
    assert (status, b"XAmzContentSHA256Mismatch" in text) == (400, True)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.not_moto("does not give checksums back")
@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_the_checksum_of_a_multipart_upload(s3, bucket, kind):
    first, second = os.urandom(5 * MIB), b"second"
    created = s3.create_multipart_upload(Bucket=bucket, Key="key", ChecksumAlgorithm="CRC32", ChecksumType=kind)
    parts = []
    for number, data in ((1, first), (2, second)):
        checksum = b64(zlib.crc32(data).to_bytes(4))
        answer = s3.upload_part(
            Bucket=bucket, Key="key", UploadId=created["UploadId"], PartNumber=number, Body=data, ChecksumCRC32=checksum
        )
        assert answer["ChecksumCRC32"] == checksum
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": checksum})
    s3.complete_multipart_upload(
        Bucket=bucket, Key="key", UploadId=created["UploadId"], MultipartUpload={"Parts": parts}
    )
    digests = b"".join(zlib.crc32(data).to_bytes(4) for data in (first, second))
    composite = b64(zlib.crc32(digests).to_bytes(4)) + "-2"
    expected = composite if kind == "COMPOSITE" else b64(zlib.crc32(first + second).to_bytes(4))
    assert s3.head_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")["ChecksumCRC32"] == expected
    assert body(s3.get_object(Bucket=bucket, Key="key")) == first + second


def aws_chunked(data, checksum, size=4):
    """Return ``data`` in the chunks of a streaming upload with a trailing checksum."""
    text = b""
    for at in range(0, len(data), size):
        chunk = data[at : at + size]
        text += b"%x\r\n%b\r\n" % (len(chunk), chunk)
    return text + b"0\r\nx-amz-checksum-crc32:" + checksum.encode() + b"\r\n\r\n"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_streaming_upload_with_a_trailing_checksum(s3, bucket, endpoint, framing):
    """What boto3 sends over TLS, and other clients always."""
    data = b"some streamed data"
    headers = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("Content-Encoding", "gzip,aws-chunked"),
        ("x-amz-decoded-content-length", str(len(data))),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("Authorization", "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request"),
    ]

    def send(key, checksum):
        text = aws_chunked(data, checksum)
        if framing == "length":
            return raw(endpoint, "PUT", f"/{bucket}/{key}", [*headers, ("Content-Length", str(len(text)))], text)
        pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return raw(
            endpoint, "PUT", f"/{bucket}/{key}", [*headers, ("Transfer-Encoding", "chunked")], framed + b"0\r\n\r\n"
        )

    assert send("key", b64(zlib.crc32(data).to_bytes(4)))[0] == 200
    answer = s3.get_object(Bucket=bucket, Key="key")
    assert body(answer) == data
    assert answer.get("ContentEncoding") == "gzip"


@pytest.mark.not_moto("takes a wrong trailing checksum")
def test_a_wrong_trailing_checksum_or_length_is_refused(s3, bucket, endpoint):
    data = b"some streamed data"
    for checksum, length, code in (
        (b64(b"\1\2\3\4"), len(data), b"BadDigest"),
        (b64(zlib.crc32(data).to_bytes(4)), len(data) + 1, b"IncompleteBody"),
    ):
        text = aws_chunked(data, checksum)
        headers = [
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", str(length)),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
            ("Content-Length", str(len(text))),
        ]
        status, answer = raw(endpoint, "PUT", f"/{bucket}/key", headers, text)
        assert (status, code in answer) == (400, True)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


# Presigned URLs


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_urls(endpoint, bucket, version):
    signing = client(endpoint, signature_version=version)
    url = signing.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a b/é"}, ExpiresIn=60)
    assert http_request("PUT", url, b"text")[0] == 200
    url = signing.generate_presigned_url(
        "get_object", {"Bucket": bucket, "Key": "a b/é", "ResponseContentType": "text/plain"}, ExpiresIn=60
    )
    status, headers, text = http_request("GET", url)
    assert (status, headers["Content-Type"], text) == (200, "text/plain", b"text")


@pytest.mark.not_moto("does not look at the time")
@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_a_presigned_url_whose_time_is_over(endpoint, s3, bucket, version):
    s3.put_object(Bucket=bucket, Key="key", Body=b"text")
    signing = client(endpoint, signature_version=version)
    url = signing.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "key"}, ExpiresIn=0)
    time.sleep(1.1)
    status, _, text = http_request("GET", url)
    assert (status, b"Request has expired" in text) == (403, True)


# Buckets


def test_buckets_come_and_go(s3):
    assert "one-bucket" not in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    s3.create_bucket(Bucket="one-bucket")
    s3.create_bucket(Bucket="one-bucket")  # in us-east-1 that is no error
    assert s3.head_bucket(Bucket="one-bucket")["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket="one-bucket")["LocationConstraint"] is None
    assert "one-bucket" in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    s3.put_object(Bucket="one-bucket", Key="key", Body=b"")
    fails(lambda: s3.delete_bucket(Bucket="one-bucket"), "BucketNotEmpty", 409)
    s3.delete_object(Bucket="one-bucket", Key="key")
    s3.delete_bucket(Bucket="one-bucket")
    fails(lambda: s3.head_bucket(Bucket="one-bucket"), "404")


@pytest.mark.not_moto("takes some of these names")
@pytest.mark.parametrize("name", ["Upper", "under_score", "192.168.0.1", "xn--abc", "abc-s3alias", "a..b"])
def test_a_bucket_name_that_s3_refuses(s3, name):
    fails(lambda: s3.create_bucket(Bucket=name), "InvalidBucketName", 400)


def test_waiters(s3, bucket):
    s3.get_waiter("bucket_exists").wait(Bucket=bucket)
    s3.get_waiter("object_not_exists").wait(Bucket=bucket, Key="key")
    s3.put_object(Bucket=bucket, Key="key", Body=b"")
    s3.get_waiter("object_exists").wait(Bucket=bucket, Key="key")


# What moto answers


def test_the_rest_of_the_api(s3, bucket):
    s3.put_object(Bucket=bucket, Key="key", Body=b"text")
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == policy
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "a", "Value": "b"}]
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    assert s3.get_object_acl(Bucket=bucket, Key="key")["Grants"][0]["Permission"] == "FULL_CONTROL"
    fails(lambda: s3.get_bucket_lifecycle_configuration(Bucket=bucket), "NoSuchLifecycleConfiguration", 404)
    assert body(s3.get_object(Bucket=bucket, Key="key")) == b"text"


@pytest.mark.not_moto("keeps the tags of a bucket that is gone")
def test_configuration_goes_with_its_bucket(s3):
    s3.create_bucket(Bucket="one-bucket")
    s3.put_bucket_tagging(Bucket="one-bucket", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.delete_bucket(Bucket="one-bucket")
    s3.create_bucket(Bucket="one-bucket")
    fails(lambda: s3.get_bucket_tagging(Bucket="one-bucket"), "NoSuchTagSet", 404)
    s3.delete_bucket(Bucket="one-bucket")


def test_streams_go_both_ways(s3, bucket):
    s3.upload_fileobj(io.BytesIO(b"text"), bucket, "key")
    target = io.BytesIO()
    s3.download_fileobj(bucket, "key", target)
    assert target.getvalue() == b"text"
    lines = list(s3.get_object(Bucket=bucket, Key="key")["Body"].iter_lines())
    assert lines == [b"text"]


def test_a_download_leaves_no_part_when_the_key_is_not_there(s3, bucket, tmp_path):
    fails(lambda: s3.download_file(bucket, "nothing", str(tmp_path / "file")), "404")
    assert list(Path(tmp_path).iterdir()) == []
