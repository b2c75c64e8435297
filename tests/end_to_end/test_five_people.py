"""Five people's first hour, as the pages tell it: each an ordinary user with a clean home and 80 columns.

The laptop has a clone; the others have the wheel, or Docker alone. Bundled jobs do less work (``tests.pages.SMALL``).
"""

import shutil
import subprocess

import pytest

from tests.compose import compose_in
from tests.pages import ROOT, Reader, blocks, run_page
from tests.users import as_stranger, folder_of_ordinary_user


@pytest.fixture
def person():
    """A folder of somebody who has nothing yet, and the variables of a login."""
    folder = folder_of_ordinary_user()
    yield folder
    subprocess.run(as_stranger(["rm", "-rf", f"{folder}/work", f"{folder}/.launcher"]), check=False)
    shutil.rmtree(folder)


def reader_at(folder, python, **variables):
    login = {"HOME": str(folder), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "xterm"}
    return Reader(str(python), {**login, **variables}, as_stranger)


def walk(page, folder, reader, **options):
    """Run a page in an empty folder and the person's own home; nothing else may be needed."""
    work = folder / "work"
    assert reader.run(["mkdir", str(work)], folder).returncode == 0
    return run_page(ROOT / page, work, None, reader=reader, **options)


def too_wide(printed):
    """Return what is wider than 80 columns and holds no path: a name that the reader chose may be long."""
    lines = [line for line in printed.splitlines() if not line.startswith(("$ ", "launcher "))]
    return [line for line in lines if len(line) > 80 and "/" not in line]


@pytest.mark.slow
def test_a_script_of_ones_own_runs_from_the_wheel_as_the_first_page_says(installed_for_all, person):
    printed = walk(
        "docs/first-steps.md", person, reader_at(person, installed_for_all / "python"), until="## The batch RL job"
    )
    assert "line: Completed. Results: " in printed
    assert "Next: launcher fit SCRIPT -i CHANNEL=line\n" in printed
    assert f"{person}/.launcher/jobs/line/unpacked/model/line.json" in printed
    assert too_wide(printed) == []
    record = person / ".launcher/jobs/line/job.json"
    assert record.stat().st_uid == person.stat().st_uid


@pytest.mark.whole
def test_the_laptop_walks_the_first_steps_in_a_clone(installed_for_all, person):
    """The clone's own code: it stands before the wheel's in the search path."""
    clone = person / "clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    reader = reader_at(person, installed_for_all / "python", PYTHONPATH=str(clone))
    assert "By FQE " in walk("docs/first-steps.md", person, reader)
    place = [str(installed_for_all / "python"), "-c", "import launcher; print(launcher.__file__)"]
    assert str(clone) in reader.run(place, person, env=reader.environment).stdout


@pytest.mark.whole
@pytest.mark.parametrize(
    ("page", "words"),
    [
        pytest.param("docs/first-steps.md", "By FQE ", id="pip"),
        pytest.param("docs/your-own-log.md", "Gate passed", id="own log"),
        pytest.param("docs/ci.md", "Completed", id="own script in a pipeline"),
        pytest.param("docs/console.md", "/_console/?token=", id="a look"),
    ],
)
def test_the_pages_walk_from_the_wheel(page, words, installed_for_all, person):
    assert words in walk(page, person, reader_at(person, installed_for_all / "python"))


@pytest.mark.whole
@pytest.mark.docker
def test_with_docker_alone_the_jobs_of_the_page_run(tmp_path):
    (block,) = [block for block in blocks(ROOT / "docs/runtimes.md") if "docker compose run" in block.text]
    with compose_in(tmp_path / "checkout") as compose:
        for line in block.text.splitlines():
            command = line.partition("#")[0].split()
            ended = compose.docker(*command[1:])
            assert ended.returncode == 0, line + ended.stdout[-2000:] + ended.stderr[-2000:]
        assert (compose.jobs / "train/output/output.tar.gz").is_file()
        compose.docker("compose", "--profile", "ui", "down")
