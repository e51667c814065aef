"""Which files are which split's: channels by all their names, and folders that hold several."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sm_train.config import parse_config
from sm_train.contract import Paths
from sm_train.data.channels import load_data
from sm_train.errors import UserError
from sm_train.rows import Data

Channel = Callable[..., Path]


def rows(name: str) -> list[dict[str, str]]:
    return [{"text": f"{name} {i}", "label": "ab"[i % 2]} for i in range(4)]


def fill(paths: Paths, **channels: str) -> None:
    """Channel to the names of its files, in one text."""
    for name, files in channels.items():
        for file in files.split():
            target = paths.channels / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("\n".join(map(json.dumps, rows(file))))


def load(paths: Paths, **given: str) -> Data:
    return load_data(paths, parse_config({"method": "text-classification", **given}))


@pytest.mark.parametrize(
    ("files", "held_out"),
    [
        ("train.jsonl validation.jsonl test.jsonl", {"validation", "test"}),
        ("my-train-00.jsonl my_dev.jsonl", {"validation"}),
        ("data.jsonl test.jsonl", {"test"}),
        ("train/a.jsonl val/a.jsonl", {"validation"}),
        ("a.jsonl b.jsonl", set()),
        ("contest.jsonl", set()),
    ],
)
def test_a_train_channel_that_holds_several_splits(
    paths: Paths, files: str, held_out: set[str]
) -> None:
    fill(paths, train=files)
    data = load(paths)
    assert {name for name in ("validation", "test") if data.split(name)} == held_out
    for name in held_out:
        assert len(data.split(name) or []) == 4
        assert any(f"is taken as {name} data" in note for note in data.notes)
    assert len(data.train) == 4 * (len(files.split()) - len(held_out))


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"train": "a.jsonl", "training": "b.jsonl"}, "train and training: both are train data"),
        ({"train": "a.jsonl", "val": "a.jsonl", "validation": "b.jsonl"}, "both are validation"),
        ({"train": "train.jsonl test.jsonl", "test": "b.jsonl"}, "test data beside it"),
        ({"train": "dev.jsonl test.jsonl"}, "holds files of test and validation"),
        ({"train": "a.jsonl", "test": "train.jsonl test.jsonl"}, "channel test: holds files of"),
        ({"train": "a.jsonl", "validaton": "b.jsonl"}, "validaton: is no channel .*it validation"),
        ({"train": "a.jsonl", "test_set": "b.jsonl"}, "name it test"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(
    paths: Paths, channels: dict[str, str], message: str
) -> None:
    fill(paths, **channels)
    with pytest.raises(UserError, match=message):
        load(paths)


def test_other_names_of_the_splits(paths: Paths) -> None:
    fill(paths, Train="a.jsonl", validate="dev-v1.jsonl", testing="dev.jsonl")
    data = load(paths)
    assert data.validation is not None
    assert data.test is not None
    assert data.notes == ()


def test_what_is_not_read_is_named_once(paths: Paths, channel: Channel) -> None:
    channel("train", [{**row, "id": "1", "when": "now"} for row in rows("a")])
    (paths.channels / "train" / "notes.md").write_text("no data")
    fill(paths, spare="a.jsonl", judge="config.json")
    data = load(paths, text_pair_column="when", chat_template="")
    assert "channel train: columns not read: id" in data.notes
    assert "channel train: files not read: notes.md" in data.notes
    assert "channel spare is not read: no setting names it" in data.notes
