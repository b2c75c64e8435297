"""Where the S3 that is built in has to answer exactly as S3 does, or to say that it does not."""

import base64
import http.client
import zlib

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from launcher.s3_server import service

MIB = 1 << 20
AES = {"ServerSideEncryption": "AES256"}


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    home = tmp_path_factory.mktemp("s3")
    client = boto3.client(
        "s3", endpoint_url=service.ensure(home), region_name="us-east-1", aws_access_key_id="any",
        aws_secret_access_key="any", config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    client.create_bucket(Bucket="bucket")
    yield client
    service.stop(home)


def fails(call):
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


def crc32(data):
    return base64.b64encode(zlib.crc32(data).to_bytes(4)).decode()


def uploaded(s3, key, parts, **options):
    """Begin an upload and send its parts; return how it is completed."""
    upload = {"Bucket": "bucket", "Key": key}
    upload["UploadId"] = s3.create_multipart_upload(**upload, **options)["UploadId"]
    answers = [s3.upload_part(**upload, PartNumber=number, Body=part) for number, part in enumerate(parts, 1)]
    named = [{"PartNumber": number, "ETag": answer["ETag"]} for number, answer in enumerate(answers, 1)]
    return upload | {"MultipartUpload": {"Parts": named}}


WHOLE = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}


def test_an_upload_is_completed_with_the_objects_own_checksum(s3):
    parts = [b"a" * 5 * MIB, b"b" * 100]
    upload = uploaded(s3, "whole", parts, **WHOLE)
    wrong = {"ChecksumCRC32": crc32(b"other"), "ChecksumType": "FULL_OBJECT"}
    assert fails(lambda: s3.complete_multipart_upload(**upload, **wrong)) == (400, "BadDigest")
    assert fails(lambda: s3.complete_multipart_upload(**upload, MpuObjectSize=7)) == (400, "InvalidRequest")
    done = s3.complete_multipart_upload(
        **upload, ChecksumCRC32=crc32(b"".join(parts)), ChecksumType="FULL_OBJECT", MpuObjectSize=5 * MIB + 100
    )
    assert done["ChecksumCRC32"] == crc32(b"".join(parts))


def test_a_managed_upload_with_the_objects_own_checksum(s3, tmp_path):
    data = b"x" * 9 * MIB
    (tmp_path / "file").write_bytes(data)
    extra = {"ChecksumCRC32": crc32(data), "ChecksumType": "FULL_OBJECT"}
    s3.upload_file(str(tmp_path / "file"), "bucket", "managed", ExtraArgs=extra)
    assert s3.head_object(Bucket="bucket", Key="managed", ChecksumMode="ENABLED")["ChecksumCRC32"] == crc32(data)


def test_completing_twice_answers_twice_until_the_object_is_another(s3):
    upload = uploaded(s3, "twice", [b"text"])
    first = s3.complete_multipart_upload(**upload)
    again = s3.complete_multipart_upload(**upload, IfNoneMatch="*")
    assert (again["ETag"], again["Key"]) == (first["ETag"], "twice")
    other = upload | {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "0" * 32}]}}
    assert fails(lambda: s3.complete_multipart_upload(**other)) == (404, "NoSuchUpload")
    s3.copy_object(Bucket="bucket", Key="copied", CopySource="bucket/twice")
    assert fails(lambda: s3.complete_multipart_upload(**upload | {"Key": "copied"})) == (404, "NoSuchUpload")
    s3.put_object(Bucket="bucket", Key="twice", Body=b"another")
    assert fails(lambda: s3.complete_multipart_upload(**upload)) == (404, "NoSuchUpload")


def test_a_copy_has_the_class_and_encryption_that_were_asked_for_and_not_its_sources(s3):
    s3.put_object(Bucket="bucket", Key="source", Body=b"x", StorageClass="STANDARD_IA", CacheControl="no-cache", **AES)
    s3.copy_object(Bucket="bucket", Key="plain", CopySource="bucket/source")
    plain = s3.head_object(Bucket="bucket", Key="plain")
    assert plain["CacheControl"] == "no-cache"
    assert not {"StorageClass", "ServerSideEncryption"} & plain.keys()
    answer = s3.copy_object(
        Bucket="bucket", Key="other", CopySource="bucket/source", StorageClass="GLACIER_IR",
        ServerSideEncryption="aws:kms", SSEKMSKeyId="my-key",
    )  # fmt: skip
    other = s3.head_object(Bucket="bucket", Key="other")
    for described in (answer, other):
        assert (described["ServerSideEncryption"], described["SSEKMSKeyId"]) == ("aws:kms", "my-key")
    assert (other["StorageClass"], other["CacheControl"]) == ("GLACIER_IR", "no-cache")
    onto_itself = {"Bucket": "bucket", "Key": "source", "CopySource": "bucket/source"}
    s3.copy_object(**onto_itself, StorageClass="ONEZONE_IA")
    assert s3.head_object(Bucket="bucket", Key="source")["StorageClass"] == "ONEZONE_IA"
    assert fails(lambda: s3.copy_object(**onto_itself)) == (400, "InvalidRequest")


