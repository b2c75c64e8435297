"""Jobs that leave odd things in their tree: nothing outside it gets out, and no finished work is thrown away."""

import json
import stat
import tarfile
import textwrap

import pytest

import launcher
from tests.fakes import FakeRuntime

ALL = ["fake", "process", "process-without-namespaces", pytest.param("docker", marks=pytest.mark.docker)]


@pytest.fixture(params=ALL)
def run(request, make_source, monkeypatch):
    """Run a script as a job; return the job, whether or not it failed."""
    if request.param == "process-without-namespaces":
        monkeypatch.setenv("LAUNCHER_NAMESPACES", "off")
    runtime = {"fake": FakeRuntime(), "process-without-namespaces": "process"}.get(request.param, request.param)

    def run(script, **options):
        source = make_source(SETUP + textwrap.dedent(script))
        estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=runtime, **options)
        try:
            estimator.fit(logs=False, job_name="job-1")
        except launcher.JobFailedError as error:
            estimator.latest_training_job.error = error
        return estimator.latest_training_job

    return run


# A folder that is mounted by itself cannot be taken away; the job says which ones could.
SETUP = """
import os, pathlib, shutil, sys
ML = pathlib.Path(os.environ["SM_MODEL_DIR"]).parent
def take_away(name):
    try:
        shutil.rmtree(ML / name)
    except OSError:
        return False
    print("taken away:", name, flush=True)
    return True
"""


def taken_away(job):
    return {line.removeprefix("taken away: ") for line in job.logs().splitlines() if line.startswith("taken away: ")}


@pytest.fixture
def secret(tmp_path):
    """Files of the caller's, which a container does not see and nobody may read."""
    folder = tmp_path / "secret"
    (folder / "data").mkdir(parents=True)
    for name, mode in (("id_rsa", 0o600), ("closed", 0), ("failure", 0o600), ("data/key", 0)):
        (folder / name).write_text("SECRET")
        (folder / name).chmod(mode)
    return folder


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


def everything_written(*folders):
    """Return the content of all files below the folders, archives unpacked."""
    content = b""
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content += path.read_bytes()
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                members = [archive.extractfile(member) for member in archive if member.isreg()]
                content += b"".join(member.read() for member in members)
    return content


def test_links_in_the_place_of_its_folders_show_a_job_nothing_of_the_callers(run, secret, tmp_path, home):
    before = modes(secret)
    (tmp_path / "kept").mkdir()
    job = run(
        f"""
        for name in ("model", "output/data", "output/intermediate", "checkpoints"):
            if take_away(name):
                (ML / name).symlink_to({str(secret)!r})
        (ML / "output" / "failure").symlink_to({str(secret / "failure")!r})
        import time; time.sleep(1.5)  # time enough for a copy while the job runs
        sys.exit(1)
        """,
        checkpoint_s3_uri=str(tmp_path / "kept"),
    )
    assert job.status == "Failed"
    assert job.error.exit_code_of_job == 1
    reason = "the job put something else in the place of this folder"
    # Where the link leads nowhere, as in a container, our toolkit puts its own file in its place.
    expected = {
        "checkpoints": f"not copied (checkpoints): checkpoints: {reason}",
        "output/intermediate": f"not copied (intermediate files): output/intermediate: {reason}",
        "model": f"not packed: model: {reason}",
        "output/data": f"not packed: output/data: {reason}",
    }
    assert taken_away(job) >= {"output/data", "output/intermediate"}
    said = {line for line in job.warnings if line != "not read: output/failure: a link"}
    assert said == {expected[name] for name in taken_away(job)}
    assert b"SECRET" not in everything_written(job.path / "output", tmp_path / "kept")
    assert "SECRET" not in job.path.joinpath("job.json").read_text()
    assert modes(secret) == before
    assert not (job.path / "work").exists()


def test_a_link_in_the_place_of_the_whole_output_leads_nowhere(run, secret):
    before = modes(secret)
    job = run(f"if take_away('output'): (ML / 'output').symlink_to({str(secret)!r})\nsys.exit(1)")
    assert job.status == "Failed"
    assert "SECRET" not in str(job.error)
    assert b"SECRET" not in everything_written(job.path)
    replaced = [line for line in job.warnings if "something else in the place" in line]
    assert len(replaced) == (3 if taken_away(job) else 0)
    assert modes(secret) == before


