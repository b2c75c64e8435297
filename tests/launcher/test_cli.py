"""The command line, as a shell sees it."""

import json
import subprocess
import sys
import time

import pytest

import launcher
from launcher.cli.ope import as_csv, as_table
from launcher.settings import DEFAULT_BUCKET
from tests.shell import launcher_environment, run_launcher


@pytest.fixture
def run(tmp_path):
    def run(*arguments, code=0, **variables):
        answer = run_launcher(*arguments, cwd=tmp_path, **{"COLUMNS": "100", **variables})
        assert answer.returncode == code, answer.stderr + answer.stdout
        return answer.stdout

    return run


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "hello.py"
    path.write_text("import sys; print('hello', *sys.argv[1:])")
    return str(path)


def test_every_command_has_help(run):
    commands = ["demo", "fit", "run", "logs", "ls", "describe", "plot", "ope", "doctor", "stop"]
    text = run("--help")
    for command in commands:
        assert command in text
        assert "Usage: launcher" in run(command, "--help")


def test_fit_runs_a_script_and_says_where_its_results_are(run, script, home):
    said = run("fit", script, "-r", "process", "-p", "epochs=3", "-p", "name=a b", "--job-name", "job-1")
    assert "hello --epochs 3 --name a b" in said
    assert f"job-1: Completed. Results: {home}/jobs/job-1/output" in said


def test_one_word_has_fit_write_to_a_bucket_and_read_from_one(run, script, tmp_path):
    (tmp_path / "data.csv").write_text("1")
    uri = launcher.Session(mode="s3").upload_data(tmp_path / "data.csv", key_prefix="a=b")
    bucket = f"s3://{DEFAULT_BUCKET}"
    said = run("fit", script, "-r", "process", "--mode", "s3", "-i", uri, "--job-name", "job-1")
    assert f"job-1: Completed. Results: {bucket}/job-1/output" in said
    described = json.loads(run("describe", "job-1", "--json", LAUNCHER_MODE="local"))
    assert described["ModelArtifacts"]["S3ModelArtifacts"] == f"{bucket}/job-1/output/model.tar.gz"
    plan = run("fit", script, "-r", "process", "--dry-run", "-i", f"train={uri}", LAUNCHER_MODE="s3")
    assert f"writes     {bucket}/hello-" in plan
    assert "--mode" in run("demo", "--help")


def test_what_other_commands_say_of_a_job(run, script):
    run("fit", script, "-r", "process", "--job-name", "job-1")
    assert "job-1" in run("ls")
    assert json.loads(run("ls", "--json"))[0]["TrainingJobStatus"] == "Completed"
    assert json.loads(run("describe", "latest", "--json"))["TrainingJobName"] == "job-1"
    assert "TrainingJobStatus: Completed" in run("describe", "job-1")
    assert run("logs", "job-1") == "hello\n"
    assert run("logs", "-f", "job-1") == "hello\n"
    assert run("stop", "job-1") == "job-1: Completed\n"


def test_a_failed_job_has_exit_code_1_and_its_reason(run, tmp_path):
    (tmp_path / "bad.py").write_text("raise ValueError('no rows')")
    answer = run_launcher("fit", "bad.py", "-r", "process", cwd=tmp_path)
    assert answer.returncode == 1
    assert "ValueError: no rows" in answer.stderr
    assert "launcher/" not in answer.stderr, "a traceback of the launcher is no use to its user"


