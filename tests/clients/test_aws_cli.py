"""AWS's command line, version 1, unmodified, by ``launcher exec``."""

import pytest

pytestmark = pytest.mark.slow


def test_a_document_makes_a_job_that_is_described_and_listed(aws_cli):
    assert aws_cli["identity"]["value"] == "000000000000"
    assert aws_cli["created"]["value"] == "arn:aws:sagemaker:us-east-1:000000000000:training-job/of-the-cli"
    assert aws_cli["status"]["value"] == "Completed"
    assert aws_cli["listed"]["value"] == ["of-the-cli"]


def test_what_cannot_be_done_is_said_in_awss_words(aws_cli):
    assert aws_cli["twice"]["value"] == "An error occurred (ResourceInUse)"
    assert aws_cli["refused"]["value"].startswith("An error occurred (Not")


def test_another_region_is_served_as_well(aws_cli):
    assert aws_cli["region"]["value"] == "[]"
