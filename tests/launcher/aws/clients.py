"""boto3's own client, whose requests are answered in this process: everything but the sockets is real."""

import json
from datetime import datetime

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker import answer


class _Raw:
    def __init__(self, body):
        self.body = body

    def stream(self, *_arguments, **_options):
        yield self.body


def sagemaker_client(home):
    """Return a client of SageMaker whose operations are those of a home."""
    client = boto3.client(
        "sagemaker",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        endpoint_url="http://localhost:1",
        config=Config(retries={"total_max_attempts": 1}),
    )

    def respond(request, **_options):
        operation = request.headers["X-Amz-Target"].decode().partition(".")[2]
        status, values, headers = 200, {}, {}
        try:
            values = answer(operation, json.loads(request.body), home)
        except AwsError as error:
            status, values = error.status, {"__type": error.code, "message": error.message}
            headers = {"x-amzn-ErrorType": error.code}
        body = json.dumps(values, default=_seconds, allow_nan=False).encode()
        return AWSResponse(request.url, status, headers, _Raw(body))

    client.meta.events.register("before-send.sagemaker", respond)
    return client


def _seconds(value):
    assert isinstance(value, datetime)
    return value.timestamp()


def training_job(name, script="print('done')", **members):
    """Return a CreateTrainingJob document of a job that needs no image and no source."""
    return {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::000000000000:role/any",
        "AlgorithmSpecification": {
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python", "-c", script],
        },
        "OutputDataConfig": {"S3OutputPath": "s3://results/jobs"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **members,
    }


def refused(call, **request):
    """Return code and message of the error that a call of boto3 ends in."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]
