"""The SDK's names: they are there whatever was imported before; estimators of frameworks do what the SDK's do."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import launcher
from launcher import aliases, errors
from launcher.sdk import image_uris, s3, utils
from launcher.sdk.framework_models import (
    HuggingFaceModel,
    PyTorchModel,
    SKLearnModel,
    TensorFlowModel,
    XGBoostModel,
)
from launcher.sdk.framework_predictors import PyTorchPredictor, TensorFlowPredictor, XGBoostPredictor
from launcher.sdk.frameworks import HuggingFace, MXNet, PyTorch, SKLearn, TensorFlow, XGBoost

# Runs each line in a child of its own, so that no module of the SDK's was imported before it. What they are made of may
# be: it takes a second to load.
IN_FRESH_PROCESSES = """
import importlib, json, os, sys
lines, loaded = json.loads(sys.stdin.read())
for module in loaded:
    importlib.import_module(module)
failed = []
for line in lines:
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            exec(line, {})
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(0)
    os.close(writing)
    text = b"".join(iter(lambda: os.read(reading, 65536), b"")).decode()
    os.close(reading)
    os.wait()
    failed.append(text)
print(json.dumps(failed))
"""


def outcomes(lines, *, loaded=()):
    """Return what each line raises in a process in which only ``loaded`` was imported before; nothing where it runs."""
    text = json.dumps([lines, loaded])
    command = [sys.executable, "-c", IN_FRESH_PROCESSES]
    process = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return json.loads(process.stdout)


def sources():
    """Return the modules that the SDK's names come from."""
    folder = Path(aliases.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.py")]
    return sorted({name for text in texts for name in re.findall(r"^from (launcher\.sdk\.\w+) import", text, re.M)})


def alias_files():
    folder = Path(aliases.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        name = str(path.relative_to(folder).with_suffix("")).replace("/", ".").removesuffix("__init__").strip(".")
        if name:
            yield name


def test_a_module_of_the_sdk_is_there_in_every_way_of_importing_it():
    lines = []
    for name in alias_files():
        lines += [
            f"import launcher.{name} as module; [getattr(module, n) for n in module.__all__]",
            f"import launcher as sagemaker; [getattr(sagemaker.{name}, n) for n in sagemaker.{name}.__all__]",
        ]
        parent, _, last = f"launcher.{name}".rpartition(".")
        lines.append(f"from {parent} import {last}; {last}.__all__")
    results = outcomes(lines, loaded=sources())
    assert [(line, outcome) for line, outcome in zip(lines, results, strict=True) if outcome] == []


def test_the_lines_that_programs_have_run_in_any_order():
    lines = [
        "import launcher as sagemaker; sagemaker.session.Session; sagemaker.Session",
        "import launcher as sagemaker; sagemaker.estimator.Estimator; sagemaker.inputs.TrainingInput",
        "from launcher.pytorch.estimator import PyTorch as A; import launcher; assert A is launcher.pytorch.PyTorch",
        "import launcher, sys; assert [m for m in sys.modules if m.startswith('launcher.')] == []",
        "import launcher; assert {'pytorch', 's3', 'session', 'Estimator'} <= set(dir(launcher))",
    ]
    assert outcomes(lines) == [""] * len(lines)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("from launcher.workflow.pipeline import Pipeline", "Call fit() of one estimator after the other"),
        ("import launcher; launcher.amazon", "algorithms have no code outside AWS"),
        ("from launcher import PyTorch", "from launcher.pytorch import PyTorch"),
        ("from launcher.session import production_variant", "launcher.session.production_variant is not emulated"),
        ("import launcher; launcher.inputs.FileSystemInput", "TrainingInput"),
        (
            "from launcher.pytorch import TrainingCompilerConfig",
            "launcher.pytorch.TrainingCompilerConfig is not emulated",
        ),
    ],
)
def test_a_name_that_is_missing_says_what_to_use(line, words):
    (outcome,) = outcomes([line])
    assert outcome.startswith("UnsupportedImportError: ")
    assert words in outcome
    assert "launcher exec" in outcome


