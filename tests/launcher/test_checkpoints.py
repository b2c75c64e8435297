"""``checkpoint_s3_uri``: what was there is there again, what the job writes gets out, whatever happens in between."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

import launcher
from launcher import errors
from launcher.running import runner
from launcher.running.syncing import FolderSync
from launcher.s3_server import service
from launcher.settings import DEFAULT_BUCKET
from launcher.storage import FileStorage, storage_for, to_uri
from tests.fakes import FakeRuntime

COUNTS = """
import os, pathlib
folder = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"), os.environ.get("FOLDER", "checkpoints"))
count = folder / "deep" / "count"
print("found", sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()), flush=True)
before = int(count.read_text()) if count.exists() else 0
count.parent.mkdir(exist_ok=True)
with count.open("r+" if before else "w") as file:  # in place: a link would change what it leads to
    file.write(str(before + 1))
"""


class Dead(BaseException):
    """A launcher that was killed: nothing of it may run on, so nothing may catch it."""


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    """Somewhere for checkpoints, that is not there yet, with its content by relative path."""
    if request.param == "folder":
        return Place(str(tmp_path / "kept" / "checkpoints"))
    return Place(f"s3://{launcher.Session(mode='s3').default_bucket()}/kept/checkpoints")


class Place:
    def __init__(self, uri):
        self.uri = to_uri(uri)
        self.storage = storage_for(self.uri)

    def write(self, tmp_path, **files):
        for name, text in files.items():
            (tmp_path / "written").write_text(text)
            self.storage.upload_all({tmp_path / "written": f"{self.uri}/{name}"})

    def read(self, tmp_path):
        contents = {}
        for name, uri in self.storage.files_below(self.uri).items():
            self.storage.download_all({uri: tmp_path / "read"})
            contents[name] = (tmp_path / "read").read_text()
        return contents


@pytest.fixture
def submit(make_source, place):
    def submit(script=COUNTS, job_name="job-1", **options):
        runtime = FakeRuntime()
        options = {"checkpoint_s3_uri": place.uri, **options}
        estimator = launcher.Estimator(
            entry_point="train.py", source_dir=make_source(script), runtime=runtime, **options
        )
        return estimator.submit(job_name=job_name), runtime

    return submit


def run(job):
    job.wait(logs=False)
    return job


def test_the_next_job_finds_what_the_one_before_has_written(submit, place, tmp_path):
    place.write(tmp_path, other="from elsewhere")
    assert "found ['other']" in run(submit()[0]).logs()
    assert place.read(tmp_path) == {"other": "from elsewhere", "deep/count": "1"}
    assert "found ['deep/count', 'other']" in run(submit(job_name="job-2")[0]).logs()
    assert place.read(tmp_path) == {"other": "from elsewhere", "deep/count": "2"}


def test_only_the_folder_itself_is_restored(submit, place, tmp_path):
    """In S3 a neighbour's keys begin with the same text."""
    Place(f"{place.uri}-2").write(tmp_path, stranger="1")
    assert "found []" in run(submit()[0]).logs()


def test_another_s3_keeps_checkpoints_too(make_source, tmp_path, monkeypatch):
    """One with an address, whose objects are sent; what was restored is not sent again."""
    other = tmp_path / "other"
    monkeypatch.setenv("LAUNCHER_S3_ENDPOINT", service.ensure(other))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    try:
        place = Place(f"s3://{launcher.Session(mode='s3').default_bucket()}/kept/checkpoints")
        place.write(tmp_path, other="from elsewhere")
        before = place.storage.head(f"{place.uri}/other")
        for name in ("job-1", "job-2"):
            estimator = launcher.Estimator(
                entry_point="train.py",
                source_dir=make_source(COUNTS),
                runtime=FakeRuntime(),
                checkpoint_s3_uri=place.uri,
            )
            run(estimator.submit(job_name=name))
        assert place.read(tmp_path) == {"other": "from elsewhere", "deep/count": "2"}
        assert place.storage.head(f"{place.uri}/other") == before
    finally:
        service.stop(other)


@pytest.mark.parametrize("mode", ["local", "s3"])
def test_both_modes_have_checkpoints(submit, place, tmp_path, mode):
    run(submit(mode=mode)[0])
    assert place.read(tmp_path) == {"deep/count": "1"}


@pytest.mark.parametrize("path", ["/opt/ml/checkpoints/", "/opt/ml/my/states"])
def test_checkpoints_may_be_elsewhere_below_opt_ml(submit, place, tmp_path, path):
    place.write(tmp_path, other="from elsewhere")
    folder = path.removeprefix("/opt/ml/")
    job = run(submit(checkpoint_local_path=path, environment={"FOLDER": folder})[0])
    assert "found ['other']" in job.logs()
    assert place.read(tmp_path)["deep/count"] == "1"


