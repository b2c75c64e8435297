import json
import os
import signal
import subprocess
import sys
import zipfile

import pytest

from job_toolkit.trainer import failure_text, last_error

PRINT_ARGUMENTS = "import json, sys; print(json.dumps(sys.argv[1:]))"


def test_the_script_gets_its_hyperparameters_as_arguments_and_runs_in_the_code_folder(tree):
    tree.write_hyperparameters({"epochs": "3", "sagemaker_program": '"learn.py"'})
    tree.write("code/learn.py", "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['SM_HP_EPOCHS'])")
    result = tree.run()
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"['--epochs', '3'] {tree.base}/code 3\n"


@pytest.mark.parametrize("value", ["two\nlines", 'it\'s "quoted"', "$(touch hit) `touch hit` ; touch hit", "-x", "ü"])
def test_hostile_values_arrive_unharmed(value, tree):
    """No shell is between a hyperparameter and the script."""
    tree.write_hyperparameters({"note": json.dumps(value)})
    result = tree.run(script=PRINT_ARGUMENTS)
    assert json.loads(result.stdout) == ["--note", value]
    assert not (tree.base / "code" / "hit").exists()


@pytest.mark.parametrize("command", ["evaluate", "collect"])
def test_without_a_named_program_the_command_names_it(command, tree):
    tree.write(f"code/{command}.py", "print('here')")
    assert tree.run(command).stdout == "here\n"


def test_a_shell_script_runs_in_bash_with_the_python_path_set(tree):
    tree.write_hyperparameters({"sagemaker_program": '"go.sh"', "a": "1"})
    tree.write("code/go.sh", f'echo "$@"; [[ -v SM_HPS ]] && {sys.executable} -c "import job_toolkit, helper"')
    tree.write("code/helper.py", "print('helper')")
    result = tree.run()
    assert (result.stdout, result.returncode) == ("-a 1\nhelper\n", 0)


def test_any_other_program_must_be_executable(tree):
    tree.write_hyperparameters({"sagemaker_program": '"run"'})
    program = tree.write("code/run", "#!/bin/sh\necho ran\n")
    assert tree.run().returncode == 1
    assert "not executable" in tree.failure
    program.chmod(0o755)
    assert tree.run().stdout == "ran\n"
    assert tree.failure is None  # the reason of the earlier run is gone


def test_a_script_that_raises_leaves_its_last_exception_and_its_exit_code(tree):
    tree.write_hyperparameters({"a": "1"})
    result = tree.run(
        script="try:\n  1 / 0\nexcept ZeroDivisionError as e:\n  raise ValueError('no transitions') from e"
    )
    assert result.returncode == 1
    assert tree.failure == (
        'ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: no transitions"\nCommand "python train.py -a 1"'
    )


@pytest.mark.parametrize("code", [3, 77])
def test_the_exit_code_is_the_scripts(code, tree):
    assert tree.run(script=f"print('bye'); raise SystemExit({code})").returncode == code
    assert f'ExitCode {code}\nErrorMessage "bye"' in tree.failure


def test_a_failure_file_that_the_script_wrote_is_kept(tree):
    result = tree.run(script="from job_toolkit import fail_job\nfail_job('the dataset has no rows')")
    assert result.returncode == 1
    assert tree.failure == "the dataset has no rows"
    assert "the dataset has no rows" in result.stdout


