"""Build the documentation as a site: the pages of this repository, with their links, by Zensical.

    make docs                       # or: python .ci/make_site.py [FOLDER]; build/site by default

Zensical reads a copy of the pages, in the same folders, so that each link between pages stays as it is written. A link
to a file that is no page becomes its name. The reference is made from signatures and docstrings.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAVIGATION = {
    "Home": "README.md",
    "Start": ["first-steps", "moving-over", "your-own-log", "ci", "commands", "settings", "errors"],
    "Jobs": [
        *("job-contract", "channels", "runtimes", "another-machine", "slurm", "kubernetes", "exports"),
        *("amazon-sagemaker", "scale", "storage", "warm-pools"),
        *("distributed", "faults", "looking-inside", "console", "comparing", "tuning", "processing"),
    ],
    "Models at work": ["serving", "batch-transform", "endpoints", "the-loop"],
    "Batch RL": ["batch-rl", "learning", "presets", "data", "reagent"],
    "The local AWS": ["aws-endpoint", "exec", "aws-operations", "aws-batch", "s3-conformance"],
    "Reference": ["reference", "options"],
    "The project": [
        *(
            "decisions",
            "fault-matrix",
            "adding-a-learning-rule",
            "adding-a-runtime",
            "adding-a-storage",
            "adding-an-option",
        ),
        *("../ARCHITECTURE", "../CHANGELOG", "../examples/README", "../benchmarks/README"),
    ],
}
"""Every page of docs/ in the order of the menu, and ``reference``, which is made; a test refuses a missing page."""

PAGES = ("*.md", "docs/**/*.md", "examples/*.md", "benchmarks/*.md")
PICTURES = ("docs/**/*.svg", "docs/**/*.png")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)")


def page_path(name: str) -> str:
    """Return the path of a page of the menu, relative to the root."""
    return f"docs/{name}.md" if not name.startswith("../") else f"{name.removeprefix('../')}.md"


def menu() -> list[dict[str, object]]:
    """Return the menu as Zensical takes it."""
    return [
        {title: pages if isinstance(pages, str) else [page_path(name) for name in pages]}
        for title, pages in NAVIGATION.items()
    ]


def with_links_of_the_site(page: Path, text: str) -> str:
    """Return a page without links to what is no page: a program, a folder."""

    def link(match: re.Match[str]) -> str:
        target = (page.parent / match[2].partition("#")[0]).resolve()
        return match[0] if target.suffix in (".md", ".png", ".svg") else match[1]

    return _LINK.sub(link, text)


def main(folder: Path) -> int:
    """Write the copy and build the site; warnings are errors. Returns Zensical's exit code."""
    source = folder / "source"
    shutil.rmtree(folder, ignore_errors=True)
    for pattern in (*PAGES, *PICTURES):
        for path in ROOT.glob(pattern):
            copy = source / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                copy.write_text(with_links_of_the_site(path, path.read_text(encoding="utf-8")), encoding="utf-8")
            else:
                shutil.copyfile(path, copy)
    reference = [sys.executable, str(ROOT / ".ci/make_reference.py")]
    with (source / "docs/reference.md").open("w", encoding="utf-8") as page:
        subprocess.run(reference, stdout=page, check=True)
    configuration = {
        "site_name": "launcher",
        "site_description": "Amazon SageMaker on one machine",
        "docs_dir": "source",
        "site_dir": "html",
        "use_directory_urls": False,
        "nav": menu(),
        "theme": {
            "font": False,  # no request to a server of fonts
            "features": ["navigation.sections", "navigation.top", "content.code.copy", "search.suggest"],
            "palette": [
                {
                    "media": "(prefers-color-scheme: light)",
                    "scheme": "default",
                    "toggle": {"icon": "lucide/sun", "name": "Dark"},
                },
                {
                    "media": "(prefers-color-scheme: dark)",
                    "scheme": "slate",
                    "toggle": {"icon": "lucide/moon", "name": "Light"},
                },
            ],
        },
        "markdown_extensions": ["tables", "toc", "pymdownx.superfences", "pymdownx.highlight", "md_in_html"],
    }
    (folder / "mkdocs.yml").write_text(json.dumps(configuration, indent=2), encoding="utf-8")  # YAML is a superset
    answer = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "mkdocs.yml"], cwd=folder, check=False
    )
    if answer.returncode == 0:
        print(f"{folder / 'html/index.html'}")
    return answer.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build/site"))
