"""What the first rows tell, on the laptop: refused as the container refuses it, and no more."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sm_launch.errors import UserInputError
from sm_launch.job.config import load_config
from sm_launch.jobs import training
from sm_launch.target.channels import resolve_channels
from sm_launch.target.row_rules import check_first_rows
from sm_train.config import parse_config
from sm_train.contract import Paths
from sm_train.data.channels import load_data
from sm_train.errors import UserError

Files = dict[str, str]
TEXTS = {"train/a.jsonl": '{"text": "one"}\n{"text": "two"}'}
PAIRS = {"train/a.jsonl": '{"prompt": "a", "completion": "b"}'}
CHATS = {
    "train/a.jsonl": '{"messages": [{"role": "user", "content": "a"}, '
    '{"role": "assistant", "content": "b"}]}'
}
CLASSES = {"train/a.csv": "text,label\none,a\ntwo,b"}
LABELLED = {"train/a.jsonl": '{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}'}
MEASURED = {"train/a.jsonl": '{"text": "one", "label": 1}\n{"text": "two", "label": 2}'}
SCORED = {"train/a.jsonl": '{"sentence1": "a", "sentence2": "b", "score": 0.5}'}
ASKED = {"train/a.jsonl": '{"prompt": "a", "solution": "b"}'}
TRANSLATED = {"train/a.jsonl": '{"translation": {"en": "a", "de": "b"}}'}
SEEN = {
    "train/a.jsonl": json.dumps({"messages": [
        {"role": "user", "content": [{"type": "image", "image": "x.png"}]},
        {"role": "assistant", "content": "b"},
    ]}), "train/x.png": "x",
}  # fmt: skip
PREFERRED = {
    "train/a.jsonl": '{"prompt": "a", "chosen": "b", "rejected": "c", "images": ["x.png"]}',
    "train/x.png": "x",
}

REFUSED: list[tuple[str, Files, dict[str, Any], str]] = [
    ("sft", TEXTS, {"assistant_only_loss": True}, "assistant_only_loss"),
    ("sft", PAIRS, {"assistant_only_loss": True}, "assistant_only_loss"),
    ("sft", TEXTS, {"completion_only_loss": True}, "completion_only_loss"),
    ("sft", CHATS, {"completion_only_loss": True}, "completion_only_loss"),
    ("sft", {"train/a.csv": "text\none"}, {"streaming": True}, "streaming"),
    ("sft", {"train-x/a.json": '[{"text": "one"}]'}, {"streaming": True}, "streaming"),
    ("sft", {"train/a.jsonl": '{"body": "one"}'}, {}, "channels.train: has no column"),
    ("sft", {"train/a.xlsx": "PK"}, {}, "channels.train: has no data file"),
    ("sft", {"train/a.csv": "text,text\na,b"}, {}, "several columns of the same name: 'text'"),
    ("sft", {**TEXTS, "test/a.jsonl": '{"body": "one"}'}, {}, "channels.test: has no column"),
    ("sft", PAIRS, {"prompt_template": "{prompt} {more}"}, "prompt_template: names columns"),
    ("sft", TEXTS, {"load_best_model_at_end": True}, "load_best_model_at_end: needs a valid"),
    ("text-classification", CLASSES, {"text_pair_column": "second"}, "no column 'second'"),
    ("text-classification", CLASSES, {"columns": {"label": "class"}}, "no column 'label'"),
    ("text-classification", CLASSES, {"eval_strategy": "epoch"}, "eval_strategy: needs a valid"),
    ("text-classification", CLASSES, {"threshold": "tuned"}, "threshold: needs a validation"),
    ("text-classification",
     {"train/a.csv": "text,label\none,a\ntwo,b", "test/a.csv": "text,label\none,a"},
     {"threshold": "tuned", "eval_strategy": "epoch"}, "threshold: needs a validation"),
    ("seq2seq", PAIRS, {"source_column": "prompt"}, "no column 'target' or 'translation'"),
    ("seq2seq", TRANSLATED, {}, "the column translation has de, en"),
    ("seq2seq", TRANSLATED, {"source_lang": "en", "target_lang": "fr"}, "target_lang: the column"),
    ("embedding", SCORED, {"loss": "TripletLoss"}, "loss: does not take scored pairs"),
    ("grpo", ASKED, {}, "the reward exact_answer needs the column answer"),
    ("grpo", PAIRS, {"reward_funcs": ["accuracy_reward"]}, "needs the column solution"),
    ("kto", {"train/a.jsonl": '{"completion": "b", "label": true, "image": "x.png"}'}, {},
     "training.method: the rows of"),
    ("sft", {"train/a.jsonl": '{"prompt": "a", "completion": "b", "images": ["x.png"]}'},
     {"streaming": True}, "streaming: cannot be done with rows that have images"),
    ("sft", SEEN, {"packing": True}, "packing: cannot be done with rows that have images"),
    ("dpo", PREFERRED, {"truncation_mode": "keep_end"}, "truncation_mode: cannot be done"),
    ("orpo", PREFERRED, {}, "training.method: the rows of the channel train have images"),
]  # fmt: skip

TAKEN: list[tuple[str, Files, dict[str, Any]]] = [
    ("sft", TEXTS, {"streaming": True}),
    ("sft", CHATS, {"assistant_only_loss": True}),
    ("sft", PAIRS, {"completion_only_loss": True}),
    ("sft", {"train/a.jsonl": '{"instruction": "a", "output": "b", "system": "c"}'},
     {"assistant_only_loss": True}),
    ("sft", {"train/a.jsonl": '{"instruction": "a", "output": "b"}'},
     {"completion_only_loss": True}),
    ("sft", {"train/a.jsonl": '{"q": "a", "a": "b"}'},
     {"prompt_template": "{q}", "columns": {"a": "completion"}}),
    ("sft", {"train/train.jsonl": '{"text": "a"}', "train/valid.jsonl": '{"text": "b"}'},
     {"load_best_model_at_end": True}),
    ("sft", {**TEXTS, "test/a.jsonl": '{"text": "one"}'}, {"eval_strategy": "epoch"}),
    ("sft", {"train-x/a.jsonl": '{"body": "one"}', "train-y/a.jsonl": '{"text": "one"}'},
     {"dataset_columns": {"x": {"body": "text"}}}),
    ("sft", {"train/a.jsonl": 'broken\n{"text": "one"}\n{"text": "two"}'},
     {"max_rejected_share": 0.5}),
    ("text-classification", CLASSES, {"text_pair_column": None}),
    ("text-classification", {"train/a.tsv": "review\ty\nône\ta\ntwo\tb"},
     {"text_column": "review", "label_column": "y"}),
    ("text-classification", CLASSES | {"validation/a.csv": "text,label\none,a"},
     {"threshold": "tuned"}),
    ("text-classification", LABELLED, {"streaming": True, "labels": ["a", "b"]}),
    ("text-classification", MEASURED, {"streaming": True, "num_labels": 1}),
    ("text-classification", MEASURED, {"streaming": True, "problem_type": "regression"}),
    ("question-answering", {"train/a.json": json.dumps({"data": [{"title": "t", "paragraphs": [
        {"context": "a b", "qas": [{"question": "q", "answers": [
            {"text": "a", "answer_start": 0}]}]}]}]})}, {}),
    ("seq2seq", TRANSLATED, {"source_lang": "en", "target_lang": "de"}),
    ("grpo", ASKED, {"reward_funcs": ["accuracy_reward"]}),
    ("embedding", SCORED, {"loss": "CoSENTLoss"}),
]  # fmt: skip


def look(folder: Path, method: str, files: Files, values: dict[str, Any]) -> None:
    """The launcher's look at a job's channels."""
    channels = {name.split("/")[0] for name in files}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    training = {
        "method": method,
        "model": "base",
        "channels": {name: name for name in channels},
        "hyperparameters": values,
    }
    (folder / "job.yaml").write_text(json.dumps({"name": "rows", "training": training}))
    config = load_config(folder / "job.yaml")
    check_first_rows(config, resolve_channels(config))


def load(base: Path, method: str, files: Files, values: dict[str, Any]) -> None:
    """The container's."""
    paths = Paths(base)
    for name, text in files.items():
        place = paths.channels / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    load_data(paths, parse_config({"method": method, "model_name_or_path": "base", **values}))


