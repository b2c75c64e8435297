"""What the documentation promises is there."""

import importlib
import inspect
import re
import runpy
from pathlib import Path

import pytest
from typer.main import get_command

import launcher
from launcher.aws.sagemaker import OPERATIONS
from launcher.cli.main import app
from launcher.requests.shapes import is_of_sagemaker

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
DOCUMENTED = {
    "Estimator": launcher.Estimator,
    "RLEstimator": launcher.RLEstimator,
    "launcher.fit": launcher.fit,
    "Session": launcher.Session,
    "fit and the other methods": launcher.Estimator.fit,
    "TrainingInput": launcher.TrainingInput,
    "TrainingJobAnalytics": launcher.TrainingJobAnalytics,
}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def rows(title):
    """Yield the cells of each table row below a heading of docs/options.md."""
    text = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def names_in(title):
    return {name for row in rows(title) for name in re.findall(r"`(\w+)`", row[0])}


def _elsewhere(title):
    """Return the arguments of a class that stand in tables of their own."""
    if title not in ("Estimator", "fit and the other methods"):
        return set()
    return names_in("Arguments that raise") | names_in("Arguments without effect")


def without_code(text):
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(page):
    """Return the names that a page's headings can be linked by."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("title", DOCUMENTED)
def test_every_argument_is_documented(title):
    expected = set(inspect.signature(DOCUMENTED[title]).parameters) - {"self", "kwargs"}
    documented = names_in(title) | _elsewhere(title)
    assert expected - documented == set()


def test_the_tables_of_options_are_generated_from_the_one_that_counts():
    """After a change in launcher/sdk/options.py or launcher/requests/members.py: python .ci/make_options_page.py"""
    tool = runpy.run_path(str(ROOT / ".ci/make_options_page.py"))
    page = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    assert tool["with_tables"](page) == page


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_between_the_pages_lead_somewhere(page):
    broken = []
    for link in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        leads_somewhere = (
            not anchor or (target.suffix == ".md" and anchor in anchors(target)) if target.exists() else False
        )
        if "://" not in link and not leads_somewhere:
            broken.append(link)
    assert broken == []


def test_every_command_that_the_pages_name_exists():
    commands = set(get_command(app).commands)
    named = {
        name
        for page in PAGES
        for block in re.findall(r"```\w*\n.*?```|`[^`\n]*`", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for name in re.findall(r"(?:^|[\s`/])launcher ([a-z]+)\b", block)
        if name != "import"
    }
    assert "fit" in named
    assert named - commands == set()


def test_the_page_of_commands_explains_every_command():
    shown = {name for name, command in get_command(app).commands.items() if not command.hidden}
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert {name for name in shown if f"launcher {name}" not in page} == set()


def test_the_page_of_settings_lists_every_environment_variable():
    source = (ROOT / "launcher/settings.py").read_text(encoding="utf-8")
    variables = set(re.findall(r"\b(?:LAUNCHER_[A-Z_]*[A-Z]|TORCH_INDEX_URL)\b", source))
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert "LAUNCHER_HOME" in variables
    assert {name for name in variables if f"`{name}`" not in page} == set()


def test_the_names_that_moving_over_imports_are_there():
    text = (ROOT / "docs/moving-over.md").read_text(encoding="utf-8")
    imported = re.findall(r"`from (launcher[\w.]*) import (\w[\w, ]*)`", text)
    modules = [
        module for line in text.splitlines() if "the same with `launcher`" in line
        for module in re.findall(r"sagemaker\.(\w+)", line)
    ]  # fmt: skip
    assert len(imported) > 2
    assert len(modules) > 5
    for module, names in imported:
        assert all(hasattr(importlib.import_module(module), name) for name in names.split(", ")), module
    for module in modules:
        importlib.import_module(f"launcher.{module}")


def test_every_operation_of_sagemaker_that_is_served_has_a_row():
    """A row may hold several; one of an operation that there is not would mislead."""
    text = (ROOT / "docs/aws-operations.md").read_text(encoding="utf-8").split("<!-- table operations -->")[1]
    table = text.split("\n\n")[0]
    named = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split(" | ")[0])}
    assert set(OPERATIONS) - named == set()
    assert [name for name in sorted(named) if not is_of_sagemaker(name)] == []


def test_the_reference_has_every_public_name_and_its_arguments():
    page = runpy.run_path(str(ROOT / ".ci/make_reference.py"))["page"](launcher)
    assert {name for name in launcher.__all__ if f"### {name}\n" not in page} == set()
    assert "    checkpoint_s3_uri: str | None = None,\n" in page
    assert "- `sections`: `outcome`, `request`," in page
    assert " at 0x" not in page, "a default that changes from run to run"