def test_a_job_that_was_stopped_is_no_success_for_a_script(run, tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    assert "Stopped" in run("fit", "slow.py", "-r", "process", "--max-run", "1", code=1)


def test_a_dry_run_prints_the_plan_and_runs_nothing(run, script, home):
    assert "host       algo-1: train" in run("fit", script, "--dry-run", "-r", "process")
    assert not home.exists()


def test_checkpoints_are_kept_where_the_command_line_says(run, tmp_path):
    (tmp_path / "train.py").write_text("open('/opt/ml/checkpoints/epoch', 'w').write('1')")
    options = ("fit", "train.py", "-r", "process", "--checkpoint-s3-uri", "kept")
    assert f"writes     file://{tmp_path}/kept/ <- /opt/ml/checkpoints/" in run(*options, "--dry-run")
    run(*options, "--job-name", "job-1")
    assert (tmp_path / "kept" / "epoch").read_text() == "1"
    described = json.loads(run("describe", "job-1", "--json"))
    assert described["CheckpointConfig"] == {"S3Uri": f"file://{tmp_path}/kept", "LocalPath": "/opt/ml/checkpoints"}


def test_a_detached_job_is_named_and_goes_on(run, tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(1); print('woke')")
    name = run("fit", "slow.py", "-d", "-r", "process").strip()
    assert "woke" in run("logs", "-f", name)


def test_ctrl_c_ends_with_130(run, tmp_path, home):
    (tmp_path / "slow.py").write_text("import time; print('ready', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher", "fit", "slow.py", "-r", "process", "--job-name", "job-1"],
        cwd=tmp_path,
        env=launcher_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    log = home / "jobs" / "job-1" / "job.log"
    deadline = time.monotonic() + 30
    while not (log.exists() and b"ready" in log.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(2)
    assert process.wait(timeout=30) == 130
    assert json.loads(run("describe", "job-1", "--json"))["TrainingJobStatus"] == "Stopped"


def test_doctor_names_what_works_and_what_mends_the_rest(run, tmp_path):
    findings = {finding["topic"]: finding for finding in json.loads(run("doctor", "--json"))}
    assert findings["home"]["state"] == "ok"
    assert findings["process runtime"]["state"] == "ok"
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    findings = {finding["topic"]: finding for finding in json.loads(run("doctor", "--json", **nowhere))}
    assert findings["docker runtime"]["state"] == "missing"
    assert findings["docker runtime"]["remedy"]


def test_a_preset_is_shown_with_the_meaning_of_every_value(run):
    assert "preset-cartpole-ddqnbcq" in run("presets", "ls").split()
    text = run("presets", "show", "preset-cartpole-ddqnbcq")
    assert "agent.learning_rate = 0.001" in text
    assert "also rl.agent_params.network_wrappers.main.learning_rate" in text
    keys = json.loads(run("presets", "show", "preset-cartpole-ddqnbcq", "--json"))["keys"]
    assert all(key["meaning"] for key in keys)
    run("presets", "show", "nope", code=2)


def test_shell_completion_can_be_had(run):
    assert "_LAUNCHER_COMPLETE" in run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-d", "nowhere.csv", "-c", "./checkpoint"), "dataset nowhere.csv: there is no such file or folder"),
        (("-d", "log.csv", "-c", "./checkpoint"), "checkpoint checkpoint: there is no such file or folder"),
        (("-d", "log.csv", "-c", "no-such-job"), "no-such-job"),
        (("-d", "log.csv", "-c", "log.csv", "--format", "xml"), "--format 'xml' is not known"),
        (("-d", "log.csv", "-c", "log.csv", "--policy", "best"), "--policy 'best' is not known"),
        (("-d", "log.csv", "-c", "log.csv", "--temperature", "0"), "--temperature 0 must be above 0"),
        (("-d", "log.csv", "-c", "log.csv"), "log.csv"),  # neither is what it should be
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_runs(tmp_path, arguments, words):
    (tmp_path / "log.csv").write_text("action\n1\n")
    answer = run_launcher("ope", *arguments, cwd=tmp_path)
    assert answer.returncode != 0
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


FOUND = {
    "judged_by": "the 75 of 500 episodes that the training held out",
    "episodes": 75,
    "discount": 0.99,
    "logged_return": 20.5,
    "behavior": {"value": 21.0, "lower": 20.0, "upper": 22.0},
    "assumptions": [],
    "policies": [
        {
            "checkpoint": "a",
            "policy": "greedy",
            "estimates": [
                {
                    "estimator": "WIS",
                    "value": None,
                    "lower": None,
                    "upper": None,
                    "level": None,
                    "interval": "why",
                    "uncut": None,
                },
                {
                    "estimator": "DM",
                    "value": 5.0,
                    "lower": 4.0,
                    "upper": 6.5,
                    "level": 0.9,
                    "interval": "bootstrap",
                    "uncut": 7.25,
                },
            ],
            "effective_sample_size": 0.0,
            "mean_weight": None,
            "largest_weight_share": None,
            "notes": ["beware"],
        }
    ],
    "comparison": {
        "rank_by": "DM",
        "ranking": ["a"],
        "probability_best": {"a": 1.0},
        "undecided": ["b"],
        "rank_correlation": None,
        "regret": {"1": 0.0},
        "mean_squared_error": 1.0,
    },
    "gate": {"passed": False, "policies": [{"checkpoint": "a", "passed": False, "why": "lower 4 not > 21"}]},
}


def test_a_judgement_is_shown_as_a_table_or_as_rows():
    table = as_table(FOUND)
    assert "by the rule of FQE it is worth 21.00 (20.00 to 22.00)" in table
    assert "5.00 (it says 7.25)" in table
    assert "the log cannot tell these from the first: b" in table
    assert "Gate not passed" in table
    assert "lower 4 not > 21" in table
    assert "  WIS        undefined            none          why" in table
    assert "  DM         5.00 (it says 7.25)  4.00 to 6.50  90% bootstrap" in table
    assert "in effect 0.0 of 75 episodes\n  note: beware" in table
    assert "rank correlation with the truth undefined; regret 0.00 at 1" in table
    rows = as_csv(FOUND).splitlines()
    assert rows[0].startswith("checkpoint,policy,estimator,value,lower,upper,level,interval,effective_sample_size")
    assert rows[1:] == ["a,greedy,WIS,,,,,why,0.0,,", "a,greedy,DM,5.0,4.0,6.5,0.9,bootstrap,0.0,,"]


def request_of(run, script, *options):
    return json.loads(run("fit", script, "-r", "process", "--dry-run", "--json", *options))


def test_a_dry_run_prints_the_document_and_does_nothing(run, script, home):
    request = request_of(run, script, "--job-name", "job-1", "-p", "epochs=3")
    assert request["TrainingJobName"] == "job-1"
    assert request["HyperParameters"]["epochs"] == "3"
    assert request["Launcher"]["Runtime"] == "process"
    assert not home.exists()


def test_a_document_is_run_from_a_file_or_from_the_standard_input(run, script, tmp_path):
    """The source of an earlier job is there already; the second document names it."""
    run("fit", script, "-r", "process", "--job-name", "job-1")
    request = json.loads(run("describe", "job-1", "--json"))
    request = {
        "TrainingJobName": "job-2",
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        **{name: request[name] for name in ("HyperParameters", "RoleArn")},
        "OutputDataConfig": {"S3OutputPath": request["OutputDataConfig"]["S3OutputPath"]},
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    assert "unpacks    file:///" in run("run", "request.json", "-r", "process", "--dry-run")
    said = run("run", "request.json", "-r", "process")
    assert "hello\n" in said
    assert "job-2: Completed. Results: /" in said
    request["TrainingJobName"] = "job-3"
    answer = subprocess.run(
        [sys.executable, "-m", "launcher", "run", "-", "-r", "process", "--json"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=launcher_environment(),
        check=True,
    )
    assert json.loads(answer.stdout)["TrainingJobStatus"] == "Completed"
    request["TrainingJobName"] = "job-4"
    (tmp_path / "request.json").write_text(json.dumps(request))
    assert run("run", "request.json", "-r", "process", "--mode", "s3", "--detach") == "job-4\n"
    run("logs", "-f", "job-4")
    assert launcher.TrainingJob("job-4").status == "Completed"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"a": 1, "a": 2}', "the member 'a' is there twice"),
        ("[]", "holds a list"),
        ("{}", "Value null at 'trainingJobName'"),
        ('{"Launcher": 5}', "Invalid type for parameter Launcher"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_bad_document_is_refused_by_name(text, problem, tmp_path, home):
    if text is not None:
        (tmp_path / "request.json").write_text(text)
    answer = run_launcher("run", "request.json", cwd=tmp_path)
    assert answer.returncode == 2
    assert problem in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not home.exists()


def test_what_a_dry_run_printed_needs_its_source_first(run, script, tmp_path, home):
    """A dry run uploads nothing; the error names the archive that is missing."""
    (tmp_path / "request.json").write_text(json.dumps(request_of(run, script, "--job-name", "job-1")))
    answer = run_launcher("run", "request.json", cwd=tmp_path)
    assert answer.returncode == 2
    assert "the source of job 'job-1'" in answer.stderr
    assert "sourcedir.tar.gz does not exist" in answer.stderr
    assert not home.exists()


def test_a_gate_that_is_not_passed_has_an_exit_code_of_its_own(monkeypatch, tmp_path):
    """0 where it is passed, 3 where it is not, 2 where it cannot be read; the answer is printed all the same."""
    from typer.testing import CliRunner

    from launcher.cli import main as cli
    from launcher.cli import ope

    asked = []

    def judged(dataset, checkpoints, **options):
        asked.append(options)
        return FOUND | {"gate": FOUND["gate"] | {"passed": options["gate"] == "value > 1"}}

    monkeypatch.setattr(ope, "judge_policies", judged)
    monkeypatch.setattr(cli, "_checkpoint", lambda text: tmp_path)
    for gate, code in (("value > 1", 0), ("lower > behavior", 3)):
        arguments = [
            "ope",
            "-d",
            str(tmp_path),
            "-c",
            "a",
            "--gate",
            gate,
            "-f",
            "json",
            "--behavior-policy",
            "estimate",
        ]
        answer = CliRunner().invoke(cli.app, arguments)
        assert answer.exit_code == code
        assert json.loads(answer.stdout)["gate"]["passed"] is (code == 0)
    assert asked[0]["behavior_policy"] == "estimate"