@pytest.mark.parametrize(("method", "files", "values", "message"), REFUSED)
def test_both_packages_refuse(
    tmp_path: Path, method: str, files: Files, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserInputError, match=message):
        look(tmp_path / "launcher", method, files, values)
    with pytest.raises(UserError):
        load(tmp_path / "container", method, files, values)


@pytest.mark.parametrize(("method", "files", "values"), TAKEN)
def test_both_packages_take(
    tmp_path: Path, method: str, files: Files, values: dict[str, Any]
) -> None:
    look(tmp_path / "launcher", method, files, values)
    load(tmp_path / "container", method, files, values)


def test_compressed_and_columnar_files_are_looked_into(tmp_path: Path) -> None:
    channel = tmp_path / "train"
    channel.mkdir()
    with gzip.open(channel / "a.jsonl.gz", "wt") as file:
        file.write('{"body": "one"}')
    with pytest.raises(UserInputError, match="its columns are body"):
        look(tmp_path, "sft", {"train/rejected.jsonl": "{}"}, {})
    pq.write_table(pa.table({"content": ["a"]}), channel / "b.parquet")
    with pytest.raises(UserInputError, match="its columns are body, content"):
        look(tmp_path, "sft", {"train/rejected.jsonl": "{}"}, {})
    pq.write_table(pa.table({"text": ["a"]}), channel / "c.parquet")
    look(tmp_path, "sft", {"train/rejected.jsonl": "{}"}, {})


def test_what_cannot_be_looked_into_is_left_to_the_container(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "b.parquet").write_bytes(b"no parquet")
    look(tmp_path, "sft", {"train/a.jsonl": '{"body": "one"}'}, {})


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        ("123.dkr.ecr.eu-west-1.amazonaws.com/sm-train:abc-cpu", "qwen2_vl", "wants torchvision"),
        ("sm-train:abc-cpu", "qwen2_vl", "wants torchvision, as every qwen2_vl does"),
        ("sm-train:abc-gpu", "qwen2_vl", ""),
        ("sm-train:abc-cpu", "idefics3", ""),
        ("my-train:abc-cpu", "qwen2_vl", ""),
        ("sm-train:abc-gpu", "llama", "takes text alone"),
    ],
)
def test_a_base_model_that_cannot_see_in_that_image(
    tmp_path: Path, image: str, kind: str, message: str
) -> None:
    look(tmp_path, "sft", SEEN, {})
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": kind}))
    if kind != "llama":
        (base / "preprocessor_config.json").write_text("{}")
    config = load_config(tmp_path / "job.yaml")
    context: Any = SimpleNamespace(config=config, training_image=image)
    if not message:
        training._check_reads_images(context, config, resolve_channels(config))
        return
    with pytest.raises(UserInputError, match=message):
        training._check_reads_images(context, config, resolve_channels(config))