def test_a_name_that_nobody_has_is_an_error_of_python():
    absent = outcomes(["import launcher.nothing", "import launcher; launcher.nothing", "from launcher import nothing"])
    assert [outcome.partition(":")[0] for outcome in absent] == ["ModuleNotFoundError", "AttributeError", "ImportError"]


# Estimators of frameworks.

ROLE = "arn:aws:iam::000000000000:role/any"
COMMON = {"role": ROLE, "instance_count": 1, "instance_type": "ml.m5.large"}


@pytest.fixture
def script(make_source):
    return Path(make_source("print('loss=1')"), "train.py")


FRAMEWORKS = {
    "pytorch": (PyTorch, {"framework_version": "1.13.1", "py_version": "py39"}, "pytorch-training:1.13.1-cpu-py39"),
    "tensorflow": (
        TensorFlow,
        {"framework_version": "2.11", "py_version": "py39"},
        "tensorflow-training:2.11-cpu-py39",
    ),
    "mxnet": (MXNet, {"framework_version": "1.9.0", "py_version": "py38"}, "mxnet-training:1.9.0-cpu-py38"),
    "sklearn": (SKLearn, {"framework_version": "1.2-1"}, "sagemaker-scikit-learn:1.2-1-cpu-py3"),
    "xgboost": (XGBoost, {"framework_version": "1.7-1"}, "sagemaker-xgboost:1.7-1"),
    "huggingface": (
        HuggingFace,
        {"transformers_version": "4.26.0", "pytorch_version": "1.13.1", "py_version": "py39"},
        "huggingface-pytorch-training:1.13.1-transformers4.26.0-cpu-py39",
    ),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_estimator_of_a_framework_asks_for_its_image_and_keeps_the_versions(name, script):
    estimator_class, versions, image = FRAMEWORKS[name]
    estimator = estimator_class(entry_point=str(script), hyperparameters={"rate": 0.1}, **versions, **COMMON)
    document = estimator.request(job_name="job-1")
    assert document["AlgorithmSpecification"]["TrainingImage"].endswith(f".dkr.ecr.us-east-1.amazonaws.com/{image}")
    assert document["HyperParameters"]["rate"] == "0.1"
    own = document["Launcher"]["Estimator"]
    assert own["Framework"] == name
    assert own["FrameworkVersion"] == versions.get("framework_version", versions.get("transformers_version"))
    assert own.get("PyVersion") == versions.get("py_version", "py3")
    assert estimator.framework_version == own["FrameworkVersion"]
    assert estimator.training_image_uri() == document["AlgorithmSpecification"]["TrainingImage"]


def test_arguments_stand_where_the_sdk_has_them(script):
    assert PyTorch(str(script), "1.13", "py39", **COMMON).py_version == "py39"
    assert XGBoost(str(script), "1.7-1", **COMMON).framework_version == "1.7-1"
    assert SKLearn(str(script), "1.2-1", "py3", str(script.parent), {"a": 1}, **COMMON).hyperparameters() == {"a": 1}
    assert HuggingFace("py39", str(script), "4.26", None, "1.13", **COMMON).base_framework == "pytorch1.13"
    assert TensorFlow("py39", "2.11", entry_point=str(script), **COMMON).framework_version == "2.11"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda s: PyTorch(s, "1.13"), ValueError, "framework_version or py_version was None, yet image_uri"),
        (lambda s: PyTorch(framework_version="1.13", py_version="py39"), ValueError, "needs an entry point"),
        (lambda s: SKLearn(s, "1.2-1", "py2"), AttributeError, "only supports Python 3"),
        (lambda s: SKLearn(s, "1.2-1", instance_count=2), AttributeError, "does not support distributed training"),
        (lambda s: HuggingFace("py39", s, pytorch_version="1.13"), ValueError, "transformers_version, and image_uri"),
        (lambda s: HuggingFace("py39", s, "4.26"), ValueError, "tensorflow_version and pytorch_version are both None"),
        (lambda s: HuggingFace("py39", s, "4.26", "2.1", "1.1"), ValueError, "are both not None"),
        (
            lambda s: PyTorch(s, "1.13", "py39", distribution={"smdistributed": {"dataparallel": {"enabled": True}}}),
            errors.UnsupportedOptionError,
            "PyTorch(distribution={'smdistributed'",
        ),
        (lambda s: PyTorch(s, "1.13", "py39", training_recipe="r"), errors.UnsupportedOptionError, "training_recipe"),
        (lambda s: MXNet(s, "1.9", "py38", entry_pont="x"), errors.BadInputError, "entry_pont"),
        (lambda s: PyTorchModel("m.tar.gz", ROLE, s), ValueError, "framework_version or py_version was None"),
        (lambda s: SKLearnModel("m.tar.gz", ROLE, s, "1.2-1", "py2"), AttributeError, "only supports Python 3"),
        (lambda s: HuggingFaceModel(ROLE, "m.tar.gz"), ValueError, "transformers_version, and image_uri"),
    ],
)
def test_what_the_sdk_refuses_is_refused_by_its_words(make, error, words, script):
    with pytest.raises(error, match=re.escape(words)) as raised:
        make(str(script))
    assert isinstance(raised.value, errors.BadInputError)


