"""The SDK's names for processing: what each argument becomes, and what the page about them promises."""

import inspect
import zipfile
from pathlib import Path

import pytest
from launcher.processing import FrameworkProcessor, NetworkConfig, ProcessingInput, ProcessingJob, ProcessingOutput

import launcher
from launcher.cli import processing as commands
from launcher.errors import BadInputError, JobFailedError, JobNotFoundError, SourceError, UnsupportedOptionError
from launcher.sdk.framework_processors import PyTorchProcessor, SKLearnProcessor
from launcher.storage import bucket_storage, which_s3
from tests.fakes import FakeRuntime
from tests.pages import blocks
from tests.shell import run_launcher

ROOT = Path(__file__).parents[3]
COMMON = (
    "volume_size_in_gb volume_kms_key output_kms_key max_runtime_in_seconds base_job_name sagemaker_session env tags"
)
RUN = "inputs outputs arguments wait logs job_name experiment_config kms_key"
NAMES = {
    launcher.Processor: f"role image_uri instance_count instance_type entrypoint {COMMON} network_config",
    launcher.ScriptProcessor: f"role image_uri command instance_count instance_type {COMMON} network_config",
    launcher.FrameworkProcessor: (
        "estimator_cls framework_version role instance_count instance_type py_version image_uri command "
        f"{COMMON.replace('max_runtime', 'code_location max_runtime', 1)} network_config"
    ),
    launcher.Processor.run: f"self {RUN}",
    launcher.ScriptProcessor.run: f"self code {RUN}",
    launcher.FrameworkProcessor.run: f"self code source_dir dependencies git_config {RUN}",
    launcher.ProcessingInput: (
        "source destination input_name s3_data_type s3_input_mode s3_data_distribution_type s3_compression_type "
        "s3_input dataset_definition app_managed"
    ),
    launcher.ProcessingOutput: "source destination output_name s3_upload_mode app_managed feature_store_output",
    NetworkConfig: "enable_network_isolation security_group_ids subnets encrypt_inter_container_traffic",
}


@pytest.mark.parametrize(("function", "names"), NAMES.items(), ids=lambda value: getattr(value, "__qualname__", ""))
def test_arguments_are_those_of_the_sdk_in_its_order(function, names):
    parameters = inspect.signature(function).parameters.values()
    assert [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY] == names.split()


def test_every_argument_becomes_its_member(bench):
    processor = launcher.ScriptProcessor(
        "me", "mine:1", ["python3", "-u"], 2, "ml.m5.large", 30, None, None, 60, "clean", env={"A": "1"},
        tags=[{"Key": "team", "Value": "a"}], network_config=NetworkConfig(True), runtime="docker",
    )  # fmt: skip
    request = processor.request(
        processor.program(bench.script("print('x')")),
        [ProcessingInput("s3://logs/raw", "/opt/ml/processing/input")],
        [ProcessingOutput("/opt/ml/processing/output", "s3://logs/out", s3_upload_mode="Continuous")],
        ["--limit", "1"],
        experiment_config={"ExperimentName": "e"},
    )
    assert request["ProcessingJobName"].startswith("clean-")
    assert request["RoleArn"] == "arn:aws:iam::000000000000:role/me"
    assert request["AppSpecification"] == {
        "ImageUri": "mine:1",
        "ContainerEntrypoint": ["python3", "-u", "/opt/ml/processing/input/code/clean.py"],
        "ContainerArguments": ["--limit", "1"],
    }
    assert request["ProcessingResources"]["ClusterConfig"] == {
        "InstanceCount": 2,
        "InstanceType": "ml.m5.large",
        "VolumeSizeInGB": 30,
    }
    assert [member["InputName"] for member in request["ProcessingInputs"]] == ["input-1", "code"]
    assert request["ProcessingOutputConfig"]["Outputs"][0]["OutputName"] == "output-1"
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 60}
    assert request["NetworkConfig"] == {"EnableNetworkIsolation": True}
    assert (request["Environment"], request["Tags"]) == ({"A": "1"}, [{"Key": "team", "Value": "a"}])
    assert request["ExperimentConfig"] == {"ExperimentName": "e"}
    assert request["Launcher"]["S3"]["Kind"] == "embedded"


def test_a_run_leaves_a_job_that_other_processes_can_ask(bench):
    processor = launcher.ScriptProcessor(runtime=FakeRuntime())
    job = processor.run(
        bench.script("print('x')"), outputs=bench.outputs(), arguments=["a"], job_name="job-1", logs=False
    )
    assert processor.latest_job is job
    assert processor.jobs == [job]
    assert processor.arguments == ["a"]
    again = ProcessingJob.from_processing_arn(None, job.describe()["ProcessingJobArn"])
    assert (again.job_name, again.status) == ("job-1", "Completed")
    assert [(given.input_name, given.destination) for given in again.inputs] == [
        ("code", "/opt/ml/processing/input/code")
    ]
    assert [(output.output_name, output.destination) for output in again.outputs] == [
        ("result", f"file://{bench.output}")
    ]
    with pytest.raises(JobNotFoundError):
        ProcessingJob.from_processing_name(processing_job_name="nobody")


def test_a_failed_run_raises_with_the_end_of_its_log(bench):
    with pytest.raises(JobFailedError, match="ValueError: no episodes"):
        launcher.ScriptProcessor(runtime=FakeRuntime()).run(bench.script("raise ValueError('no episodes')"), logs=False)


