"""A record in the shape of DescribeTrainingJob's answer."""

from __future__ import annotations

from typing import Any

from launcher.jobs.spec import job_keys
from launcher.jobs.store import JobRecord, utc
from launcher.settings import LOCAL_ROLE_ARN, training_job_arn


def describe_record(record: JobRecord) -> dict[str, Any]:
    """Return a record in the shape of DescribeTrainingJob's answer."""
    spec = record.training_spec
    keys = job_keys(spec)
    algorithm: dict[str, Any] = {
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": one.name, "Regex": one.regex} for one in spec.metric_definitions],
    }
    if spec.image_uri:
        algorithm["TrainingImage"] = spec.image_uri
    if spec.container_entry_point:
        algorithm["ContainerEntrypoint"] = list(spec.container_entry_point)
    if spec.container_arguments:
        algorithm["ContainerArguments"] = list(spec.container_arguments)
    answer: dict[str, Any] = {
        "TrainingJobName": spec.job_name,
        "TrainingJobArn": training_job_arn(spec.job_name),
        "ModelArtifacts": {"S3ModelArtifacts": keys.model},
        "TrainingJobStatus": record.status,
        "SecondaryStatus": record.secondary_status,
        "HyperParameters": dict(spec.hyperparameters),
        "AlgorithmSpecification": algorithm,
        "RoleArn": spec.role or LOCAL_ROLE_ARN,
        "InputDataConfig": [
            {
                "ChannelName": channel.name,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": channel.s3_data_type,
                        "S3Uri": channel.uri,
                        "S3DataDistributionType": channel.distribution,
                    }
                },
                **({"ContentType": channel.content_type} if channel.content_type else {}),
                "CompressionType": channel.compression,
                "RecordWrapperType": channel.record_wrapping,
            }
            for channel in spec.channels
        ],
        "OutputDataConfig": {"S3OutputPath": spec.output_uri, "KmsKeyId": "", "CompressionType": "GZIP"},
        "ResourceConfig": {
            "InstanceType": spec.instance_type,
            "InstanceCount": spec.instance_count,
            "VolumeSizeInGB": spec.volume_size_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": spec.max_run_seconds},
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
        "SecondaryStatusTransitions": [
            {
                "Status": one.status,
                "StartTime": utc(one.start),
                **({"EndTime": utc(one.end)} if one.end is not None else {}),
                "StatusMessage": one.message,
            }
            for one in record.transitions
        ],
        "FinalMetricDataList": [
            {"MetricName": name, "Value": value, "Timestamp": utc(seconds)}
            for name, value, seconds in record.final_metrics
        ],
        "EnableNetworkIsolation": spec.enable_network_isolation,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        "Environment": dict(spec.environment),
        "ProfilingStatus": "Disabled",
    }
    if spec.checkpoint_config is not None:
        answer["CheckpointConfig"] = {
            "S3Uri": spec.checkpoint_config.s3_uri,
            "LocalPath": spec.checkpoint_config.local_path,
        }
    if record.failure_reason:
        answer["FailureReason"] = record.failure_reason
    if record.started is not None:
        answer["TrainingStartTime"] = utc(record.started)
    if record.ended is not None:
        answer["TrainingEndTime"] = utc(record.ended)
        if record.started is not None:
            seconds = max(1, round(record.ended - record.started))
            answer |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
    return answer
