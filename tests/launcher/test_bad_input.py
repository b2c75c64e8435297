"""Every bad input is refused before anything happens: named, with what to do, exit code 2 and no traceback."""

import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import launcher
from launcher import errors
from launcher.runtimes.probe import engine_answers
from launcher.settings import data_path
from tests.fakes import FakeRuntime
from tests.shell import launcher_environment, run_launcher
from tests.users import without_rights

PRESETS = data_path("presets")


@pytest.fixture
def source(make_source):
    return make_source("print('hello')")


def estimate(source, **options):
    defaults = {"entry_point": "train.py", "source_dir": source, "runtime": FakeRuntime()}
    return launcher.Estimator(**{**defaults, **options})


def refused(home, kind, pattern, act):
    """``act`` raises ``kind``, whose text has what and what to do, and leaves the home as it was: not there."""
    with pytest.raises(kind) as caught:
        act()
    error = caught.value
    assert re.search(pattern, str(error)), str(error)
    assert error.exit_code == 2
    assert error.hint, "it says what is wrong, but not what to do"
    assert not home.exists(), "something was written before the input was refused"


def _socket(folder):
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(folder / "s"))


SOURCES = {
    "missing folder": (lambda f: {"source_dir": str(f / "nowhere")}, r"source_dir .*nowhere does not exist"),
    "file as folder": (lambda f: {"source_dir": str(f / "train.py")}, r"is a file, not a folder"),
    "empty folder": (lambda f: (f / "e").mkdir() or {"source_dir": str(f / "e")}, r"is empty"),
    "missing script": (lambda f: {"entry_point": "trian.py"}, r"does not exist.\n  Did you mean train.py"),
    "script outside": (lambda f: {"entry_point": "../train.py"}, r"lies outside source_dir"),
    "absolute script": (lambda f: {"entry_point": str(f / "train.py")}, r"lies outside source_dir"),
    "script is a folder": (lambda f: (f / "d").mkdir() or {"entry_point": "d"}, r"is not a file"),
    "not executable": (lambda f: (f / "run").write_text("x") and {"entry_point": "run"}, r"chmod \+x"),
    "socket inside": (lambda f: _socket(f) or {}, r"is a socket, pipe or device"),
    "link that leaves": (lambda f: (f / "l").symlink_to("/etc/passwd") or {}, r"is a link to /etc/passwd"),
    "dangling link": (lambda f: (f / "l").symlink_to("nowhere") or {}, r"is not there or lies outside"),
    "missing dependency": (lambda f: {"dependencies": [str(f / "lib")]}, r"dependency .*lib does not exist"),
    "colliding names": (lambda f: {"dependencies": [_other(f, "train.py")]}, r"would both be packed as 'train.py'"),
    "no script": (lambda f: {"entry_point": None}, r"no entry_point"),
    "missing archive": (lambda f: {"source_dir": "s3://bucket/s.tar.gz"}, r"the source of job .*No S3 objects"),
}


def _other(folder, name):
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / name).write_text("")
    return str(folder.parent / "other" / name)


@pytest.mark.parametrize(("make", "pattern"), SOURCES.values(), ids=SOURCES)
def test_bad_sources(make, pattern, source, home):
    refused(home, errors.SourceError, pattern, lambda: estimate(source, **make(Path(source))).fit())


def without_rights_fit(home, tmp_path, **options):
    """Run ``fit`` as somebody to whom file modes apply; return what it says."""
    script = f"import launcher; launcher.Estimator(entry_point='train.py', runtime='process', **{options!r}).fit()"
    answer = subprocess.run(
        without_rights([sys.executable, "-c", script]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=launcher_environment(),
        check=False,
    )
    assert answer.returncode == 1
    assert not home.exists()
    return answer.stderr


def test_an_unreadable_source_file(source, home, tmp_path):
    (Path(source) / "secret").touch(mode=0)
    assert "secret cannot be read" in without_rights_fit(home, tmp_path, source_dir=source)


def test_an_output_path_that_cannot_be_written(source, home, tmp_path):
    (tmp_path / "sealed").mkdir(mode=0o555)
    said = without_rights_fit(home, tmp_path, source_dir=source, output_path=str(tmp_path / "sealed" / "out"))
    assert "sealed is not writable" in said


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "problem"),
    [
        (0o555, 0o600, "place is not writable"),
        (0o333, 0o600, "place cannot be read"),
        (0o755, 0, "place/epoch cannot be read"),
    ],
)
def test_a_place_for_checkpoints_without_the_rights(source, home, tmp_path, folder_mode, file_mode, problem):
    place = tmp_path / "place"
    place.mkdir()
    (place / "epoch").touch(mode=file_mode)
    place.chmod(folder_mode)
    said = without_rights_fit(home, tmp_path, source_dir=source, checkpoint_s3_uri=str(place))
    assert f"checkpoint_s3_uri=file://{place}: " in said
    assert problem in said


