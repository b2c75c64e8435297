"""What a newcomer installs: the distribution's name, the build of torch, and the Pythons that are promised."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from batch_rl.errors import install_command as job_install_command
from launcher.settings import CPU_TORCH_INDEX_URL, DISTRIBUTION, build_settings, data_path, install_command

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def texts():
    for pattern in ("*.md", "docs/*.md", "examples/**/*", "launcher/**/*.py", "entrypoints/**/*.py", "container/*"):
        for path in ROOT.glob(pattern):
            if path.is_file() and path.suffix not in (".pyc", ".whl"):
                yield path, path.read_text(encoding="utf-8")


def test_the_distribution_has_one_name_and_it_is_not_that_of_a_strangers_package():
    """ "launcher" on PyPI is another project; whoever follows our advice must not install it."""
    assert PROJECT["name"] == DISTRIBUTION == "sagemaker-launcher"
    for path, text in texts():
        assert not re.search(r"(?<![-\w])launcher\[\w", text), path
        assert not re.search(r"pip install [^\n`]*(?<![-\w/])launcher\b(?!\[)", text), path
    assert {name for extra in PROJECT["optional-dependencies"].values() for name in extra if "launcher" in name} == {
        "sagemaker-launcher[box2d,debug,gif,minari,onnx,tuning]"
    }


def test_advice_to_install_an_extra_pins_versions_and_names_extras_that_exist():
    words = install_command("rl").split()
    assert words[0] == sys.executable
    assert Path(words[words.index("--constraint") + 1]) == data_path("container") / "constraints.txt"
    assert words[-1] == f"{ROOT}[rl]" or words[-1] == f"'{ROOT}[rl]'"
    named = {extra for _, text in texts() for extra in re.findall(r"install_command\(['\"](\w+)['\"]\)", text)}
    assert {"rl", "gif", "onnx", "minari", "spark"} <= named <= set(PROJECT["optional-dependencies"])
    assert job_install_command("gif").endswith("'sagemaker-launcher[gif]'")
    assert f"--constraint {data_path('container') / 'constraints.txt'}" in job_install_command("gif")


def test_torch_comes_from_the_index_of_cpu_builds_unless_another_is_named(monkeypatch):
    monkeypatch.delenv("TORCH_INDEX_URL", raising=False)
    assert build_settings().torch_index_url == CPU_TORCH_INDEX_URL == "https://download.pytorch.org/whl/cpu"
    monkeypatch.setenv("TORCH_INDEX_URL", "")
    assert build_settings().torch_index_url == ""
    for file in ("container/Dockerfile", "docker-compose.yml", "Makefile", "README.md"):
        assert CPU_TORCH_INDEX_URL in (ROOT / file).read_text(), file


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch has no builds with CUDA")
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(("variables", "expected"), [({}, True), ({"TORCH_INDEX_URL": ""}, False)])
def test_make_takes_the_cpu_build_of_torch_by_default(variables, expected, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TORCH_INDEX_URL"} | variables
    command = ["make", "--dry-run", "--always-make", "demo", f"venv={tmp_path}/venv"]
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert (f'--extra-index-url "{CPU_TORCH_INDEX_URL}" torch' in said) == expected
    assert "--no-index --no-deps torch" in said, "a wheel that lies in a folder goes before any index"


def test_ci_tests_with_the_oldest_python_that_will_do(tmp_path):
    """Names of interpreters say nothing: each is asked."""
    for name, answer in (("python3.11", "3.11.0 /the/oldest"), ("python3.12", "3.12.1 /a/newer"), ("python3.10", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{answer}'\n" if answer else "#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    function = re.search(r"^oldest_python\(\) \{\n.*?^\}\n", (ROOT / ".ci/run").read_text(), re.MULTILINE | re.DOTALL)
    answer = subprocess.run(
        ["bash", "-c", f"{function[0]} oldest_python"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "/the/oldest\n"
    assert PROJECT["requires-python"] == ">=3.11"


def test_builds_get_certificates_and_wheels_from_whichever_file_of_pip_names_them(tmp_path):
    """Where the machine and the user have a file each, ``pip config get`` knows the user's keys alone."""
    pip = tmp_path / ".venv" / "bin" / "python"
    pip.parent.mkdir(parents=True)
    (tmp_path / "ca.pem").write_text("certificates")
    listing = {"global.cert": f"{tmp_path}/ca.pem", "global.find-links": f"\n{tmp_path}\n/not/here"}
    (tmp_path / "listing").write_text("".join(f"{name}={value!r}\n" for name, value in listing.items()))
    pip.write_text('#!/bin/sh\n[ "$4" = list ] && cat listing\n')
    pip.chmod(0o755)
    answer = subprocess.run(
        ["bash", ROOT / ".ci/with-host-settings", "env"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    settings = dict(line.split("=", 1) for line in answer.stdout.splitlines())
    assert settings["LAUNCHER_BUILD_CA"] == settings["HOST_CA_BUNDLE"] == str(tmp_path / "ca.pem")
    assert settings["LAUNCHER_BUILD_WHEELS"] == str(tmp_path)


def test_the_example_unpacks_on_a_python_whose_tarfile_has_no_filters(monkeypatch, tmp_path):
    """3.11.0 to 3.11.3, such as Debian 12's."""
    specification = importlib.util.spec_from_file_location("notebook_story", ROOT / "examples/notebook_story.py")
    story = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(story)
    (tmp_path / "file").write_text("content")
    with tarfile.open(tmp_path / "output.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "file", "file")
    extractall = tarfile.TarFile.extractall
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda self, path=".", members=None: extractall(self, path))
    monkeypatch.setattr(story, "wait_for_s3_object", lambda *_, **__: [str(tmp_path / "output.tar.gz")])
    folder = story.fetch_output("bucket", "job-1", tmp_path / "here")
    assert (folder / "file").read_text() == "content"