def test_a_killed_script_exits_with_137_and_hints_at_memory(tree):
    result = tree.run(script="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert result.returncode == 137
    assert 'ExtraInfo "Process ended by SIGKILL (signal 9), which the platform did not send"' in tree.failure


def test_a_crashed_script_exits_with_128_plus_the_signal(tree):
    result = tree.run(script="import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert result.returncode == 128 + signal.SIGSEGV
    assert "SIGSEGV" in tree.failure


def test_a_missing_program_is_named_with_what_is_there(tree):
    tree.write("code/other.py", "")
    assert tree.run().returncode == 1
    assert "entry point 'train.py'" in tree.failure
    assert "other.py" in tree.failure


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_code_folder_is_said_to_be_so(exists, tree):
    if exists:
        (tree.base / "code").mkdir()
    assert tree.run().returncode == 1
    assert ("is empty" if exists else "is missing") in tree.failure


def test_a_value_too_large_for_any_program_fails_the_job_and_says_so(tree):
    tree.write_hyperparameters({"note": "x" * 200_000})
    assert tree.run(script=PRINT_ARGUMENTS).returncode == 1
    assert "at most 128 KiB" in tree.failure


def test_stdout_and_stderr_arrive_in_the_order_they_were_written(tree):
    script = "import sys\nfor i in range(2000): print(i, file=(sys.stdout, sys.stderr)[i % 2], flush=True)"
    result = tree.run(script=script)
    assert result.stdout.split() == [str(number) for number in range(2000)]
    assert result.stderr == ""


def test_a_flood_of_output_arrives_whole_and_leaves_its_end_in_the_failure_file(tree):
    script = "import sys\nsys.stdout.write('x' * 79 + '\\n' * 1)\nprint('y' * 20_000_000)\nsys.exit('ran out of data')"
    result = tree.run(script=script)
    assert len(result.stdout) == 80 + 20_000_001 + len("ran out of data\n")
    assert 'ErrorMessage "ran out of data"' in tree.failure
    assert len(tree.failure) < 1024


def test_output_that_is_not_text_does_not_disturb_the_job(tree):
    script = "import os, sys\nos.write(1, bytes(range(256)))\nsys.exit(b'\\xff\\x1b[31mred\\x1b[0m'.decode('latin1'))"
    tree.write("code/train.py", script)
    result = subprocess.run(tree.command("train"), env=tree.variables(), capture_output=True, timeout=60)
    assert result.returncode == 1
    assert bytes(range(256)) in result.stdout
    assert "\x1b" not in tree.failure


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_script_which_may_end_in_its_own_way(number, tree):
    script = (
        "import signal, sys, time\n"
        "def stop(number, _):\n  print('saving', number)\n  sys.exit(9)\n"
        f"signal.signal({int(number)}, stop)\nprint('ready')\ntime.sleep(60)"
    )
    tree.write("code/train.py", script)
    with subprocess.Popen(tree.command("train"), env=tree.variables(), stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "ready\n"
        job.send_signal(number)
        output, _ = job.communicate(timeout=30)
    assert output == f"saving {int(number)}\n"
    assert job.returncode == 9
    assert tree.failure is None  # it was stopped, it did not fail


def test_a_script_that_does_not_handle_sigterm_ends_with_143(tree):
    tree.write("code/train.py", "import time; print('ready'); time.sleep(60)")
    with subprocess.Popen(tree.command("train"), env=tree.variables(), stdout=subprocess.PIPE, text=True) as job:
        job.stdout.readline()
        job.terminate()
        job.communicate(timeout=30)
    assert job.returncode == 143


def test_a_job_ends_with_its_script_though_a_process_it_left_holds_the_output(tree):
    script = "import subprocess\nprint(subprocess.Popen(['sleep', '50']).pid)\nprint('x' * 200_000)"
    result = tree.run(script=script)
    left, flood = result.stdout.split()
    assert len(flood) == 200_000
    os.kill(int(left), signal.SIGKILL)  # it was still there: the job did not wait for it


def test_a_job_outlives_whoever_read_its_output(tree):
    script = "import pathlib, time\nfor _ in range(50): print('x' * 10_000, flush=True)\npathlib.Path('done').touch()"
    tree.write("code/train.py", script)
    with subprocess.Popen(tree.command("train"), env=tree.variables(), stdout=subprocess.PIPE) as job:
        job.stdout.close()
        assert job.wait(timeout=30) == 0
    assert (tree.base / "code" / "done").exists()


def test_requirements_are_installed_for_the_job_and_not_into_the_interpreter(tree, tmp_path):
    """From a folder, so that no index is needed."""
    package = tmp_path / "package"
    package.mkdir()
    wheel_of(package, "only_for_this_job", "ANSWER = 42")
    tree.write("code/requirements.txt", f"--no-index\n--find-links {package}\nonly_for_this_job\n")
    result = tree.run(script="import only_for_this_job as m; print(m.ANSWER, m.__file__)", TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stdout
    answer, file = result.stdout.splitlines()[-1].split()
    assert answer == "42"
    assert file.startswith(str(tmp_path))
    assert not list(tmp_path.glob("job-requirements-*"))


def test_requirements_that_cannot_be_installed_fail_the_job_before_the_script(tree, tmp_path):
    tree.write("code/requirements.txt", "--no-index\nno-such-package-anywhere\n")
    result = tree.run(script="print('never')")
    assert result.returncode != 0
    assert "never" not in result.stdout
    assert tree.failure.startswith("InstallRequirementsError:\nExitCode 1\nErrorMessage ")
    assert "no-such-package-anywhere" in tree.failure


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("", ""),
        ("just a line\n\n", "just a line"),
        ("10%\r20%\rValueError: bad\r\n", "ValueError: bad"),
        ("Traceback (most recent call last):\n  File 'x'\n    boom\na.b.MyError: no\n", "a.b.MyError: no"),
        ("Traceback (most recent call last):\n  File 'x'\nE: first\n  hint below\nother\n", "E: first\n  hint below"),
        (
            "  File 'train.py', line 1\n    def f(\nSyntaxError: '(' was never closed\n",
            "SyntaxError: '(' was never closed",
        ),
        ("KeyError: 'propensity'\n[W] destroying process group\n", "KeyError: 'propensity'"),
        (
            "RuntimeError: Caught ValueError in worker 0.\nOriginal Traceback (most recent call last):\n"
            "  File 'x'\nValueError: deep\n",
            "ValueError: deep",
        ),
        (
            "  + Exception Group Traceback (most recent call last):\n  |   File 'x'\n"
            "  | ExceptionGroup: two (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n"
            "    | ValueError: inner\n    +------------------------------------\n",
            "ValueError: inner",
        ),
    ],
)
def test_the_reason_is_the_last_exception_else_the_last_line(output, error):
    assert last_error(output) == error


def test_message_and_command_both_fit_into_what_the_platform_shows():
    tail = b"Traceback (most recent call last):\n  File 'x'\nValueError: " + b"m" * 5000
    text = failure_text("ExecuteUserScriptError", 1, tail, [sys.executable, "-u", "train.py", "c" * 5000])
    assert len(text) <= 1024
    assert 'Command "python train.py ccc' in text


def wheel_of(folder, name, source):
    """Write the smallest wheel there can be."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)


OBEYS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saving", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(60)
"""
IGNORES = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


@pytest.mark.parametrize(("script", "code"), [(OBEYS, 0), (IGNORES, 137)])
def test_the_toolkit_ends_a_job_in_time_by_itself(tree, script, code):
    """As in a container that nobody watches any more."""
    limits = {"LAUNCHER_MAX_RUN_SECONDS": "1.5", "LAUNCHER_STOP_GRACE_SECONDS": "0.5"}
    result = tree.run(script=script, **limits)
    assert result.returncode == code, result.stderr
    assert result.stdout.count("saving") == (1 if code == 0 else 0)
    assert (tree.base / "output" / ".stop-reason").read_text() == "MaxRuntimeExceeded"
    assert tree.failure is None


def test_a_job_in_time_has_no_stop_reason_and_does_not_see_the_limit(tree):
    script = "import os; print([name for name in os.environ if name.startswith('LAUNCHER_MAX')])"
    result = tree.run(script=script, LAUNCHER_MAX_RUN_SECONDS="60")
    assert result.stdout.strip() == "[]"
    assert not (tree.base / "output" / ".stop-reason").exists()
