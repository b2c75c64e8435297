"""What arrives by ranges, in any order, is added up as S3 adds it up."""

import base64
import hashlib
import zlib

import pytest

from launcher.storage.incoming import Incoming, WrongContentError, digest_of

CONTENT = bytes(range(250)) * 4 + b"end"
PARTS = [CONTENT[start : start + 100] for start in range(0, len(CONTENT), 100)]
MD5 = hashlib.md5(CONTENT).hexdigest()
MD5_OF_PARTS = f"{hashlib.md5(b''.join(hashlib.md5(part).digest() for part in PARTS)).hexdigest()}-{len(PARTS)}"


def checksum(content):
    return zlib.crc32(content).to_bytes(4, "big")


WHOLE = base64.b64encode(checksum(CONTENT)).decode()
OF_PARTS = f"{base64.b64encode(checksum(b''.join(map(checksum, PARTS)))).decode()}-{len(PARTS)}"
CASES = {
    "md5": (MD5, {}, 0),
    "crc32": (MD5, {"ChecksumCRC32": WHOLE}, 0),
    "md5 of parts": (MD5_OF_PARTS, {}, 100),
    "crc32 of parts": (MD5_OF_PARTS, {"ChecksumCRC32": OF_PARTS, "ChecksumType": "COMPOSITE"}, 100),
}


def bring(tmp_path, content, digest):
    (tmp_path / "file").write_bytes(b"")
    incoming = Incoming(tmp_path / "file", len(content), 250, digest)
    done = []
    for number, (start, stop) in reversed(list(enumerate(incoming.ranges))):
        incoming.write(start, content[start:stop])
        done.append(incoming.finish_range(number))
    incoming.close()
    return done


@pytest.mark.parametrize("kind", CASES)
def test_a_content_is_complete_with_its_last_range_and_checked(tmp_path, kind):
    etag, head, part_bytes = CASES[kind]
    digest = digest_of(etag, head | {"ContentLength": len(CONTENT)}, part_bytes)
    assert digest.kind == kind
    *before, last = bring(tmp_path, CONTENT, digest)
    assert (any(before), last) == (False, True)
    assert (tmp_path / "file").read_bytes() == CONTENT
    with pytest.raises(WrongContentError, match=f"its {kind} is"):
        bring(tmp_path, CONTENT[:-1] + b"x", digest)


@pytest.mark.parametrize(
    "head", [{"ServerSideEncryption": "aws:kms"}, {"SSECustomerAlgorithm": "AES256"}], ids=["managed key", "own key"]
)
def test_an_etag_of_an_encrypted_object_is_no_digest(head):
    assert digest_of(MD5, head | {"ContentLength": len(CONTENT)}) is None
