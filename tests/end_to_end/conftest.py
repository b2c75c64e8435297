"""The package as a wheel, in an environment that knows nothing of the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from tests.users import as_stranger

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """A new environment with the wheel; what it depends on comes from the tests' own."""
    return install(wheel, tmp_path_factory.mktemp("environment"), sys.executable)


@pytest.fixture(scope="session")
def installed_for_all(wheel):
    """The same where every user may go; root's own interpreter may lie where only root may."""
    folder = Path(tempfile.mkdtemp(prefix="launcher-environment-", dir="/tmp"))
    folder.chmod(0o755)
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        script = "import sys, typer; print(*sys.version_info[:2])"
        packages = {"PYTHONPATH": sysconfig.get_paths()["purelib"]}
        command = as_stranger(["sh", "-c", f"{python} -c '{script}'"])  # of the first program the path is not checked
        answer = subprocess.run(command, cwd="/", env=packages, capture_output=True, text=True, check=False)
        if answer.stdout.split() == [str(part) for part in sys.version_info[:2]]:
            yield install(wheel, folder, python)
            shutil.rmtree(folder)
            return
    pytest.skip("no interpreter and packages of this version that every user may read")


def install(wheel, root, python):
    subprocess.run([python, "-m", "venv", "--without-pip", str(root)], check=True)
    packages = next((root / "lib").glob("python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", str(root / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return root / "bin"