def test_a_script_of_pytorch_runs_and_the_user_is_told_of_another_version(script, home, monkeypatch):
    import torch

    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    estimator = PyTorch(
        "train.py",
        "1.13.1",
        "py39",
        str(script.parent),
        metric_definitions=[{"Name": "loss", "Regex": "loss=(.*)"}],
        **COMMON,
    )
    estimator.fit(logs=False)
    job = estimator.latest_training_job
    assert job.status == "Completed"
    assert job.name.startswith("pytorch-training-")
    version = torch.__version__.partition("+")[0]
    assert any(
        f"PyTorch(framework_version='1.13.1'): this Python has torch {version}" in warning for warning in job.warnings
    )
    again = PyTorch.attach(job.name)
    assert (again.framework_version, again.py_version) == ("1.13.1", "py39")
    with pytest.raises(errors.BadInputError, match="was not begun by SKLearn"):
        SKLearn.attach(job.name)


@pytest.mark.docker
def test_the_name_of_awss_image_stands_for_the_bundled_one_and_a_user_may_say_otherwise(script, home):
    estimator = PyTorch("train.py", "1.13.1", "py39", str(script.parent), runtime="docker", **COMMON)
    estimator.fit(logs=False)
    job = estimator.latest_training_job
    assert job.status == "Completed"
    assert job.image_uri.endswith("/pytorch-training:1.13.1-cpu-py39")
    assert any(
        "PyTorch(framework_version='1.13.1'): the launcher's image has torch 2." in line for line in job.warnings
    )
    (home / "images.toml").write_text('"pytorch-training" = "python:3.11-slim-bookworm"\n')
    assert estimator._warnings("docker") == []


def test_no_word_is_said_of_a_version_that_is_right(script):
    import torch

    major = torch.__version__.partition(".")[0]
    job = PyTorch(str(script), major, "py311", runtime="process", **COMMON).submit(job_name="job-1")
    assert not any("PyTorch(" in warning for warning in job.warnings)


def test_tensorflow_gets_a_folder_for_its_model_unless_it_wants_none(script):
    def texts(**options):
        estimator = TensorFlow(
            "py39", "2.11", entry_point=str(script), output_path="s3://bucket/out", **options, **COMMON
        )
        return estimator.request(job_name="job-1")["HyperParameters"]

    launcher.Session(default_bucket="bucket").default_bucket()
    assert texts()["model_dir"] == '"s3://bucket/out/job-1/model"'
    assert texts(model_dir="s3://bucket/m")["model_dir"] == '"s3://bucket/m"'
    assert "model_dir" not in texts(model_dir=False)


# Models of frameworks.


