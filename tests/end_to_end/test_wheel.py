"""The package works from a wheel, in an environment and a folder that know nothing of the checkout."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from functools import partial
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, in which somebody keeps wheels of his own beside the Dockerfile."""
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    copy.mkdir()
    for name in ("launcher", "container", "entrypoints", "presets", "docs"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.whl"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    for folder in ("container/job_toolkit", "container/model_server", "entrypoints/batch_rl"):
        (copy / folder / "__pycache__").mkdir()
        (copy / folder / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    (copy / "container" / "wheels" / "private-1.0-py3-none-any.whl").write_bytes(b"x")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    return next((copy / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A new environment with the wheel; what it depends on comes from the tests' own."""
    root = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    packages = next((root / "lib").glob("python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", str(root / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return root / "bin"


def test_the_wheel_carries_image_entry_points_and_presets_and_nothing_private(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "launcher/_data/container/Dockerfile",
        "launcher/aliases/session.py",
        "launcher/_data/container/job_toolkit/trainer.py",
        "launcher/_data/container/model_server/app.py",
        "launcher/_data/entrypoints/train.py",
        "launcher/_data/presets/preset-cartpole-ddqnbcq.yaml",
        "launcher/_data/docs/errors.md",
    } <= names
    assert not [name for name in names if name.endswith((".whl", ".pyc"))]


def test_a_job_runs_from_the_installed_wheel(installed, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    job = ["fit", "collect.py", "--preset", "preset-cartpole-random", "-p", "num_envs=2", "-r", "process"]
    said = subprocess.run(
        [installed / "launcher", *job, "--job-name", "job-1"],
        cwd=tmp_path,
        env={**environment, "LAUNCHER_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr + said.stdout
    assert (tmp_path / "home" / "jobs" / "job-1" / "output" / "output.tar.gz").exists()
    place = subprocess.run(
        [installed / "python", "-c", "import launcher.settings as s; print(s.data_path('presets'))"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(installed.parent) in place


def test_the_pages_travel_along_so_that_errors_are_explained(installed, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [installed / "launcher", "explain", "SettingsError"]
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    page = Path(said.splitlines()[-1].removeprefix("settings.md is ").replace("~", str(Path.home())))
    assert installed.parent in page.parents
    assert page.read_text().startswith("# Settings")


def test_the_advice_to_install_an_extra_works_as_written(installed, tmp_path):
    """pip knows the extras of what is installed, and asks no index for the distribution itself."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    advice = run([installed / "python", "-c", "import launcher.settings as s; print(s.install_command('rl'))"]).stdout
    interpreter, *words = shlex.split(advice)
    assert Path(interpreter) == installed / "python"
    assert words[:3] == ["-m", "pip", "install"]
    assert words[-1] == "sagemaker-launcher[rl]"
    assert (installed.parent / "lib") in Path(words[words.index("--constraint") + 1]).parents
    pip = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--dry-run", "--no-index"]
    assert "Would install" not in run([*pip, *words[3:]]).stdout, "the tests' own environment has it all"


def test_presets_of_ones_own_take_the_place_of_the_bundled_ones(installed, tmp_path):
    shutil.copytree(CHECKOUT / "presets", tmp_path / "mine")
    (tmp_path / "mine" / "preset-cartpole-random.yaml").rename(tmp_path / "mine" / "ours.yaml")
    said = subprocess.run(
        [installed / "launcher", "fit", "collect.py", "--preset", "ours", "-p", "num_envs=2", "-r", "process"],
        cwd=tmp_path,
        env={**os.environ, "LAUNCHER_HOME": str(tmp_path / "home"), "LAUNCHER_PRESETS_DIR": str(tmp_path / "mine")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "Collected 10 episodes" in said.stdout