def test_a_copy_keeps_or_replaces_its_sources_tags(s3):
    s3.put_object(Bucket="bucket", Key="tagged", Body=b"x", Tagging="a=1")
    s3.copy_object(Bucket="bucket", Key="kept", CopySource="bucket/tagged")
    s3.copy_object(
        Bucket="bucket", Key="replaced", CopySource="bucket/tagged", Tagging="b=2", TaggingDirective="REPLACE"
    )
    assert s3.get_object_tagging(Bucket="bucket", Key="kept")["TagSet"] == [{"Key": "a", "Value": "1"}]
    assert s3.get_object_tagging(Bucket="bucket", Key="replaced")["TagSet"] == [{"Key": "b", "Value": "2"}]


def test_encryption_is_said_back(s3):
    assert s3.put_object(Bucket="bucket", Key="secret", Body=b"x", **AES)["ServerSideEncryption"] == "AES256"
    begun = s3.create_multipart_upload(Bucket="bucket", Key="secret2", **AES)
    assert begun["ServerSideEncryption"] == "AES256"
    upload = {"Bucket": "bucket", "Key": "secret2", "UploadId": begun["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"x")
    assert part["ServerSideEncryption"] == "AES256"
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    assert s3.complete_multipart_upload(**upload, MultipartUpload=parts)["ServerSideEncryption"] == "AES256"
    assert s3.head_object(Bucket="bucket", Key="secret2")["ServerSideEncryption"] == "AES256"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"StorageClass": "FOO"}, (400, "InvalidStorageClass")),
        ({"ServerSideEncryption": "ROT13"}, (400, "InvalidEncryptionAlgorithmError")),
        ({"ServerSideEncryption": "AES256", "SSEKMSKeyId": "key"}, (400, "InvalidArgument")),
        ({"WriteOffsetBytes": 1}, (501, "NotImplemented")),
        ({"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": "2030-01-01"}, (501, "NotImplemented")),
    ],
)
def test_what_is_not_done_is_refused_and_changes_nothing(s3, options, code):
    s3.put_object(Bucket="bucket", Key="steady", Body=b"before")
    assert fails(lambda: s3.put_object(Bucket="bucket", Key="steady", Body=b"after", **options)) == code
    assert s3.get_object(Bucket="bucket", Key="steady")["Body"].read() == b"before"


def test_a_bucket_with_object_lock_is_refused(s3):
    assert fails(lambda: s3.create_bucket(Bucket="lockable", ObjectLockEnabledForBucket=True)) == (
        501,
        "NotImplemented",
    )
    assert fails(lambda: s3.head_bucket(Bucket="lockable")) == (404, "404")
    s3.create_bucket(Bucket="lockless", ObjectLockEnabledForBucket=False)
    s3.delete_bucket(Bucket="lockless")


def test_not_modified_says_the_etag(s3):
    etag = s3.put_object(Bucket="bucket", Key="same", Body=b"x", CacheControl="max-age=1")["ETag"]
    address = s3.meta.endpoint_url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", "/bucket/same", headers={"If-None-Match": etag})
    answer = connection.getresponse()
    assert (answer.status, answer.read(), answer.headers["ETag"]) == (304, b"", etag)
    assert answer.headers["Last-Modified"]
    assert answer.headers["Cache-Control"] == "max-age=1"
    connection.close()


def test_attributes_show_the_parts_by_pages(s3):
    parts = [b"a" * 5 * MIB, b"b" * 5 * MIB, b"c"]
    upload = uploaded(s3, "parts", parts, ChecksumAlgorithm="CRC32", ChecksumType="COMPOSITE")
    for part, data in zip(upload["MultipartUpload"]["Parts"], parts, strict=True):
        part["ChecksumCRC32"] = crc32(data)
    s3.complete_multipart_upload(**upload)

    def shown(**options):
        asked = {"Bucket": "bucket", "Key": "parts", "ObjectAttributes": ["ObjectParts", "ObjectSize"]}
        return s3.get_object_attributes(**asked, **options)["ObjectParts"]

    first = shown(MaxParts=2)
    assert (first["TotalPartsCount"], first["MaxParts"], first["IsTruncated"]) == (3, 2, True)
    assert [part["Size"] for part in first["Parts"]] == [5 * MIB, 5 * MIB]
    assert first["Parts"][0]["ChecksumCRC32"] == crc32(parts[0])
    rest = shown(PartNumberMarker=first["NextPartNumberMarker"])
    assert [(part["PartNumber"], part["Size"]) for part in rest["Parts"]] == [(3, 1)]
    assert not rest["IsTruncated"]
    unknown = {"Bucket": "bucket", "Key": "parts", "ObjectAttributes": ["Nonsense"]}
    assert fails(lambda: s3.get_object_attributes(**unknown)) == (400, "InvalidArgument")


