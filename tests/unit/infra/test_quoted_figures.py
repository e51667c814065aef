"""What README and docs say of speed stands in benchmarks/results, and nowhere else."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"<!-- measured: ([^>]+) -->\n(.*?)<!-- /measured -->", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?(?![\w%-]|\.\d)")
SPEED = re.compile(
    r"\d[\d,.]* (?:times (?:mms|the tokens|as fast)|(?:rows|requests|tokens|texts)/s)"
    r"|\d[\d.]* times (?:faster|slower|as many requests)"
)
NAMES = re.compile(r"`[^`]*`|\[[^]]*\]\([^)]*\)|\b[\w-]*[A-Za-z][\w-]*\b")
"""Code, links and words with digits in them (MiniLM-L6) are no figures."""


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, (*path, name))
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def known(name: str) -> set[float]:
    """Every number of a result, and the ratios of two figures of one name (both sides' seconds)."""
    leaf_values = list(leaves(json.loads((RESULTS / name).read_text())))
    values = {value for _, value in leaf_values}
    # A file of two sides: the same figure of each.
    by_name: dict[str, list[float]] = {}
    for path, value in leaf_values:
        if len(path) == 2:
            by_name.setdefault(path[-1], []).append(value)
    for pair in by_name.values():
        values |= {a / b for a, b in itertools.permutations(pair, 2) if b}
    return values


def figures(text: str) -> Iterator[str]:
    for figure in NUMBER.finditer(NAMES.sub(lambda match: " " * len(match[0]), text)):
        yield figure[0].rstrip(",")


def says(quoted: str, value: float) -> bool:
    """Whether a figure is this value, to as many digits as it shows."""
    digits = len(quoted.partition(".")[2])
    return abs(float(quoted.replace(",", "")) - value) <= 0.5 * 10**-digits + 1e-9


def blocks() -> list[tuple[str, str, str]]:
    return [
        (page.name, names, text)
        for page in PAGES
        for names, text in BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


def test_there_are_figures_to_check() -> None:
    assert {page for page, _, _ in blocks()} >= {"serving.md", "training.md", "data.md"}


@pytest.mark.parametrize(("page", "names", "text"), blocks())
def test_quoted_figures_stand_in_the_results(page: str, names: str, text: str) -> None:
    values = set().union(*(known(name) for name in names.split()))
    wrong = [q for q in figures(text) if not any(says(q, value) for value in values)]
    assert not wrong, f"{page} quotes {wrong}, which {names} does not hold"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_speeds_are_quoted_with_their_results_alone(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)  # a program's output
    text = re.sub(r"^The goals are .*?\n\n", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not SPEED.findall(text), "put it between `<!-- measured: FILE -->` marks"


def test_what_is_not_in_a_result_is_found() -> None:
    assert says("4.2", 4.2025)
    assert says("4", 4.2)
    assert not says("4.3", 4.2025)
    assert not says("1,445", 1444.0)
    assert list(figures("`x 1` MiniLM-L6 took 1,444 (2.6, 18), 1.5 to 3.")) == [
        "1,444",
        "2.6",
        "18",
        "1.5",
        "3",
    ]
