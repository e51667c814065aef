"""A way to prepare rows in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_launch.data import DataConfig, PreparationReport, prepare
from sm_launch.progress import no_progress


class Prepared:
    """A finished preparation, with its files read back."""

    def __init__(self, report: PreparationReport) -> None:
        self.report = report

    def rows(self, split: str) -> list[dict[str, Any]]:
        return read_jsonl(self.report.splits[split].path)

    @property
    def all_rows(self) -> list[dict[str, Any]]:
        return [row for split in self.report.splits for row in self.rows(split)]

    @property
    def rejected(self) -> list[dict[str, Any]]:
        return read_jsonl(self.report.output / "rejected.jsonl")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


Run = Callable[..., Prepared]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Prepare with `data` keys as keyword arguments; paths are relative to tmp_path."""

    def prepare_here(fetch=None, **data: Any) -> Prepared:
        config = DataConfig.model_validate({"max_rejected_share": 0.99} | data)
        return Prepared(
            prepare(
                config, tmp_path / "out", progress=no_progress, base_directory=tmp_path, fetch=fetch
            )
        )

    return prepare_here


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def reviews(write: Callable[[str, str], Path]) -> Path:
    """reviews.csv: 100 rows, 60 pos and 40 neg, all different."""
    lines = [f"review number {n},{'pos' if n % 5 < 3 else 'neg'}" for n in range(100)]
    return write("reviews.csv", "\n".join(["text,label", *lines]) + "\n")
