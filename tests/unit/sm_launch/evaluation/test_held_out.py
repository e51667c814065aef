"""On which rows a job is measured where nobody says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sm_launch.errors import UserInputError
from sm_launch.evaluation.job.held_out import locations, read
from sm_launch.job.config import JobConfig, load_config


def job(folder: Path, **training: Any) -> JobConfig:
    (folder / "job.yaml").write_text(json.dumps({"name": "a", "training": training}))
    return load_config(folder / "job.yaml")


def test_named_rows_come_before_the_job_s_own_channel_and_that_before_prepared_ones(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserInputError, match="no held-out data"):
        locations(job(tmp_path), None)
    prepared = tmp_path / "build/a/data/test"
    prepared.mkdir(parents=True)
    assert locations(job(tmp_path), None) == {"": str(prepared)}
    own = job(tmp_path, channels={"train": "a", "validation": "b", "Testing": "s3://b/test"})
    assert locations(own, None) == {"": "s3://b/test"}
    assert locations(own, "mine.jsonl") == {"": "mine.jsonl"}


def test_rows_of_several_data_sets_have_one_set_of_names(tmp_path: Path) -> None:
    for name, row in {
        "shop": {"review": "x", "label": 1},
        "film": {"body": "y", "label": 0},
    }.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    columns = {"columns": {"body": "text"}, "dataset_columns": {"shop": {"review": "text"}}}
    channels = {"train": "a", "test-shop": "shop.jsonl", "test-film": "film.jsonl"}
    rows = read(job(tmp_path, channels=channels, hyperparameters=columns), None, Path)
    assert rows.rows == [
        {"data_set": "film", "body": "y", "label": 0},
        {"data_set": "shop", "body": "x", "label": 1},
    ]
    assert rows.slices == ("data_set",)