def test_in_s3_mode_program_and_outputs_lie_in_the_sessions_bucket(bench):
    script = bench.script("(base / 'processing/output/x').write_text('x')")
    processor = launcher.ScriptProcessor(runtime="process", mode="s3")
    job = processor.run(script, outputs=[ProcessingOutput("/opt/ml/processing/output")], job_name="job-1", logs=False)
    assert [(job.fetch_output("output-1") / "x").read_text() for _ in range(2)] == ["x", "x"]
    with pytest.raises(BadInputError, match="has no output 'other'"):
        job.fetch_output("other")
    bucket = processor.sagemaker_session.default_bucket()
    keys = list(bucket_storage(which_s3()).keys(f"s3://{bucket}", "job-1/"))
    assert keys == ["job-1/input/code/clean.py", "job-1/output/output-1/x"]


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_source_folder_is_unpacked_beside_the_program(runtime, tmp_path):
    source = tmp_path / "src"
    (source / "parts").mkdir(parents=True)
    (source / "parts" / "__init__.py").write_text("WORD = 'together'")
    (source / "clean.py").write_text("import sys, parts; print(parts.WORD, sys.argv[1:])")
    processor = PyTorchProcessor("2.1", runtime=runtime)
    job = processor.run("clean.py", str(source), arguments=["a b"], logs=False)
    assert job.logs() == "together ['a b']\n"
    assert (processor.framework_version, processor.py_version) == ("2.1", "py3")


@pytest.mark.slow
def test_requirements_are_installed_into_a_folder_of_the_jobs(tmp_path):
    wheel, info = tmp_path / "tiny_own_package-1-py3-none-any.whl", "tiny_own_package-1.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_own_package.py", "WORD = 'installed'")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-own-package\nVersion: 1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    source = tmp_path / "src"
    source.mkdir()
    (source / "requirements.txt").write_text(f"{wheel}\n")
    (source / "clean.py").write_text("import tiny_own_package; print(tiny_own_package.WORD)")
    job = FrameworkProcessor(runtime="process").run("clean.py", str(source), logs=False)
    assert job.logs().endswith("installed\n")
    with pytest.raises(ImportError):
        import tiny_own_package  # noqa: F401


def test_sklearns_processor_runs_a_script(bench):
    assert SKLearnProcessor("1.2-1", runtime=FakeRuntime()).run(bench.script("print('x')"), logs=False).logs() == "x\n"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: launcher.Processor(network_config={}), BadInputError, "no NetworkConfig"),
        (lambda: ProcessingInput(), BadInputError, "no source"),
        (lambda: ProcessingInput("x", dataset_definition=1), UnsupportedOptionError, "dataset_definition"),
        (lambda: ProcessingOutput(feature_store_output=1), UnsupportedOptionError, "feature_store_output"),
        (lambda: launcher.ScriptProcessor().run("none.py"), SourceError, "none.py does not exist"),
        (lambda: launcher.Processor(image_uri="x").run(wait=False), BadInputError, "Logs can only be shown if wait"),
        (lambda: launcher.Processor(image_uri="x").run(inputs=["a"], logs=False), BadInputError, "no ProcessingInput"),
        (lambda: launcher.Processor(image_uri="x").run(kms_key="k"), UnsupportedOptionError, "kms_key"),
        (lambda: launcher.Processor().run(logs=False), SourceError, "no program of its own"),
        (lambda: launcher.FrameworkProcessor(code_location="s3://x"), UnsupportedOptionError, "code_location"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_recorded(make, error, words, bench):
    with pytest.raises(error, match=words):
        make()
    assert bench.store.names() == []


# --- the page ------------------------------------------------------------------------------------------------------


@pytest.fixture
def page_folder(tmp_path, monkeypatch):
    """A folder with the page's script and a log of two episodes; tests/end_to_end/test_pages.py runs the commands."""
    for block in blocks(ROOT / "docs/processing.md"):
        if block.rule == "save":
            (tmp_path / block.value).write_text(block.text)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.csv").write_text("episode,action,reward\n1,0,1\n1,1,1\n2,0,1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    return tmp_path


@pytest.mark.slow
def test_a_dry_run_prints_a_document_that_run_takes(page_folder):
    folder = page_folder
    command = ("process", "keep_long.py", "-i", "raw=logs:/opt/ml/processing/input", "--dry-run")
    shown = run_launcher(*command, cwd=folder)
    assert "/opt/ml/processing/.inputs/raw" in shown.stdout
    document = run_launcher("process", "--command", "python3 --version", "--dry-run", "--json", cwd=folder).stdout
    (folder / "job.json").write_text(document)
    ran = run_launcher("run", "job.json", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    assert "Python 3" in ran.stdout


def test_a_command_that_does_not_say_enough_is_told_so():
    with pytest.raises(BadInputError, match="nothing is named to run"):
        commands.process()
    for convert, text, words in (
        (commands.as_input, "logs", "does not say where the job sees it"),
        (commands.as_output, "logs", "names no folder of the job"),
    ):
        with pytest.raises(BadInputError, match=words):
            convert(text, "EndOfJob")
    given = commands.as_input("raw=s3://logs/a=b:/opt/ml/processing/input", "FullyReplicated")
    assert (given.input_name, given.source, given.destination) == ("raw", "s3://logs/a=b", "/opt/ml/processing/input")
    output = commands.as_output("/opt/ml/processing/output:s3://logs/out", "EndOfJob")
    assert (output.output_name, output.source, output.destination) == (
        None,
        "/opt/ml/processing/output",
        "s3://logs/out",
    )