def test_buckets_by_pages(s3):
    for number in range(4):
        s3.create_bucket(Bucket=f"page-{number}")
    first = s3.list_buckets(MaxBuckets=3, Prefix="page-")
    assert [bucket["Name"] for bucket in first["Buckets"]] == ["page-0", "page-1", "page-2"]
    second = s3.list_buckets(MaxBuckets=3, Prefix="page-", ContinuationToken=first["ContinuationToken"])
    assert [bucket["Name"] for bucket in second["Buckets"]] == ["page-3"]
    assert "ContinuationToken" not in second
    assert fails(lambda: s3.list_buckets(ContinuationToken="?")) == (400, "InvalidArgument")


def test_a_part_that_is_copied_says_the_encryption_back(s3):
    s3.put_object(Bucket="bucket", Key="source", Body=b"x")
    upload = {"Bucket": "bucket", "Key": "target"}
    upload["UploadId"] = s3.create_multipart_upload(**upload, **AES)["UploadId"]
    answer = s3.upload_part_copy(**upload, PartNumber=1, CopySource="bucket/source")
    assert answer["ServerSideEncryption"] == "AES256"


def test_the_default_encryption_of_a_bucket_counts_until_it_is_deleted(s3):
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "key-1"}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    s3.create_bucket(Bucket="encrypted")
    s3.put_bucket_encryption(Bucket="encrypted", ServerSideEncryptionConfiguration=rules)
    target = {"Bucket": "encrypted", "Key": "key"}
    answers = [s3.put_object(**target, Body=b"x"), s3.get_object(**target), s3.create_multipart_upload(**target)]
    answers.append(s3.copy_object(Bucket="encrypted", Key="copy", CopySource="encrypted/key"))
    assert {(answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) for answer in answers} == {("aws:kms", "key-1")}
    asked = s3.put_object(**target, Body=b"x", **AES)
    assert asked["ServerSideEncryption"] == "AES256"
    assert "SSEKMSKeyId" not in asked
    s3.delete_bucket_encryption(Bucket="encrypted")
    assert "ServerSideEncryption" not in s3.put_object(**target, Body=b"x")


def test_an_error_has_one_request_id(s3):
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="bucket", Key="missing")
    told = caught.value.response["ResponseMetadata"]
    assert told["RequestId"] == told["HTTPHeaders"]["x-amz-request-id"]


def test_a_listing_and_an_acl_name_one_owner(s3):
    s3.put_object(Bucket="bucket", Key="owned", Body=b"x")
    (listed,) = s3.list_objects(Bucket="bucket", Prefix="owned")["Contents"]
    acl = s3.get_object_acl(Bucket="bucket", Key="owned")
    assert listed["Owner"] == acl["Owner"]
    assert acl["Grants"][0]["Grantee"]["ID"] == listed["Owner"]["ID"]


def test_both_forms_of_a_listing_say_an_odd_prefix_back(s3):
    assert s3.list_objects(Bucket="bucket", Prefix="a b\n%")["Prefix"] == "a b\n%"
    assert s3.list_objects_v2(Bucket="bucket", Prefix="a b\n%")["Prefix"] == "a b\n%"


def test_a_delete_under_conditions_that_are_not_done_deletes_nothing(s3):
    s3.put_object(Bucket="bucket", Key="guarded", Body=b"x")
    assert fails(lambda: s3.delete_object(Bucket="bucket", Key="guarded", IfMatchSize=9)) == (501, "NotImplemented")
    when = {"IfMatchLastModifiedTime": "2015-01-01T00:00:00Z"}
    assert fails(lambda: s3.delete_object(Bucket="bucket", Key="guarded", **when)) == (501, "NotImplemented")
    for condition in ({"Size": 9}, {"LastModifiedTime": "2015-01-01T00:00:00Z"}):
        answer = s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "guarded"} | condition]})
        assert answer["Errors"][0]["Code"] == "NotImplemented"
    assert s3.head_object(Bucket="bucket", Key="guarded")["ContentLength"] == 1


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("deflate, gzip", "deflate, gzip"),
        ("aws-chunked,gzip", "gzip"),
        ("gzip, aws-chunked", "gzip"),
        ("br,gzip", "br,gzip"),
    ],
)
def test_a_content_encoding_comes_back_without_that_of_the_transfer(s3, given, stored):
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "encoded"})
    connection = http.client.HTTPConnection(url.split("/")[2])
    body = b"1\r\nx\r\n0\r\n\r\n" if "aws-chunked" in given else b"x"
    connection.request("PUT", url, body, {"Content-Encoding": given})
    assert connection.getresponse().status == 200
    connection.close()
    assert s3.head_object(Bucket="bucket", Key="encoded")["ContentEncoding"] == stored
