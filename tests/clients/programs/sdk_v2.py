"""A program for real AWS, by version 2 of the SageMaker SDK; nothing in it knows where it runs."""

import json
import sys
import tarfile
import time
from pathlib import Path

import boto3
import sagemaker
from botocore.exceptions import ClientError
from sagemaker.analytics import TrainingJobAnalytics
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.local import LocalSession
from sagemaker.predictor import Predictor
from sagemaker.processing import ProcessingInput, ProcessingOutput, ScriptProcessor
from sagemaker.pytorch import PyTorch
from sagemaker.rl import RLEstimator, RLFramework, RLToolkit
from sagemaker.serializers import JSONSerializer
from sagemaker.tuner import ContinuousParameter, HyperparameterTuner

folder, source, story = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
session = sagemaker.Session()
role = sagemaker.get_execution_role()
client = session.sagemaker_client
bucket = session.default_bucket()
options = {
    "entry_point": "train.py",
    "source_dir": source,
    "role": role,
    "instance_count": 1,
    "instance_type": "ml.m5.large",
    "metric_definitions": [{"Name": "loss", "Regex": "loss=([0-9.]+);"}],
}
torch_options = {**options, "framework_version": "2.3", "py_version": "py311"}


def report(section, **values):
    print("REPORT " + json.dumps({"section": section, **values}, default=str), flush=True)


def job_ended(name):
    """The SDK itself asks every 5 or 30 s."""
    while (answer := client.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] in (
        "InProgress",
        "Stopping",
    ):
        time.sleep(0.2)
    return answer


def lines_of(name):
    logs = boto3.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    return {
        stream["logStreamName"].split("/")[1][:6]: [
            event["message"]
            for event in logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]
        for stream in streams
    }


(folder / "data").mkdir()
(folder / "data" / "a.csv").write_text("1\n2\n3\n")
data = session.upload_data(str(folder / "data" / "a.csv"), key_prefix="data")

# All start at once.
coach = RLEstimator(
    **options,
    toolkit=RLToolkit.COACH,
    toolkit_version="1.0.0",
    framework=RLFramework.TENSORFLOW,
    hyperparameters={"factor": 3},
    tags=[{"Key": "team", "Value": "rl"}],
)
coach.fit({"train": data}, wait=False)
failing = PyTorch(**torch_options, hyperparameters={"ending": "failure"})
failing.fit({"train": data}, wait=False)
waiting = PyTorch(**torch_options, hyperparameters={"ending": "wait"})
waiting.fit({"train": data}, wait=False)
two = PyTorch(**{**torch_options, "instance_count": 2})
two.fit({"train": data}, wait=False)
batch_rl = RLEstimator(
    **{**options, "source_dir": story["source"]},
    toolkit=RLToolkit.COACH,
    toolkit_version="1.0.0",
    framework=RLFramework.TENSORFLOW,
    hyperparameters=story["hyperparameters"],
)
batch_rl.fit({"train": session.upload_data(story["data"], key_prefix="logged")}, wait=False)
processor = ScriptProcessor(
    image_uri=coach.training_image_uri(),
    command=["python3"],
    role=role,
    instance_count=1,
    instance_type="ml.m5.large",
)
processor.run(
    code=f"{source}/process.py",
    inputs=[ProcessingInput(source=data, destination="/opt/ml/processing/input/rows", input_name="rows")],
    outputs=[ProcessingOutput(source="/opt/ml/processing/output", output_name="multiplied")],
    arguments=["--factor", "2"],
    wait=False,
    logs=False,
)
tuner = HyperparameterTuner(
    PyTorch(**torch_options),
    objective_metric_name="loss",
    objective_type="Minimize",
    strategy="Random",
    hyperparameter_ranges={"factor": ContinuousParameter(1, 4)},
    metric_definitions=options["metric_definitions"],
    max_jobs=2,
    max_parallel_jobs=2,
    random_seed=1,
)
tuner.fit({"train": data}, wait=False)

answer = job_ended(coach.latest_training_job.name)
with (folder / "model.tar.gz").open("wb") as file:
    session.s3_client.download_fileobj(bucket, coach.model_data.split(f"s3://{bucket}/")[1], file)
with tarfile.open(folder / "model.tar.gz") as archive:
    members = sorted(archive.getnames())