def test_models_of_frameworks_return_predictors_that_speak_as_theirs_do():
    assert PyTorchModel("m", ROLE, "i.py", "1.13", "py39").predictor_cls is PyTorchPredictor
    assert TensorFlowModel("m", ROLE, framework_version="2.11").predictor_cls is TensorFlowPredictor
    assert TensorFlowPredictor("e").content_type == "application/json"
    assert PyTorchPredictor("e").content_type == "application/x-npy"
    assert (XGBoostPredictor("e").content_type, XGBoostPredictor("e").accept) == ("text/libsvm", ("text/csv",))
    model = XGBoostModel("m", ROLE, "i.py", "1.7-1", model_server_workers=3, env={"A": "b"})
    assert model.env == {"A": "b", "SAGEMAKER_MODEL_SERVER_WORKERS": "3"}


@pytest.mark.parametrize(
    ("model_class", "options", "image"),
    [
        (PyTorchModel, {"framework_version": "1.13", "py_version": "py39"}, "pytorch-inference:1.13-cpu-py39"),
        (SKLearnModel, {"framework_version": "1.2-1"}, "sagemaker-scikit-learn:1.2-1-cpu-py3"),
        (TensorFlowModel, {"framework_version": "2.11"}, "tensorflow-inference:2.11-cpu"),
        (XGBoostModel, {"framework_version": "1.7-1"}, "sagemaker-xgboost:1.7-1"),
        (
            HuggingFaceModel,
            {"transformers_version": "4.26", "pytorch_version": "1.13", "py_version": "py39"},
            "huggingface-pytorch-inference:1.13-transformers4.26-cpu-py39",
        ),
    ],
)
def test_a_model_names_its_image_where_images_run(model_class, options, image, tmp_path):
    def container(runtime):
        model = model_class(model_data=f"{tmp_path}/model.tar.gz", role=ROLE, runtime=runtime, **options)
        return model.request("m")["PrimaryContainer"]

    assert container("docker")["Image"].endswith(f".amazonaws.com/{image}")
    assert "Image" not in container("process")


HANDLERS = """
import os, sys
def model_fn(folder):
    return os.path.exists(folder + "/weights")
def predict_fn(data, model):
    return data * 2 if model else data
if __name__ == "__main__":
    open(os.environ["SM_MODEL_DIR"] + "/weights", "w").write("w")
"""


@pytest.mark.slow
def test_a_trained_framework_is_served_by_the_functions_of_its_script(make_source, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    source = make_source(HANDLERS)
    estimator = PyTorch("train.py", "1.13", "py39", source, **COMMON)
    estimator.fit(logs=False)
    predictor = estimator.deploy(1, "ml.m5.large")
    try:
        assert isinstance(predictor, PyTorchPredictor)
        assert predictor.predict([[1.0, 2.0]]).tolist() == [[2.0, 4.0]]
    finally:
        predictor.delete_endpoint()


# Images.


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (
            ("pytorch", "eu-west-1", "2.0.0", "py310", "ml.g4dn.xlarge"),
            {"image_scope": "inference"},
            "763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch-inference:2.0.0-gpu-py310",
        ),
        (
            ("tensorflow", "us-east-1", "2.11"),
            {"image_scope": "inference", "instance_type": "local"},
            "763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-inference:2.11-cpu",
        ),
        (("xgboost", "us-east-1", "1.7-1"), {}, "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"),
        (
            ("coach-tensorflow", "us-east-1", "0.11.0"),
            {},
            "462105765813.dkr.ecr.us-east-1.amazonaws.com/sagemaker-rl-coach-container:coach-0.11.0-tf-cpu-py3",
        ),
    ],
)
def test_an_image_is_named_as_aws_names_it(arguments, options, expected):
    assert image_uris.retrieve(*arguments, **options) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("linear-learner", "us-east-1"), "image_uris.retrieve('linear-learner') is not emulated"),
        (("pytorch", "us-east-1"), "needs a version"),
        (("pytorch", "us-east-1", "1.13", "py39"), "needs image_scope"),
        (("mxnet", "us-east-1", "1.9", None, None, None, "training"), "needs py_version"),
        (("huggingface", "us-east-1", "4.26", "py39", None, None, "training"), "needs base_framework_version"),
        (("pytorch", "us-east-1", "1.13", "py39", None, None, "serving"), "Unsupported image scope: serving"),
    ],
)
def test_an_image_that_has_no_counterpart_or_no_whole_name_is_refused(arguments, words):
    with pytest.raises(errors.BadInputError, match=re.escape(words)):
        image_uris.retrieve(*arguments)


