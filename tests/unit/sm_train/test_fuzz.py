"""Anything at all in the files that a job reads: it is used, or refused in words; no crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sm_train.command import check_platform_files
from sm_train.config import load_config, parse_config
from sm_train.contract import Paths, check_input_modes, read_cluster
from sm_train.data.channels import load_data
from sm_train.errors import UserError
from sm_train.job import Job
from sm_train.methods import METHODS
from sm_train.platform.stopping import StopRequest
from sm_train.rows import Data

# Few examples: the aim is that a change which breaks many inputs shows at once.
quickly = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=15,
    deadline=None,
    derandomize=True,
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["\ud800", "1e999", "[{", '[{"role": "user"}]', "NaN", "\x00", "é" * 50]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "tool", "robot"]) | SCALARS,
        "content": st.text(max_size=5) | JSON,
        "tool_calls": JSON,
        "from": SCALARS,
        "value": SCALARS,
    },
)
CELL = JSON | st.text(min_size=1, max_size=8) | st.lists(MESSAGE, max_size=3)
_COLUMNS = (
    "text messages conversations prompt completion chosen rejected label tools input_ids "
    "chat_template_kwargs question context answers answer tokens tags paragraphs data"
)
ROWS = st.lists(st.dictionaries(st.sampled_from(_COLUMNS.split()), CELL), min_size=1, max_size=4)

EXTRA: dict[str, dict[str, Any]] = {
    "distillation": {"teacher_model_name_or_path": "owner/teacher"},
    "grpo": {"reward_funcs": "length"},
    "rloo": {"reward_funcs": "json"},
}


def write(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    (folder / name).write_bytes(content)


@quickly
@given(
    st.sampled_from(["hyperparameters.json", "resourceconfig.json", "inputdataconfig.json"]),
    st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_platform_files(paths: Paths, name: str, content: bytes) -> None:
    for file in ("hyperparameters.json", "resourceconfig.json", "inputdataconfig.json"):
        (paths.config / file).write_text('{"method": "sft", "hosts": ["a"], "current_host": "a"}')
    (paths.config / name).write_bytes(content)
    for read in (check_platform_files, load_config, read_cluster, check_input_modes):
        try:
            read(paths)
        except UserError as error:
            assert str(error)


_SETTINGS = (
    "config columns env accelerate_config chat_template chat_template_path dataset_name "
    "datasets no_packing packing lora_target_modules lora_r use_peft model_name_or_path "
    "reward_funcs reward_pattern answer_column labels eval_strategy report_to optim_args "
    "output_dir max_length fsdp_config teacher_model_name_or_path"
)
SETTINGS = st.dictionaries(
    st.sampled_from(_SETTINGS.split()),
    JSON | JSON.map(json.dumps) | st.sampled_from(["a: b", "true", "x.py:y", "qwen3", "fsdp2"]),
    max_size=4,
)


@quickly
@given(st.sampled_from(list(METHODS)), SETTINGS)
def test_hyperparameters(paths: Paths, method: str, values: dict[str, Any]) -> None:
    text = json.dumps({"method": method, **values})
    (paths.config / "hyperparameters.json").write_text(text)
    try:
        load_config(paths)
    except UserError as error:
        assert str(error)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@quickly
@given(rows=ROWS)
def test_rows_of_every_method(paths: Paths, method: str, rows: list[dict[str, Any]]) -> None:
    config = parse_config({"method": method, "max_rejected_share": 1, **EXTRA.get(method, {})})
    lines = "\n".join(map(json.dumps, rows))
    write(paths.channels / "train", "data.jsonl", lines.encode())
    try:
        data = load_data(paths, config)
        Job(paths, config, data, "", StopRequest(), 0).dataset("train")
    except UserError as error:
        assert str(error)


@quickly
@given(
    st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.txt", "a.jsonl.gz"]),
    st.binary(max_size=60)
    | st.text(max_size=40).map(lambda text: text.encode("utf-16"))
    | ROWS.map(lambda rows: json.dumps(rows).encode()),
)
def test_files(paths: Paths, name: str, content: bytes) -> None:
    write(paths.channels / "train", name, content)
    try:
        load_data(paths, parse_config({"method": "sft", "max_rejected_share": 1}))
    except UserError as error:
        assert str(error)


def test_a_row_as_deep_as_python_can_read_is_set_aside(paths: Paths) -> None:
    deep = "[" * 900 + "]" * 900
    good = json.dumps({"prompt": "a", "answer": "1"})
    write(paths.channels / "train", "data.jsonl", f'{good}\n{{"prompt": {deep}}}'.encode())
    data: Data = load_data(paths, parse_config({"method": "grpo", "max_rejected_share": 1}))
    assert (len(data.train), data.rejected) == (1, {"train": 1})
