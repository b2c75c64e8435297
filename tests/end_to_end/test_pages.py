"""Each page's commands run as they are written, one after the other."""

import pytest

from tests.pages import ROOT, blocks, run_page, unknown_rules

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
RUNNING = [page for page in PAGES if any(block.runs for block in blocks(page))]
QUICK = ("first-steps.md",)


def test_comments_on_blocks_say_what_the_runner_knows():
    assert {page.name: unknown_rules(page) for page in PAGES if unknown_rules(page)} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.name, marks=[] if page.name in QUICK else [pytest.mark.whole]) for page in RUNNING],
)
def test_the_commands_of_a_page_run_as_they_are_written(page, tmp_path, home):
    folder = tmp_path / "folder"
    folder.mkdir()
    run_page(page, folder, home)