def test_odd_things_are_left_out_and_everything_else_is_kept(run, tmp_path):
    job = run(
        """
        model, data, intermediate = ML / "model", ML / "output" / "data", ML / "output" / "intermediate"
        for folder in (model, data, intermediate):
            (folder / "good").write_text("good")
            (folder / "a").symlink_to("b")
            (folder / "b").symlink_to("a")
            os.mkfifo(folder / "pipe")
        (ML / "output" / "failure").mkdir()
        (intermediate / ("n" * 250)).write_text("long")
        for folder in (model, intermediate):
            os.chdir(folder)
            for _ in range(1500):
                os.mkdir("d")
                os.chdir("d")
        """
    )
    assert job.status == "Completed"
    for uri in (job.keys.model, job.keys.output):
        with tarfile.open(uri.removeprefix("file://")) as archive:
            assert archive.extractfile("good").read() == b"good"
    copied = {path.name: path.read_text() for path in (job.path / "output" / "intermediate").iterdir()}
    assert copied == {"good": "good", "n" * 250: "long"}
    assert not (job.path / "work").exists()
    text = "\n".join(job.warnings)
    for expected in ("pipe: a socket, pipe or device", "a link that leads in a circle", "256 folders deep"):
        assert expected in text
    assert "output/failure: no regular file" in text


@pytest.mark.parametrize("replacement", ["", "model.write_text('a file')", "os.mkfifo(model)"])
def test_a_job_that_takes_its_model_folder_away_is_told_so(run, replacement):
    job = run(f"""
        model = ML / 'model'
        (ML / 'output/data/x').write_text('x')
        if take_away("model"):
            {replacement or "pass"}
        """)
    assert job.status == "Completed"
    deed = "put something else in the place of" if replacement else "removed"
    assert job.warnings == [f"not packed: {name}: the job {deed} this folder" for name in taken_away(job)]
    assert (job.outputs.data_path / "x").read_text() == "x"


def test_what_a_job_says_of_its_failure_cannot_play_with_the_terminal(run):
    job = run(
        "print('\\x1b]0;log\\x07', flush=True); (ML / 'output/failure').write_text('\\x1b]0;t\\x07bad'); sys.exit(1)"
    )
    assert job.failure_reason == "AlgorithmError: ^[]0;t\N{REPLACEMENT CHARACTER}bad, exit code: 1"
    assert "\x1b" not in str(job.error)
    assert "\x07" not in str(job.error)


def test_a_part_of_the_results_that_fails_keeps_no_other_from_its_place(make_source, tmp_path):
    """The place of the checkpoints is gone when the job ends; the job fails, and its model is there."""
    place = tmp_path / "kept"
    source = make_source(
        "import os, pathlib\nml = pathlib.Path(os.environ['SM_MODEL_DIR']).parent\n"
        "for name in ('model', 'output/data', 'output/intermediate', 'checkpoints'):\n"
        "    (ml / name / 'm').write_text('m')\n"
        f"pathlib.Path({str(place)!r}).write_text('a file where a folder has to be')\n"
    )
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=source, runtime=FakeRuntime(), checkpoint_s3_uri=str(place)
    )
    with pytest.raises(launcher.errors.OutputPathError, match="cannot be written"):
        estimator.fit(logs=False, job_name="job-1")
    job = estimator.latest_training_job
    assert job.status == "Failed"
    assert (job.outputs.model_path / "m").read_text() == "m"
    assert (job.outputs.data_path / "m").read_text() == "m"
    assert (job.path / "output" / "intermediate" / "m").read_text() == "m"


def test_no_kind_of_error_keeps_a_job_from_its_end(make_source, monkeypatch):
    """Whatever else may be wrong with a copy: the job ends, and says why."""
    from launcher.storage.file import FileStorage

    def fail(*_arguments, **_options):
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(FileStorage, "sync_folder", fail)
    source = make_source("import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('m')")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=FakeRuntime())
    with pytest.raises(RecursionError):
        estimator.fit(logs=False, job_name="job-1")
    job = estimator.latest_training_job
    assert job.status == "Failed"
    assert (job.outputs.model_path / "m").read_text() == "m"


def test_a_stopped_driver_repeats_no_warning(make_source, store):
    from launcher.running import runner

    source = make_source("import os; os.mkfifo(os.environ['SM_MODEL_DIR'] + '/pipe')")
    runtime = FakeRuntime()
    job = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=runtime).submit(job_name="job-1")
    first = runner.Driver(store, "job-1", runtime)
    first._finish = lambda: (_ for _ in ()).throw(SystemExit)
    first.give_up = lambda error: None
    with pytest.raises(SystemExit):
        first.run()
    record = json.loads((job.path / "job.json").read_text())
    del record["steps"]["collect"]
    (job.path / "job.json").write_text(json.dumps(record))
    job.wait(logs=False)
    assert job.warnings == ["not packed: pipe: a socket, pipe or device"]


def test_an_error_on_the_command_line_cannot_play_with_the_terminal():
    """It repeats names that others have chosen."""
    from typer.testing import CliRunner

    from launcher.cli import main

    answer = CliRunner().invoke(main.app, ["describe", "a\x1b]0;t\x07b"])
    assert answer.exit_code == 2
    assert "\x1b" not in answer.output
