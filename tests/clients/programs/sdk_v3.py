"""A program for real AWS, by version 3 of the SageMaker SDK; nothing in it knows where it runs."""

import json
import sys
import time
from pathlib import Path

import boto3
from sagemaker.core.parameter import ContinuousParameter
from sagemaker.core.processing import ScriptProcessor
from sagemaker.core.resources import Endpoint, EndpointConfig, Model, TrainingJob, TransformJob
from sagemaker.core.shapes import (
    ContainerDefinition,
    MetricDefinition,
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
    ProductionVariant,
    TransformDataSource,
    TransformInput,
    TransformOutput,
    TransformResources,
    TransformS3DataSource,
)
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, SourceCode
from sagemaker.train.tuner import HyperparameterTuner

folder, source, story = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
image = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.3-cpu-py311"


def report(section, **values):
    print("REPORT " + json.dumps({"section": section, **values}, default=str), flush=True)


def ended(job):
    """The SDK itself asks every 5 s."""
    job.refresh()
    while job.training_job_status in ("InProgress", "Stopping"):
        time.sleep(0.2)
        job.refresh()
    return job


def trainer(name, count=1, source_dir=source, **values):
    return ModelTrainer(
        training_image=image,
        source_code=SourceCode(source_dir=source_dir, entry_script="train.py"),
        compute=Compute(instance_type="ml.m5.large", instance_count=count),
        base_job_name=name,
        hyperparameters=values,
    ).with_metric_definitions([MetricDefinition(name="loss", regex="loss=([0-9.]+);")])


(folder / "data").mkdir()
(folder / "data" / "a.csv").write_text("1\n2\n3\n")
inputs = [InputData(channel_name="train", data_source=str(folder / "data"))]
trainers = {
    "success": trainer("success", factor=3),
    "failure": trainer("failure", ending="failure"),
    "stop": trainer("stop", ending="wait"),
    "hosts": trainer("hosts", count=2),
}
logged = [InputData(channel_name="train", data_source=story["data"])]
jobs = {}
trainers["story"] = trainer("story", source_dir=story["source"], **story["hyperparameters"])
for name, model_trainer in trainers.items():
    model_trainer.train(input_data_config=logged if name == "story" else inputs, wait=False)
    jobs[name] = model_trainer._latest_training_job
rows = jobs["success"].input_data_config[0].data_source.s3_data_source.s3_uri
bucket = rows.split("/")[2]
processor = ScriptProcessor(
    image_uri=image,
    command=["python3"],
    role=jobs["success"].role_arn,
    instance_count=1,
    instance_type="ml.m5.large",
)
processor.run(
    code=f"{source}/process.py",
    inputs=[
        ProcessingInput(
            input_name="rows",
            s3_input=ProcessingS3Input(
                s3_uri=rows,
                local_path="/opt/ml/processing/input/rows",
                s3_data_type="S3Prefix",
                s3_input_mode="File",
            ),
        )
    ],
    outputs=[
        ProcessingOutput(
            output_name="multiplied",
            s3_output=ProcessingS3Output(
                s3_uri=f"s3://{bucket}/multiplied", local_path="/opt/ml/processing/output", s3_upload_mode="EndOfJob"
            ),
        )
    ],
    arguments=["--factor", "2"],
    wait=False,
    logs=False,
)
tuner = HyperparameterTuner(
    trainer("tuned"),
    objective_metric_name="loss",
    objective_type="Minimize",
    strategy="Random",
    hyperparameter_ranges={"factor": ContinuousParameter(1, 4)},
    metric_definitions=[{"Name": "loss", "Regex": "loss=([0-9.]+);"}],
    max_jobs=2,
    max_parallel_jobs=2,
)
tuner.tune(inputs=[InputData(channel_name="train", data_source=rows)], wait=False)

job = ended(jobs["success"])
report(
    "success",
    status=job.training_job_status,
    model=job.model_artifacts.s3_model_artifacts,
    metrics={metric.metric_name: metric.value for metric in job.final_metric_data_list},
)
job = ended(jobs["failure"])
report("failure", status=job.training_job_status, reason=job.failure_reason)
jobs["stop"].stop()
report("stop", status=ended(jobs["stop"]).training_job_status)
report("hosts", status=ended(jobs["hosts"]).training_job_status)
job = ended(jobs["story"])
key = f"{job.output_data_config.s3_output_path}/{job.training_job_name}/output/intermediate/{story['metrics']}"
report(
    "story",
    status=job.training_job_status,
    reason=str(job.failure_reason),
    metrics=boto3.client("s3").get_object(Bucket=bucket, Key=key.split(f"s3://{bucket}/")[1])["Body"].read().decode(),
)
job = processor.latest_job.refresh()
while job.processing_job_status == "InProgress":
    time.sleep(0.2)
    job.refresh()
output = boto3.client("s3").get_object(Bucket=bucket, Key="multiplied/a.csv")["Body"].read().decode()
report("processing", status=job.processing_job_status, output=output)
tuning = tuner.latest_tuning_job
while tuning.refresh().hyper_parameter_tuning_job_status == "InProgress":
    time.sleep(0.2)
report(
    "tuning",
    status=tuning.hyper_parameter_tuning_job_status,
    completed=tuning.training_job_status_counters.completed,
    best=TrainingJob.get(tuner.best_training_job()).training_job_status,
)
found = TrainingJob.get_all(name_contains="failure")
report(
    "resources",
    listed=[entry.training_job_name for entry in found] == [jobs["failure"].training_job_name],
    same=TrainingJob.get(jobs["success"].training_job_name).training_job_arn == jobs["success"].training_job_arn,
)

model = Model.create(
    model_name="from-v3",
    primary_container=ContainerDefinition(
        image=image.replace("training", "inference"),
        model_data_url=jobs["success"].model_artifacts.s3_model_artifacts,
    ),
    execution_role_arn=jobs["success"].role_arn,
)
EndpointConfig.create(
    endpoint_config_name="from-v3",
    production_variants=[
        ProductionVariant(
            variant_name="all", model_name="from-v3", initial_instance_count=1, instance_type="ml.m5.large"
        )
    ],
)
endpoint = Endpoint.create(endpoint_name="from-v3", endpoint_config_name="from-v3")
endpoint.wait_for_status("InService", poll=1)
answer = endpoint.invoke(body=b"[1, 2.5]", content_type="application/json", accept="application/json")
report("endpoint", status=endpoint.endpoint_status, answer=json.loads(answer.body.read()))
endpoint.delete()
endpoint.wait_for_delete(poll=1)
transform = TransformJob.create(
    transform_job_name="from-v3",
    model_name="from-v3",
    transform_input=TransformInput(
        data_source=TransformDataSource(s3_data_source=TransformS3DataSource(s3_data_type="S3Prefix", s3_uri=rows)),
        content_type="text/csv",
        split_type="Line",
    ),
    transform_output=TransformOutput(s3_output_path=f"s3://{bucket}/t3", accept="text/csv", assemble_with="Line"),
    transform_resources=TransformResources(instance_type="ml.m5.large", instance_count=1),
)
transform.wait(poll=1)
report("transform", status=transform.transform_job_status)
model.delete()
EndpointConfig.get("from-v3").delete()
