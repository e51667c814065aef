"""Names say what they hold: some would fit any value, and are taken for none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("sm_launch", "containers", "benchmarks", "infra", "examples", "tests")
VAGUE = frozenset({"found", "words", "aside", "bank", "workplace"})
"""Say `rows`, `matches`, `problems`, `tokens`, `message`: what it is."""
LOOKS_LIKE_A_NAME = re.compile(
    rf"\b_?({'|'.join(VAGUE)})\b\s*([=:,()\].]|in\b|$)", re.IGNORECASE | re.M
)


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module gives to something, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield node.attr, node.lineno
        elif isinstance(node, ast.MatchAs | ast.ExceptHandler) and node.name:
            yield node.name, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, 0


def vague(text: str) -> list[tuple[str, int]]:
    if not LOOKS_LIKE_A_NAME.search(text):  # most files are not worth parsing
        return []
    names = bound_names(ast.parse(text))
    return [(name, line) for name, line in names if name.strip("_").lower() in VAGUE]


@pytest.mark.slow  # it reads every file
def test_no_name_would_fit_any_value() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 500
    strange = {str(path.relative_to(ROOT)): vague(path.read_text()) for path in files}
    assert {path: names for path, names in strange.items() if names} == {}


def test_every_way_to_name_something_is_seen() -> None:
    ways = (
        "found = 1",
        "def found(): ...",
        "class Found: ...",
        "def f(words): ...",
        "f = lambda words: 0",
        "import re as found",
        "for words in []: ...",
        "self.found = 1",
        "[1 for found in []]",
        "if (found := 1): ...",
        "a, *words = 1, 2",
        "with a as found: ...",
        "_found: int",
    )
    assert [way for way in ways if not vague(way)] == []
    assert vague("raise KeyError('found: none of the words')") == []