attached = Estimator.attach(coach.latest_training_job.name)
report(
    "success",
    status=answer["TrainingJobStatus"],
    image=answer["AlgorithmSpecification"]["TrainingImage"],
    metrics={metric["MetricName"]: metric["Value"] for metric in answer["FinalMetricDataList"]},
    transitions=[entry["Status"] for entry in answer["SecondaryStatusTransitions"]],
    members=members,
    lines=lines_of(coach.latest_training_job.name),
    attached=attached.model_data == coach.model_data,
    tags=client.list_tags(ResourceArn=answer["TrainingJobArn"])["Tags"],
)
table = TrainingJobAnalytics(coach.latest_training_job.name, ["loss"]).dataframe()
report("analytics", names=sorted(set(table["metric_name"])), rows=len(table))
answer = job_ended(failing.latest_training_job.name)
report("failure", status=answer["TrainingJobStatus"], reason=answer["FailureReason"])
client.stop_training_job(TrainingJobName=waiting.latest_training_job.name)
answer = job_ended(waiting.latest_training_job.name)
report("stop", status=answer["TrainingJobStatus"], secondary=answer["SecondaryStatus"])
answer = job_ended(two.latest_training_job.name)
report("hosts", status=answer["TrainingJobStatus"], lines=lines_of(two.latest_training_job.name))
listed = client.list_training_jobs(StatusEquals="Failed")["TrainingJobSummaries"]
searched = client.search(
    Resource="TrainingJob",
    SearchExpression={"Filters": [{"Name": "TrainingJobStatus", "Operator": "Equals", "Value": "Stopped"}]},
)["Results"]
report(
    "listing",
    failed=[entry["TrainingJobName"] for entry in listed] == [failing.latest_training_job.name],
    stopped=[entry["TrainingJob"]["TrainingJobName"] for entry in searched] == [waiting.latest_training_job.name],
)

name = batch_rl.latest_training_job.name
report(
    "story",
    status=job_ended(name)["TrainingJobStatus"],
    metrics=session.read_s3_file(bucket, f"{name}/output/intermediate/{story['metrics']}"),
)

name = processor.latest_job.job_name
while (answer := client.describe_processing_job(ProcessingJobName=name))["ProcessingJobStatus"] == "InProgress":
    time.sleep(0.2)
output = answer["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
report(
    "processing",
    status=answer["ProcessingJobStatus"],
    listed=[entry["ProcessingJobName"] for entry in client.list_processing_jobs()["ProcessingJobSummaries"]] == [name],
    output=session.read_s3_file(bucket, f"{output.split(f's3://{bucket}/')[1]}/a.csv"),
)
while tuner.describe()["HyperParameterTuningJobStatus"] == "InProgress":
    time.sleep(0.2)
best = tuner.describe()["BestTrainingJob"]
trials = tuner.analytics().dataframe()
report(
    "tuning",
    status=tuner.describe()["HyperParameterTuningJobStatus"],
    trials=sorted(trials["TrainingJobStatus"]),
    best=best["TrainingJobName"] == tuner.best_training_job(),
    lowest=best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == min(trials["FinalObjectiveValue"]),
    factors=[float(value) for value in trials["factor"]],
)

# Local mode, as its users write it: no bucket, no cloud.
local_session = LocalSession()
local_session.config = {"local": {"local_code": True}}
local = PyTorch(
    **{**torch_options, "instance_type": "local", "role": "arn:aws:iam::111111111111:role/anything"},
    sagemaker_session=local_session,
    output_path=f"file://{folder}/out",
)
local.fit({"train": f"file://{folder}/data"}, wait=False)
answer = job_ended(local.latest_training_job.name)
report("local mode", status=answer["TrainingJobStatus"], output=local.model_data.replace(str(folder), ""))

model = sagemaker.Model(
    image_uri=coach.training_image_uri(),
    model_data=coach.model_data,
    role=role,
    sagemaker_session=session,
    predictor_cls=Predictor,
)
predictor = model.deploy(1, "ml.m5.large", endpoint_name="from-v2", wait=False)
while client.describe_endpoint(EndpointName="from-v2")["EndpointStatus"] == "Creating":
    time.sleep(0.2)
predictor = Predictor(
    "from-v2", sagemaker_session=session, serializer=JSONSerializer(), deserializer=JSONDeserializer()
)
first = predictor.predict([1, 2.5])
described = client.describe_endpoint(EndpointName="from-v2")
predictor.update_endpoint(initial_instance_count=1, instance_type="ml.c5.large", wait=False)
while client.describe_endpoint(EndpointName="from-v2")["EndpointStatus"] == "Updating":
    time.sleep(0.2)
second = predictor.predict([2])
predictor.delete_endpoint()
try:
    while client.describe_endpoint(EndpointName="from-v2"):
        time.sleep(0.1)
except ClientError as error:
    gone = error.response["Error"]["Message"]
report("endpoint", status=described["EndpointStatus"], first=first, second=second, gone=gone)
transformer = model.transformer(
    1, "ml.m5.large", strategy="MultiRecord", assemble_with="Line", accept="text/csv", output_path=f"s3://{bucket}/t"
)
transformer.transform(data, content_type="text/csv", split_type="Line", wait=False)
name = transformer.latest_transform_job.name
while client.describe_transform_job(TransformJobName=name)["TransformJobStatus"] == "InProgress":
    time.sleep(0.2)
status = client.describe_transform_job(TransformJobName=name)["TransformJobStatus"]
output = session.read_s3_file(bucket, "t/a.csv.out")
report("transform", status=status, output=output)