@pytest.mark.parametrize("place", ["rows", "rows/deep", "link/checkpoints"])
def test_checkpoints_inside_a_channel_are_refused(source, home, tmp_path, place):
    """They would be data for the next job."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "rows")
    estimator = estimate(source, checkpoint_s3_uri=tmp_path / place)
    refused(
        home,
        errors.OutputPathError,
        "lies inside channel 'train'",
        lambda: estimator.fit({"train": tmp_path / "rows"}),
    )


def test_a_checkpoint_prefix_inside_a_channel_of_s3_is_refused(source, tmp_path):
    session = launcher.Session(mode="s3")
    (tmp_path / "a.csv").write_text("1")
    session.upload_data(tmp_path / "a.csv", key_prefix="rows/deep")
    uri = session.uri(session.default_bucket(), "rows")
    for place in (uri, f"{uri}/", f"{uri}/ck", f"{uri}-ck"):
        with pytest.raises(errors.OutputPathError, match="inside channel 'train'"):
            estimate(source, checkpoint_s3_uri=place, sagemaker_session=session).fit({"train": uri})
    assert estimate(source, checkpoint_s3_uri=f"{uri}-ck", sagemaker_session=session).plan({"train": f"{uri}/"})


def test_checkpoints_around_other_places_of_the_job_are_refused(source, home, tmp_path):
    for options, around in (({}, "/home/jobs/"), ({"output_path": tmp_path / "out"}, "/out/.*/model.tar.gz")):
        estimator = estimate(source, checkpoint_s3_uri=tmp_path, **options)
        refused(home, errors.OutputPathError, rf"contains file://.*{around}", estimator.fit)


def test_a_home_that_cannot_be_written(source, tmp_path, monkeypatch):
    (tmp_path / "sealed").mkdir(mode=0o555)
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "sealed" / "home"))
    said = without_rights_fit(tmp_path / "sealed" / "home", tmp_path, source_dir=source)
    assert "is not a folder that can be written" in said


HYPERPARAMETERS = {
    "set": ({"a": {1}}, r"'a' is a set that JSON cannot hold"),
    "a number of 5000 digits": ({"a": 10**5000}, r"'a' is a int that JSON cannot hold"),
    "the estimator's own": ({"sagemaker_program": "x.py"}, r"'sagemaker_program' is set by the estimator"),
    "bytes": ({"a": b"x"}, r"'a' is a bytes"),
    "object": ({"a": object()}, r"'a' is a object"),
    "not a number": ({"a": float("nan")}, r"'a' is a float that JSON cannot hold"),
    "infinite": ({"a": float("inf")}, r"'a' is a float that JSON cannot hold"),
    "name not text": ({1: 1}, r"name 1 is"),
    "name with =": ({"a=b": 1}, r"'a=b' has a space, a '='"),
    "name with space": ({"a b": 1}, r"'a b' has a space"),
    "name with dash": ({"--a": 1}, r"leading '-'"),
    "empty name": ({"": 1}, r"name '' is empty"),
    "too long": ({"a": "x" * 3000}, r"'{a=...}' at 'hyperParameters'.*length less than or equal to 2500"),
    "too many": ({f"a{i}": 1 for i in range(101)}, r"at 'hyperParameters'.*length less than or equal to 100"),
}


@pytest.mark.parametrize(("values", "pattern"), HYPERPARAMETERS.values(), ids=HYPERPARAMETERS)
def test_bad_hyperparameters(values, pattern, source, home):
    refused(home, errors.BadInputError, pattern, lambda: estimate(source, hyperparameters=values).fit())


CHANNELS = {
    "missing path": ({"train": "/no/such/place"}, r"channel 'train' of job '.*': /no/such/place does not exist"),
    "relative URI": ({"train": "file://host/data"}, r"/host/data does not exist"),
    "unknown scheme": ({"train": "ftp://host/data"}, r"unknown scheme 'ftp://'"),
    "missing bucket": ({"train": "s3://bucket/key"}, r"channel 'train' of job '.*': No S3 objects found under S3 URL"),
    "no bucket": ({"train": "s3://"}, r"channel 'train'.*The specified bucket is not valid"),
    "bad name": ({"tr ain": "."}, r"'tr ain' at 'inputDataConfig.1.member.channelName'"),
    "name that climbs": ({"..": "."}, r"channel name '..'"),
    "slash": ({"a/b": "."}, r"'a/b' at 'inputDataConfig.1.member.channelName'"),
    "empty path": ({"train": ""}, r"is not a path"),
    "number": ({"train": 3}, r"channel 'train': TrainingInput\(s3_data=3\) is not a path"),
    "list": (["."], r"inputs are a list"),
    "too many": ({f"c{i}": "." for i in range(21)}, r"at 'inputDataConfig'.*length less than or equal to 20"),
}


@pytest.mark.parametrize(("inputs", "pattern"), CHANNELS.values(), ids=CHANNELS)
def test_bad_channels(inputs, pattern, source, home):
    refused(home, errors.BadInputError, pattern, lambda: estimate(source).fit(inputs))


def test_an_empty_channel_folder_is_refused(source, home, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(home, errors.ChannelError, "empty folder", lambda: estimate(source).fit(str(tmp_path / "empty")))


_SPOT = {"use_spot_instances": True, "max_wait": 86400}
OPTIONS = {
    "no hosts": ({"instance_count": 0}, r"instance_count=0|instance_count"),
    "hosts as text": ({"instance_count": "two"}, r"instance_count='two'"),
    "unknown type": ({"instance_type": "ml.m5.xlrage"}, r"Did you mean ml.m5.xlarge"),
    "gpu": ({"instance_type": "local_gpu"}, r"local_gpu"),
    "no time": ({"max_run": 0}, r"max_run=0"),
    "time as text": ({"max_run": "1h"}, r"max_run='1h'"),
    "misspelt option": ({"hyper_parameters": {}}, r"no option 'hyper_parameters'.\n  Did you mean 'hyperparameters'"),
    "spot without an end": ({"use_spot_instances": True}, r"Invalid MaxWaitTimeInSeconds. It must be present and be"),
    "spot with too little time": (
        {"use_spot_instances": True, "max_run": 60, "max_wait": 59},
        r"Invalid MaxWaitTimeInSeconds.* greater than or equal to MaxRuntimeInSeconds.\n.*is the option max_wait",
    ),
    "a wait for nothing": ({"max_wait": 60}, r"only supported when EnableManagedSpotTraining is set to true"),
    "interruptions for nothing": ({"spot_interruptions": ["after:1s"]}, r"interrupts spot jobs alone"),
    "no interruption": (
        {**_SPOT, "spot_interruptions": ["soon"]},
        r"SpotInterruptions: 'soon' is no interruption.\n.*at-line:REGEX",
    ),
    "an improbable interruption": ({**_SPOT, "spot_interruptions": ["random:2"]}, r"'random:2' is no interruption"),
    "an interruption at no line": ({**_SPOT, "spot_interruptions": ["at-line:("]}, r"is not a regular expression"),
    "interruptions without end": (
        {**_SPOT, "spot_interruptions": ["random:0.1", "after:1s"]},
        r"'after:1s' follows 'random:0.1', which interrupts every attempt",
    ),
    "interruptions as a text": ({**_SPOT, "spot_interruptions": "after:1s"}, r"is not a list of texts"),
    "too many retries": ({"max_retry_attempts": 31}, r"max_retry_attempts=31"),
    "input mode": ({"input_mode": "Tube"}, r"input_mode='Tube'.*\[Pipe, File, FastFile\]"),
    "subnets without groups": ({"subnets": ["subnet-1"]}, r"VpcConfig|security_group_ids"),
    "checkpoints in no bucket": ({"checkpoint_s3_uri": "s3://B/c"}, r"checkpoint_s3_uri: .*bucket is not valid"),
    "checkpoints in a missing bucket": (
        {"checkpoint_s3_uri": "s3://bucket/c"},
        r"checkpoint_s3_uri=s3://bucket/c: .*The specified bucket does not exist",
    ),
    "checkpoints out of the bucket": ({"checkpoint_s3_uri": "s3://bucket/../c"}, r"checkpoint_s3_uri: .*\n.*'\.\.'"),
    "checkpoints elsewhere": ({"checkpoint_s3_uri": "https://b/c"}, r"checkpoint_s3_uri: .*scheme 'https://'"),
    "checkpoints as a number": ({"checkpoint_s3_uri": 3}, r"checkpoint_s3_uri=3\) is not a path"),
    "checkpoints everywhere": ({"checkpoint_s3_uri": "/"}, r"checkpoint_s3_uri is the root of the disk"),
    "checkpoints in a file": ({"checkpoint_s3_uri": __file__}, r"checkpoint_s3_uri=.*test_bad_input.py is a file"),
    "no place for checkpoints": ({"checkpoint_local_path": "/opt/ml/ck"}, r"nothing where they go.\n.*_s3_uri"),
    **{
        f"checkpoints at {path}": (
            {"checkpoint_s3_uri": "ck", "checkpoint_local_path": path},
            rf"checkpoint_local_path='{path}' is in the way of /",
        )
        for path in ("/", "/opt/ml", "/opt/ml/input/data", "//opt/ml/./model/", "/usr/lib")
    },
    **{
        f"checkpoints at '{path}'": (
            {"checkpoint_s3_uri": "ck", "checkpoint_local_path": path},
            r"is no absolute path without '\.\.'",
        )
        for path in ("", "checkpoints", "/opt/ml/checkpoints/../model", "/a\nb")
    },
    "checkpoints of a process outside": (
        {"checkpoint_s3_uri": "ck", "checkpoint_local_path": "/checkpoints", "runtime": "process"},
        r'process runtime can put nothing at /checkpoints.*\n.*"docker"',
    ),
    "bad metric": ({"metric_definitions": [{"Name": "a", "Regex": "("}]}, r"not a regular expression"),
    "metric without group": ({"metric_definitions": [{"Name": "a", "Regex": "a"}]}, r"has no group"),
    "bad variable": ({"environment": {"1A": "x"}}, r"Value '1A' at 'environment'"),
    "variable not text": ({"environment": {"A": 1}}, r"Environment\['A'\], value: 1"),
    "unknown image": ({"image_uri": "unknown", "entry_point": None, "source_dir": None}, r"image 'unknown'"),
    "unknown runtime": ({"runtime": "dokcer"}, r"'dokcer' is no runtime"),
    "output in a missing bucket": ({"output_path": "s3://bucket/p"}, r"The specified bucket does not exist"),
    "output in no bucket": ({"output_path": "s3://B/p"}, r"The specified bucket is not valid"),
    "unknown mode": ({"mode": "S3"}, r"mode='S3'.*no mode.\n  Use one of: local, s3"),
    "unwritable role": ({"role": "a b"}, r"'roleArn'.*pattern.*\n.*option role"),
    "more than 28 days": ({"max_run": 28 * 86400 + 1}, r"more than 28 days.\n.*option max_run"),
    "a second place for text": ({"tags": [{"Key": "a"}]}, r"'tags.1.member.value'.*must not be null"),
    "a half character": ({"environment": {"A": "\ud800"}}, r"is not JSON"),
    **{
        f"{option}={type(value).__name__}{number}": ({option: value}, rf"{option}(=|\b)")
        for option, values in {
            "hyperparameters": (5, "x"),
            "environment": (5, "x", ["a"]),
            "tags": (5, [{"Key": 1, "Value": 2}]),
            "metric_definitions": (5, "x", [1]),
            "source_dir": (5, "~nouser/x", "a" * 300, "a\0b"),
            "entry_point": (5, "", "a/" * 2500, "a\0b"),
            "output_path": (5, b"", "", "a" * 300),
            "code_location": (5, ""),
            "dependencies": (5, [5], "abc", ["\0"]),
            "instance_type": (["local"], "nonsense"),
            "base_job_name": (5,),
            "model_uri": (5, "a\0"),
            "model_channel_name": (5, None),
            "container_entry_point": (5, "x", []),
            "container_arguments": ([5],),
            "role": (5,),
            "enable_network_isolation": ("yes",),
            "max_run": (None, True, 10**5000),
            "container_log_level": ("x", True, -1),
            "image_uri": (5,),
            "disable_profiler": ("x",),
            "input_mode": ("x",),
        }.items()
        for number, value in enumerate(values)
    },
    "a session of another kind": ({"sagemaker_session": object()}, r"builtins.object.*\n.*launcher.Session"),
}


@pytest.mark.parametrize(("options", "pattern"), OPTIONS.values(), ids=OPTIONS)
def test_bad_options(options, pattern, source, home):
    def act():
        try:
            estimate(source, **options).fit()
        except errors.ImageError as error:
            raise errors.ImageError(error.message, "as a real runtime would say") from error

    refused(home, errors.BadInputError, pattern, act)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("input_mode", "Tube"),
        ("use_spot_instances", "yes"),
        ("subnets", "subnet-1"),
        ("instance_count", "two"),
        ("instance_type", "nonsense"),
        ("volume_size", "big"),
        ("environment", {1: 2}),
        ("tags", 5),
        ("max_run", "1h"),
        ("entry_point", 5),
        ("dependencies", 5),
        ("metric_definitions", [{"Name": "a", "Regex": "("}]),
        ("container_arguments", "x"),
        ("checkpoint_local_path", "/opt/ml/model"),
        ("sagemaker_session", 5),
        ("hyperparameters", {"a": 1}),
        ("enable_network_isolation", True),
        ("output_path", 5),
    ],
)
def test_an_attribute_that_is_set_later_is_checked_when_a_job_is_submitted(attribute, value, source, home):
    estimator = estimate(source)

    def act():
        setattr(estimator, attribute, value)
        estimator.fit()

    refused(home, errors.BadInputError, rf"{attribute}|metric definition", act)


NAMES = {
    "too long": ("a" * 64, r"at 'trainingJobName'.*length less than or equal to 63"),
    "underscore": ("my_job", r"Value 'my_job' at 'trainingJobName'.*pattern"),
    "leading dash": ("-job", r"Value '-job' at"),
    "climbing": ("../job", r"Value '../job' at"),
    "empty": ("", r"Value '' at 'trainingJobName'.*length greater than or equal to 1"),
    "number": (5, r"Invalid type for parameter TrainingJobName, value: 5"),
}


@pytest.mark.parametrize(("name", "pattern"), NAMES.values(), ids=NAMES)
def test_bad_job_names(name, pattern, source, home):
    refused(home, errors.JobNameError, pattern, lambda: estimate(source).fit(job_name=name))


def test_a_used_name_is_refused_in_the_words_of_aws(source):
    estimate(source).fit(job_name="job-1", logs=False)
    with pytest.raises(errors.JobExistsError, match="a training job with this name already exists") as caught:
        estimate(source).fit(job_name="job-1")
    assert caught.value.aws_code == "ResourceInUse"


def test_results_of_another_home_are_not_overwritten(source, tmp_path, monkeypatch):
    options = {"output_path": str(tmp_path / "results")}
    writes = "import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w')"
    (Path(source) / "train.py").write_text(writes)
    estimate(source, **options).fit(job_name="job-1", logs=False)
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "another"))
    with pytest.raises(errors.OutputPathError, match="is there already"):
        estimate(source, **options).fit(job_name="job-1")


def test_an_output_path_that_is_a_file(source, home, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(
        home, errors.OutputPathError, "is a file", lambda: estimate(source, output_path=str(tmp_path / "file")).fit()
    )


def test_an_output_path_inside_a_channel(source, home, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("a")
    act = estimate(source, output_path=str(tmp_path / "data" / "out"))
    refused(home, errors.OutputPathError, "lies inside channel", lambda: act.fit(str(tmp_path / "data")))


def test_no_home(source, monkeypatch):
    monkeypatch.delenv("LAUNCHER_HOME")
    monkeypatch.delenv("HOME")
    with pytest.raises(errors.SettingsError, match="neither LAUNCHER_HOME nor HOME"):
        estimate(source).fit()


def test_a_home_that_is_a_file(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "file"))
    with pytest.raises(errors.SettingsError, match="is a file"):
        estimate(source).fit()


def test_no_engine(source, home, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    act = estimate(source, runtime="docker")
    refused(home, errors.RuntimeUnavailableError, r"no Docker engine answers.*\n.*process", act.fit)


def test_a_process_cannot_run_an_image(home):
    act = launcher.Estimator("my-image", runtime="process")
    refused(home, errors.RuntimeUnavailableError, "cannot run the image my-image", act.fit)


PRESET_TEXTS = {
    "empty": ("", "empty"),
    "not a mapping": ("- a\n", "mapping"),
    "tabs": ("agent:\n\tdiscount: 0.9\n", "(?i)tab"),
    "duplicate key": ("agent:\n  discount: 0.9\n  discount: 0.9\n", "line 3: key .* again"),
    "python tag": ("kind: !!python/object:os.system x\n", "tag"),
}


@pytest.mark.parametrize(("text", "pattern"), PRESET_TEXTS.values(), ids=PRESET_TEXTS)
def test_bad_preset_files(text, pattern, home, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(errors.PresetError, match=pattern) as caught:
        launcher.fit(str(path), runtime=FakeRuntime())
    assert "mine.yaml" in str(caught.value)
    assert not home.exists()


def edited_preset(tmp_path, old, new):
    text = (PRESETS / "preset-cartpole-ddqnbcq.yaml").read_text()
    assert re.search(old, text)
    path = tmp_path / "mine.yaml"
    path.write_text(re.sub(old, new, text, count=1))
    return str(path)


def test_a_misspelt_key_in_a_preset_names_line_and_nearest(home, tmp_path):
    path = edited_preset(tmp_path, r"\blearning_rate:", "learning_rte:")
    pattern = r"mine.yaml, line \d+: unknown key '.*learning_rte'; did you mean '.*learning_rate'"
    with pytest.raises(errors.PresetError, match=pattern):
        launcher.fit(path, runtime=FakeRuntime())
    assert not home.exists()


def test_a_preset_value_of_the_wrong_type(home, tmp_path):
    path = edited_preset(tmp_path, r"\blearning_rate:\s*\S+", "learning_rate: fast")
    with pytest.raises(errors.PresetError, match="learning_rate"):
        launcher.fit(path, runtime=FakeRuntime())
    assert not home.exists()


def test_an_unknown_preset_names_the_nearest(home):
    with pytest.raises(errors.PresetError, match="did you mean 'preset-cartpole-ddqnbcq'"):
        launcher.fit("preset-cartpole-ddqnbqc", runtime=FakeRuntime())
    assert not home.exists()


def test_a_misspelt_override_names_the_nearest(home):
    with pytest.raises(errors.PresetError, match=r"agent.learning_rate"):
        launcher.fit("preset-cartpole-ddqnbcq", hyperparameters={"agent.learning_rte": 1e-3}, runtime=FakeRuntime())
    assert not home.exists()


COMMANDS = {
    "missing script": ["fit", "nowhere.py"],
    "unknown preset": ["fit", "--preset", "nope"],
    "unknown option": ["fit", "--nope"],
    "unknown command": ["nope"],
    "unknown job": ["describe", "nope"],
    "unknown job's log": ["logs", "nope"],
    "bad hyperparameter": ["fit", "--preset", "preset-cartpole-ddqnbcq", "-p", "novalue"],
    "bad channel": ["fit", "--preset", "preset-cartpole-ddqnbcq", "-i", "train=/no/such"],
    "two channels of one name": ["fit", "--preset", "preset-cartpole-ddqnbcq", "-i", "a=/etc", "-i", "a=/usr"],
    "count as text": ["fit", "--preset", "preset-cartpole-ddqnbcq", "--instance-count", "two"],
    "unknown runtime": ["fit", "--preset", "preset-cartpole-ddqnbcq", "-r", "k8s"],
    "empty entry point": ["fit", ""],
    "a hyperparameter twice": ["fit", "hello.py", "-p", "x=1", "-p", "x=2"],
    "entry point too long": ["fit", "a" * 5000],
    "entry point too long for its folder": ["fit", "a" * 300, "--source-dir", "."],
    "source folder too long": ["fit", "hello.py", "--source-dir", "a" * 300],
    "channel too long": ["fit", "hello.py", "-i", "train=" + "a" * 5000],
    "lone channel too long": ["fit", "hello.py", "-i", "a" * 5000],
    "path of many parts": ["fit", "hello.py", "-i", "train=" + "a/" * 3000],
    "output path too long": ["fit", "hello.py", "--output-path", "a" * 300],
    "output path of the kernel": ["fit", "hello.py", "-r", "process", "--output-path", "/proc/x"],
    "output path of the kernel by a link": ["fit", "hello.py", "-r", "process", "--output-path", "/dev/fd/x"],
    "checkpoints too long": ["fit", "hello.py", "--checkpoint-s3-uri", "a" * 300],
    "checkpoints of the kernel": ["fit", "hello.py", "-r", "process", "--checkpoint-s3-uri", "/sys/x"],
    "no such user": ["fit", "hello.py", "-i", "train=~no-such-user/x"],
    "preset file too long": ["fit", "--preset", f"./{'a' * 300}.yaml"],
    "preset too long": ["fit", "--preset", "a" * 300],
    "preset to show too long": ["presets", "show", "a" * 300],
    "job too long": ["describe", "a" * 5000],
    "dataset too long": ["ope", "-d", "a" * 5000, "-c", "."],
    "checkpoint too long": ["ope", "-d", "hello.py", "-c", "/" + "a" * 5000],
    "file to copy too long": ["storage", "cp", "a" * 5000, "s3://bucket/key"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_the_command_line_says_it_with_exit_code_2(arguments, home, tmp_path):
    (tmp_path / "hello.py").write_text("print('hello')")
    answer = run_launcher(*arguments, cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.strip()
    assert "Traceback" not in answer.stderr
    assert not home.exists()


@pytest.mark.parametrize("command", [["fit", "hello.py"], ["fit", "hello.py", "-r", "docker"], ["doctor"]])
def test_an_engines_address_that_is_none(command, tmp_path):
    (tmp_path / "hello.py").write_text("print('hello')")
    answer = run_launcher(*command, cwd=tmp_path, DOCKER_HOST="http://[bad")
    assert answer.returncode == 2
    assert answer.stderr.startswith("SettingsError: DOCKER_HOST is 'http://[bad', which is no address")


@pytest.mark.parametrize("command", [["ls"], ["fit", "hello.py", "-r", "process"], ["describe", "latest"]])
@pytest.mark.parametrize("kind", ["sealed", "below a sealed folder", "too long"])
def test_a_home_that_cannot_be_read(command, kind, tmp_path):
    (tmp_path / "hello.py").write_text("print('hello')")
    sealed = tmp_path / "sealed"
    sealed.mkdir(mode=0)
    home = {"sealed": sealed, "below a sealed folder": sealed / "home", "too long": tmp_path / ("a" * 300)}[kind]
    answer = subprocess.run(
        without_rights([sys.executable, "-m", "launcher", *command]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=launcher_environment(LAUNCHER_HOME=str(home)),
        check=False,
    )
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.startswith("SettingsError: LAUNCHER_HOME")


def test_a_circle_of_links_in_the_source_is_named(source, home):
    (Path(source) / "a").symlink_to("b")
    (Path(source) / "b").symlink_to("a")
    refused(home, errors.SourceError, "a is a link that leads in a circle", estimate(source).fit)


def test_a_preset_file_may_end_in_yml(home, tmp_path, monkeypatch):
    text = (PRESETS / "preset-cartpole-random.yaml").read_text()
    (tmp_path / "mine.yml").write_text(text)
    run = partial(run_launcher, cwd=tmp_path)
    answer = run("fit", "collect.py", "--preset", "./mine.yml", "-r", "process", "--dry-run")
    assert answer.returncode == 0, answer.stderr
    assert "source     mine.yml" in answer.stdout
    monkeypatch.setenv("LAUNCHER_PRESETS_DIR", str(tmp_path))
    assert [line.split()[0] for line in run("presets", "ls").stdout.splitlines()] == ["PRESET", "mine"]
    assert "for collect.py" in run("presets", "show", "mine").stdout
    assert run("fit", "collect.py", "--preset", "mine", "-r", "process", "--dry-run").returncode == 0
    answer = run("fit", "collect.py", "--preset", "./mine.yml", "-p", "nonsense=1", "--dry-run")
    assert answer.returncode == 2
    assert "nonsense" in answer.stderr
    assert not home.exists()


def test_a_bundled_entry_point_without_a_preset(home):
    act = launcher.Estimator(entry_point="train.py", source_dir=str(data_path("entrypoints")), runtime=FakeRuntime())
    with pytest.raises(errors.PresetError, match="preset"):
        act.fit()
    assert not home.exists()


def test_an_address_of_an_engine_that_is_none(home, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "http://[bad")
    with pytest.raises(errors.SettingsError, match=r"http://\[bad"):
        engine_answers()
    with pytest.raises(errors.SettingsError, match=r"http://\[bad"):
        launcher.Estimator("image:1", runtime="docker").fit()
    assert not home.exists()
