"""Names say what they hold: some words fit every value and tell nothing of any."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EMPTY_NAMES = {"each", "found", "kept", "known", "more", "one", "what", "where"}
FOLDERS = (
    *("launcher", "container", "entrypoints", "examples", "benchmarks", ".ci"),
    *("tests/launcher", "tests/container", "tests/entrypoints", "tests/contract", "tests/end_to_end"),
)


def bound_names(node: ast.AST) -> list[str]:
    """Return the names that a node of the syntax tree gives to something."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return [name]
        case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
        case ast.alias(asname=str(name)):
            return [name]
    return []


def empty_names(source: str) -> list[str]:
    """Return line and name of each empty name that a program gives."""
    return [
        f"{getattr(node, 'lineno', 0)}: {name}"
        for node in ast.walk(ast.parse(source))
        for name in bound_names(node)
        if name in EMPTY_NAMES
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_name_is_a_word_that_fits_every_value(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    findings = [f"{path.relative_to(ROOT)}:{finding}" for path in paths for finding in empty_names(path.read_text())]
    assert findings == []


@pytest.mark.parametrize(
    "source",
    [
        "one = 1",
        "for each in rows: pass",
        "[found for found in rows]",
        "def f(known): pass",
        "def f(*, what=1): pass",
        "self.kept = 1",
        "with a as more: pass",
        "lambda where: 1",
        "import numpy as what",
        "if one := 1: pass",
    ],
)
def test_every_way_to_give_a_name_is_seen(source):
    assert len(empty_names(source)) == 1
