"""``launcher explain`` prints what docs/errors.md says of an error."""

import ast
from pathlib import Path

import pytest

from launcher.cli.explain import entry_of, explain, pointer, read_page
from launcher.errors import BadInputError, ChannelError, ImageError, JobFailedError
from launcher.storage.base import UnfitNameError
from tests.shell import run_launcher

ROOT = Path(__file__).parents[2]
OF_PROGRAMS = ("BatchRLError", "JobInputError", "ServingError")  # roots of what programs inside a job print


@pytest.fixture
def said(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def said(*words):
        explain(list(words))
        return capsys.readouterr().out

    return said


def error_classes():
    """Return the errors that a user can see by their class: those of the host's tree, and of programs in a job."""
    bases = {}
    for folder in ("launcher", "container", "entrypoints"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    bases.setdefault(node.name, set()).update(
                        base.id for base in node.bases if isinstance(base, ast.Name)
                    )
    seen = {"LauncherError", *OF_PROGRAMS}
    while added := {name for name, parents in bases.items() if parents & seen} - seen:
        seen |= added
    return seen


def test_every_class_of_error_has_an_entry_and_every_entry_a_class():
    entries, symptoms = read_page()
    assert {name for entry in entries for name in entry.names} == error_classes()
    assert all(entry.meaning and entry.remedy for entry in entries)
    assert len(symptoms) > 40


def test_a_class_is_explained_with_its_exit_code_its_rows_and_where_the_pages_are(said):
    text = said("SettingsError")
    assert text.startswith("SettingsError (exit code 2)\n  A variable of the environment is wrong")
    assert "`SettingsError: ... which is real AWS`\n  AWS has to be meant" in text
    assert f"settings.md is {ROOT / 'docs/settings.md'}" in text.replace("~", str(Path.home()))
    assert "](" not in text
    assert said("settings") == said("settingserror") == text


def test_words_of_a_message_are_explained_as_well_as_a_whole_message(said):
    assert "writable=True" in said("Read-only", "file", "system")
    assert "image-build.log" in said("ImageError: the image launcher-job:1f could not be built")
    assert "LAUNCHER_BUILD_CA" in said("CERTIFICATE_VERIFY_FAILED")


def test_without_an_argument_every_error_is_listed(said):
    assert {line.split()[0] for line in said().splitlines()[1:]} == error_classes()


def test_a_class_that_there_is_not_leads_to_the_nearest_one():
    with pytest.raises(BadInputError, match="nothing is explained under 'ChanelError'") as caught:
        explain(["ChanelError"])
    assert "Did you mean ChannelError?" in caught.value.hint


def test_every_explanation_fits_80_columns(said):
    for entry in read_page()[0]:
        for line in said(entry.names[0]).splitlines():
            assert len(line) <= 80 or " is " in line, line  # a path is not broken


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (ChannelError("channel 'train' is empty.", "Put a file there."), None),
        (ChannelError("channel 'train' is empty."), "ChannelError"),
        (UnfitNameError("no file of that name."), "UnfitNameError"),
        (ImageError("the image launcher-job:1f could not be built: no space"), "'ImageError: the image launcher-job'"),
        (JobFailedError("job 'a': ValueError: 1", "Log: a.log"), None),
        (JobFailedError("job 'a': OSError: [Errno 30] Read-only file system: 'x'"), "'Read-only file system'"),
        (JobFailedError("job 'a' failed.", "ends with: ModuleNotFoundError: no x"), "ModuleNotFoundError"),
    ],
)
def test_an_error_ends_with_the_command_only_where_the_page_says_more(error, command, said):
    assert pointer(error) == (f"\n  More: launcher explain {command}" if command else "")
    if command:
        assert said(command.strip("'")) != ""


def test_the_command_line_ends_an_error_so(tmp_path):
    (tmp_path / "writes.py").write_text("import os; open(os.environ['SM_CHANNEL_TRAINING'] + '/x', 'w')")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").write_text("")
    failed = run_launcher("fit", "writes.py", "-i", "data", "-r", "process", cwd=tmp_path, COLUMNS="80")
    assert failed.returncode == 1
    assert failed.stderr.endswith("\n  More: launcher explain 'Read-only file system'\n")
    explained = run_launcher("explain", "Read-only file system", cwd=tmp_path)
    assert (explained.returncode, explained.stderr) == (0, "")
    assert entry_of("JobFailed", read_page()[0]) is not None
