"""Which S3 is meant, and that real AWS is only reached when it is asked for by name."""

import pytest

from launcher.errors import SettingsError
from launcher.settings import S3Settings, s3_settings

VARIABLES = ("LAUNCHER_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
AWS_URLS = [
    "https://s3.us-east-1.amazonaws.com",
    "https://S3.AMAZONAWS.COM./",
    "https://bucket.vpce-1-2.s3.eu-west-1.vpce.amazonaws.com",
    "https://s3.cn-north-1.amazonaws.com.cn",
]


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch):
    for name in (*VARIABLES, "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def test_the_embedded_s3_is_meant_when_nothing_is_said():
    assert s3_settings() == S3Settings("embedded", region="us-east-1")


def test_the_argument_comes_first_then_our_variable_then_those_of_boto3(monkeypatch):
    for number, name in enumerate(reversed(VARIABLES), start=9000):
        monkeypatch.setenv(name, f"http://localhost:{number}")
        assert s3_settings().endpoint_url == f"http://localhost:{number}", name
    assert s3_settings("http://other:1/").endpoint_url == "http://other:1"
    assert s3_settings("embedded").kind == "embedded"


@pytest.mark.parametrize("url", AWS_URLS)
@pytest.mark.parametrize("place", [*VARIABLES, "s3_endpoint_url"])
def test_a_url_of_aws_is_refused_and_the_message_says_the_word(monkeypatch, place, url):
    if place in VARIABLES:
        monkeypatch.setenv(place, url)
    with pytest.raises(SettingsError, match=rf"{place} is .*real AWS.*\n.*LAUNCHER_S3_ENDPOINT=aws"):
        s3_settings(url if place == "s3_endpoint_url" else None)


@pytest.mark.parametrize("place", ["argument", "LAUNCHER_S3_ENDPOINT"])
def test_the_word_reaches_aws_with_the_callers_region_and_profile(monkeypatch, place):
    if place == "LAUNCHER_S3_ENDPOINT":
        monkeypatch.setenv(place, "aws")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert s3_settings("aws" if place == "argument" else None) == S3Settings("aws", None, "eu-west-1", "work")


def test_an_address_elsewhere_is_not_taken_for_aws_but_a_private_endpoint_of_aws_is(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    assert s3_settings("aws").endpoint_url is None
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", AWS_URLS[2])
    assert s3_settings("aws").endpoint_url == AWS_URLS[2]


@pytest.mark.parametrize("value", ["AWS", "localhost:9000", "ftp://host", "http://", "http://host:port", "s3://bucket"])
def test_what_is_neither_a_word_nor_a_url_is_refused(value):
    with pytest.raises(SettingsError, match=r"no endpoint of S3.*\n.*'embedded', 'aws' or a URL"):
        s3_settings(value)


def test_the_word_is_not_taken_from_the_variables_of_boto3(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "aws")
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL is 'aws'"):
        s3_settings()


@pytest.mark.parametrize("value", ["embedded", "aws", "http://localhost:9000"])
def test_settings_survive_a_jobs_record(value):
    settings = s3_settings(value)
    assert S3Settings.from_dict(settings.to_dict()) == settings