# S3.


@pytest.mark.parametrize("mode", ["local", "s3"])
def test_files_texts_and_bytes_go_to_s3_and_come_back(tmp_path, mode):
    session = launcher.Session(mode=mode)
    bucket = session.default_bucket()
    base = f"s3://{bucket}/base"
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.csv").write_text("a")
    up, down = s3.S3Uploader, s3.S3Downloader
    assert up.upload(str(tmp_path / "in"), f"{base}/folder", sagemaker_session=session) == f"{base}/folder"
    assert up.upload(str(tmp_path / "in" / "deep" / "a.csv"), base, sagemaker_session=session) == f"{base}/a.csv"
    assert up.upload_string_as_file_body("t\xfc", f"{base}/t", sagemaker_session=session) == f"{base}/t"
    assert up.upload_bytes(io.BytesIO(b"\x00"), f"{base}/b", sagemaker_session=session) == f"{base}/b"
    assert down.list(base, session) == [f"{base}/{key}" for key in ("a.csv", "b", "folder/deep/a.csv", "t")]
    assert down.read_file(f"{base}/t", session) == "t\xfc"
    assert down.read_bytes(f"{base}/b", session) == b"\x00"
    (path,) = down.download(f"{base}/folder", tmp_path / "out", sagemaker_session=session)
    assert Path(path).read_text() == "a"


def test_results_of_local_mode_are_read_by_the_same_calls(tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "model.tar.gz").write_bytes(b"m")
    uri = f"file://{tmp_path}/output"
    assert s3.S3Downloader.list(uri) == [f"{uri}/model.tar.gz"]
    assert s3.S3Downloader.read_bytes(f"{uri}/model.tar.gz") == b"m"
    for source in (uri, f"{uri}/model.tar.gz"):
        (path,) = s3.S3Downloader.download(source, tmp_path / "copy")
        assert Path(path).read_bytes() == b"m"


def test_uris_of_s3_are_taken_apart_and_joined_as_the_sdk_does():
    assert s3.parse_s3_url("s3://bucket/a/b") == ("bucket", "a/b")
    with pytest.raises(ValueError, match="Expecting 's3' scheme, got: http"):
        s3.parse_s3_url("http://bucket/a")
    assert s3.is_s3_url("s3://b")
    assert not s3.is_s3_url("file:///b")
    assert s3.s3_path_join("s3://", "//foo/", "/bar///baz") == "s3://foo/bar/baz"
    assert s3.s3_path_join("/foo", "bar/") == "foo/bar"
    assert s3.s3_path_join("foo", "", None, "bar", with_end_slash=True) == "foo/bar/"
    with pytest.raises(errors.UnsupportedOptionError, match="kms_key"):
        s3.S3Uploader.upload("x", "s3://bucket/x", kms_key="k")


def test_names_are_made_as_the_sdk_makes_them():
    name = utils.name_from_base("b" * 80)
    assert len(name) == 63
    assert re.fullmatch(r"b{39}-\d{4}(-\d{2}){5}-\d{3}", name)
    assert utils.base_from_name(utils.name_from_base("my-job")) == "my-job"
    assert utils.base_from_name(utils.name_from_base("my-job", short=True)) == "my-job"
    assert utils.base_from_name("plain") == "plain"
    assert re.fullmatch(r"my-\d{10}-[0-9a-f]{4}", utils.unique_name_from_base("my"))
    assert utils.base_name_from_image("1.dkr.ecr.us-east-1.amazonaws.com/a/algo:1") == "algo"
    assert utils.name_from_image("a/algo@sha256:1").startswith("algo-")
    assert utils.get_short_version("1.13.1") == "1.13"
