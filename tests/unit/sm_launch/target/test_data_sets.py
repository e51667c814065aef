"""Several data sets of a split, on the laptop: refused as the container refuses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sm_launch.errors import UserInputError
from sm_launch.job.config import load_config
from sm_launch.jobs.optimization import calibrating, held_out
from sm_launch.target.channels import resolve_channels
from sm_launch.target.data_sets import channels_of, data_set_of
from sm_train import contract

NAMES = (
    "train", "train-code", "Train_code", "training.a-b", "val-a", "validation-1", "test_set",
    "train-data", "dev-dataset", "trainer", "my-train", "train-", "model", "testing.Files",
)  # fmt: skip


def job(folder: Path, channels: list[str], **hyperparameters: Any) -> Any:
    named = {}
    for channel in channels:
        (folder / channel).mkdir()
        (folder / channel / "a.jsonl").write_text('{"text": "a"}')
        named[channel] = channel
    training = {"method": "sft", "channels": named, "hyperparameters": hyperparameters}
    (folder / "job.yaml").write_text(json.dumps({"name": "mix", "training": training}))
    return load_config(folder / "job.yaml")


def test_both_packages_read_the_same_names() -> None:
    assert {name: data_set_of(name) for name in NAMES} == {
        name: contract.data_set_of(name) for name in NAMES
    }
    assert channels_of(NAMES, "validation") == ["val-a", "validation-1"]
    assert channels_of(NAMES, "train") == ["train", "train-code", "Train_code", "training.a-b"]


@pytest.mark.parametrize(
    ("channels", "given", "message"),
    [
        (["train", "train-a"], {}, "training.channels.train: stands beside train-a"),
        (["train-a", "training_a"], {}, "are both the data set a of train"),
        (["train", "test_set"], {}, "name it test if .*test-NAME"),
        (["train", "training"], {}, "are both train data"),
        (["train-a", "train-b"], {"dataset_weights": {"a": 1}}, "no weight for the data set b"),
        (
            ["train-a", "train-b"],
            {"dataset_weights": {"a": 1, "b": 1, "c": 1}},
            r"no data set of the job \(got 'c'",
        ),
        (["train-a", "train-b"], {"dataset_weights": {"a": 1, "b": 0}}, "weights.b"),
        (["train-a", "train-b"], {"dataset_weights": {"a": 1, "b": float("nan")}}, "weights.b"),
        (["train-a", "train-b"], {"dataset_weights": '{"a": 1, "b": -2}'}, "is no weight"),
        (["train"], {"dataset_weights": {"a": 1}}, "name its channel train-a"),
        (["train-code"], {"dataset_columns": {"cod": {"a": "b"}}}, "did you mean 'code'"),
        (["train-code"], {"dataset_prompt_templates": {"cod": "{a}"}}, "did you mean 'code'"),
    ],
)
def test_what_the_container_would_refuse(
    tmp_path: Path, channels: list[str], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserInputError, match=message):
        resolve_channels(job(tmp_path, channels, **given))


def test_prepared_data_are_one_data_set(tmp_path: Path) -> None:
    config = job(tmp_path, [], dataset_weights={"a": 1})
    (config.prepared_path / "train").mkdir(parents=True)
    with pytest.raises(UserInputError, match="name its channel train-a"):
        resolve_channels(config)


def test_every_held_out_data_set_goes_to_an_optimization(tmp_path: Path) -> None:
    config = job(tmp_path, ["train-a", "train-b", "val-a", "test-a", "test-b"],
                 dataset_weights={"a": 1, "b": 2})  # fmt: skip
    assert resolve_channels(config).keys() == config.training.channels.keys()
    assert held_out(config).keys() == {"test-a", "test-b"}
    assert calibrating(config).keys() <= {"val-a"}
