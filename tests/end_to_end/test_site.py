"""The site of the documentation is built without a warning, and each of its links leads somewhere."""

import html.parser
import runpy
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / ".ci/make_site.py"


class _Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.names, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.names |= {values["id"]} if values.get("id") else set()
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


def test_every_page_is_in_the_menu():
    tool = runpy.run_path(str(TOOL))
    named = {path for entry in tool["menu"]() for pages in entry.values() for path in pages if isinstance(pages, list)}
    present = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} | {"docs/reference.md"}
    assert {path for path in named if path.startswith("docs/")} == present
    assert {path for path in named if not path.startswith("docs/") and not (ROOT / path).is_file()} == set()


@pytest.mark.whole
def test_the_site_has_no_link_that_leads_nowhere(tmp_path):
    built = subprocess.run([sys.executable, str(TOOL), str(tmp_path)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    root = tmp_path / "html"
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in root.rglob("*.html")}
    assert len(pages) > 30
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if "://" in link or path.name == "404.html":
                continue
            file, _, name = link.partition("#")
            target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (name and unquote(name) not in pages[target].names):
                broken.append(f"{path.relative_to(root)}: {link}")
    assert sorted(set(broken)) == []
    reference = (root / "docs/reference.html").read_text(encoding="utf-8")
    assert "compare_jobs" in reference