@pytest.mark.parametrize("ending", ["raise SystemExit(3)", "os.kill(os.getpid(), 9)"])
def test_what_a_failed_or_killed_job_wrote_last_is_kept(submit, place, tmp_path, ending):
    job, _ = submit(f"{COUNTS}\n{ending}")
    with pytest.raises(errors.JobFailedError):
        job.wait(logs=False)
    assert job.status == "Failed"
    assert place.read(tmp_path) == {"deep/count": "1"}


def test_what_a_job_writes_on_its_way_to_a_stop_is_kept(submit, place, tmp_path, store):
    script = f"""
import signal, sys, time
{COUNTS}
def stop(*_):
    (folder / "last").write_text("last")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
    job, runtime = submit(script)
    start = runtime.start

    def start_and_ask_for_a_stop(container):
        execution = start(container)
        while "ready" not in job.logs():
            time.sleep(0.05)
        store.folder("job-1").request_stop()
        return execution

    runtime.start = start_and_ask_for_a_stop
    assert run(job).status == "Stopped"
    assert place.read(tmp_path) == {"deep/count": "1", "last": "last"}


def test_checkpoints_get_out_while_the_job_runs(submit, place, tmp_path):
    """The job ends only when its checkpoint has been seen at the place."""
    go = tmp_path / "go"
    job, _ = submit(f"{COUNTS}\nimport time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)")

    def watch():
        while place.read(tmp_path) != {"deep/count": "1"}:
            time.sleep(0.05)
        go.touch()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    assert run(job).status == "Completed"
    watching.join()


STEPS = ["write_config", "restore_checkpoints", "prepare", "start", "follow", "reclaim", "collect"]


@pytest.mark.parametrize("killed_before_recording", STEPS)
def test_a_launcher_may_die_after_any_step_and_nothing_is_lost_or_restored_twice(
    submit, place, tmp_path, store, killed_before_recording
):
    """What changes at the place while the job is under way does not come to it, whoever takes it up."""
    place.write(tmp_path, other="from elsewhere")
    job, runtime = submit()
    first = runner.Driver(store, "job-1", runtime)
    save = first._save

    def die_instead_of_recording():
        if killed_before_recording in first._record.steps:
            raise Dead
        save()

    first._save = die_instead_of_recording
    first.give_up = lambda error: None  # a killed process gives nothing up
    with pytest.raises(Dead):
        first.run()
    if killed_before_recording not in ("write_config", "restore_checkpoints"):
        place.write(tmp_path, late="too late")
    assert run(job).status == "Completed"
    assert "found ['other']" in job.logs()
    assert place.read(tmp_path) | {"late": ""} == {"other": "from elsewhere", "deep/count": "1", "late": ""}
    assert len(runtime.started) == 1


def test_a_restore_that_died_in_the_middle_begins_anew(submit, place, tmp_path, store):
    """What was copied by half, or is gone from the place meanwhile, is not left."""
    place.write(tmp_path, other="from elsewhere")
    job, runtime = submit()
    first = runner.Driver(store, "job-1", runtime)
    for step, effect in (("fetch_channels", first._fetch_channels), ("write_config", first._write_config)):
        first.step(step, effect)
    (job.path / "work" / "algo-1" / "opt_ml" / "checkpoints" / "oth").write_text("half")
    assert "found ['other']" in run(job).logs()


def test_what_was_restored_is_not_written_again(submit, place, tmp_path):
    """The place has the time that it had: nobody sees a change where there was none."""
    place.write(tmp_path, other="from elsewhere")
    uri = f"{place.uri}/other"
    before = _modified(uri)
    run(submit()[0])
    assert _modified(uri) == before


def _modified(uri):
    storage = storage_for(uri)
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://")).stat().st_mtime_ns
    return storage._store.head(DEFAULT_BUCKET, uri.split("/", 3)[3]).modified


def test_what_the_job_deletes_stays_at_the_place(submit, place, tmp_path):
    place.write(tmp_path, other="from elsewhere")
    run(submit(f"{COUNTS}\n(folder / 'other').unlink()")[0])
    assert place.read(tmp_path) == {"other": "from elsewhere", "deep/count": "1"}


def test_links_are_not_copied(submit, place, tmp_path):
    (tmp_path / "secret").write_text("secret")
    run(submit(f"{COUNTS}\n(folder / 'link').symlink_to({str(tmp_path / 'secret')!r})")[0])
    assert place.read(tmp_path) == {"deep/count": "1"}


def test_any_user_of_an_image_may_change_what_was_restored(submit, place, tmp_path, store):
    place.write(tmp_path, other="from elsewhere")
    job, runtime = submit()
    driver = runner.Driver(store, "job-1", runtime)
    for step in ("fetch_channels", "write_config", "restore_checkpoints"):
        driver.step(step, getattr(driver, f"_{step}"))
    folder = job.path / "work" / "algo-1" / "opt_ml" / "checkpoints"
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "other")] == ["0o777", "0o666"]
    run(job)


class Overtaken(FileStorage):
    """A place that the job is faster than: it moves its pointer on while the file before is being copied."""

    def __init__(self, act):
        self._act = act
        self.copied = []

    def upload_all(self, files):
        super().upload_all(files)
        self.copied += [path.name for path in files]
        self._act()


def test_a_pointer_is_copied_after_the_file_that_it_names(tmp_path):
    """Whenever everything is killed, what is at the place fits together."""
    written, uri = tmp_path / "written", to_uri(str(tmp_path / "kept"))
    written.mkdir()

    def write(number):
        for name, seconds in ((f"epoch-{number}", 2 * number), ("best", 2 * number + 1)):
            (written / name).write_text(f"epoch-{number}")
            os.utime(written / name, (seconds, seconds))

    write(1)
    storage, state = Overtaken(lambda: write(2)), {}
    storage.sync_folder(written, uri, state)
    assert storage.copied == ["epoch-1"], "'best' names by now what is not there"
    storage.sync_folder(written, uri, state)
    assert storage.copied == ["epoch-1", "epoch-2", "best"]


def test_a_place_that_fails_while_the_job_runs_is_a_warning_and_is_tried_again(tmp_path):
    place, written = tmp_path / "kept", tmp_path / "written"
    (written / "deep").mkdir(parents=True)
    (written / "deep" / "count").write_text("1")
    place.mkdir()
    (place / "deep").write_text("a file where a folder has to be")
    uri = to_uri(str(place))
    sync = FolderSync("checkpoints", [("algo-1", tmp_path)], "written", storage_for(uri), uri)
    assert sync.run_meanwhile() == ""
    sync.wait()
    assert sync.run_meanwhile().startswith(f"checkpoints came late: {place}/deep/count cannot be written")
    sync.wait()
    (place / "deep").unlink()
    sync.run()
    assert (place / "deep" / "count").read_text() == "1"


def test_a_place_that_fails_at_the_end_fails_the_job_and_its_checkpoints_stay(submit, tmp_path):
    place = tmp_path / "kept"
    script = f"{COUNTS}\npathlib.Path({str(place)!r}).mkdir(); pathlib.Path({str(place / 'deep')!r}).write_text('')"
    job, _ = submit(script, checkpoint_s3_uri=place)
    with pytest.raises(errors.OutputPathError, match="deep/count cannot be written"):
        job.wait(logs=False)
    assert job.status == "Failed"
    assert job.failure_reason.startswith("ClientError: ")
    assert (job.path / "work" / "algo-1" / "opt_ml" / "checkpoints" / "deep" / "count").read_text() == "1"
    assert any(str(job.path / "work") in line for line in job.warnings)


def test_an_engine_that_goes_away_takes_no_checkpoint_with_it(submit, place, tmp_path):
    job, runtime = submit(f"{COUNTS}\nprint('ready', flush=True)\nimport time; time.sleep(1)")
    start = runtime.start

    def start_then_lose(container):
        execution = start(container)
        wait = execution.wait

        def lose(_seconds):
            while "ready" not in job.logs():
                time.sleep(0.05)
            execution.wait = wait
            raise errors.RuntimeUnavailableError("the engine went away", "Look.")

        execution.wait = lose
        return execution

    runtime.start = start_then_lose
    job.wait(logs=False)
    assert job.status == "Completed", "it is taken up when the engine is back"
    assert place.read(tmp_path) == {"deep/count": "1"}


def test_the_plan_the_record_and_the_description_show_them(submit, place, make_source, store):
    job, _ = submit()
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source(COUNTS),
        runtime=FakeRuntime(),
        checkpoint_s3_uri=f"{place.uri}/",
        checkpoint_local_path="/checkpoints",
    )
    assert job.describe()["CheckpointConfig"] == {"S3Uri": place.uri, "LocalPath": "/opt/ml/checkpoints"}
    plan = estimator.plan()
    mount = plan.containers[0].mounts[-1]
    assert (mount.target, mount.read_only) == ("/checkpoints", False)
    assert Path(mount.source).is_relative_to(plan.containers[0].tree_path), "given back with the tree"
    assert f"restores   /checkpoints/ <- {place.uri}/\n" in str(plan)
    assert f"writes     {place.uri}/ <- /checkpoints/ (while it runs)\n" in str(plan)
    run(job)
    attached = launcher.Estimator.attach("job-1")
    assert (attached.checkpoint_s3_uri, attached.checkpoint_local_path) == (place.uri, "/opt/ml/checkpoints")
    assert "restore_checkpoints" in json.loads(store.folder("job-1").record_path.read_text())["steps"]


def test_a_key_that_can_be_no_file_is_refused_before_the_job_is_recorded(make_source, store, tmp_path):
    place = Place(f"s3://{launcher.Session(mode='s3').default_bucket()}/kept")
    place.write(tmp_path, **{"a//b": "1"})
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source(COUNTS), runtime=FakeRuntime(), checkpoint_s3_uri=place.uri
    )
    with pytest.raises(errors.ChannelError, match=r"checkpoint_s3_uri=s3://.*has an empty part"):
        estimator.fit()
    assert store.names() == []
