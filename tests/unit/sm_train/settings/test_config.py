"""hyperparameters.json to settings: names, contradictions, YAML."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sm_train.config import load_config, parse_config
from sm_train.contract import Paths
from sm_train.errors import UserError

CLASSIFY = {"method": "text-classification"}
SFT = {"method": "sft"}


def test_defaults_and_given_values_are_typed() -> None:
    config = parse_config({**CLASSIFY, "learning-rate": '"1e-4"', "labels": "neg,pos"})
    assert config.training["learning_rate"] == 1e-4
    assert config.own.labels == ["neg", "pos"]
    assert config.training["train_sampling_strategy"] == "group_by_length"
    assert config.given == {"method", "learning_rate", "labels"}


def test_the_sdk_s_own_keys_are_not_the_user_s(
    paths: Paths, hyperparameters: Callable[..., None]
) -> None:
    hyperparameters(
        method='"sft"',
        sagemaker_job_name='"x"',
        sagemaker_region='"eu-west-1"',
        _tuning_objective_metric="f1",
    )
    assert load_config(paths).method.name == "sft"


@pytest.mark.parametrize(
    ("given", "field", "hint"),
    [
        ({}, "method", "text-classification"),
        ({"method": "stf"}, "method", "did you mean sft"),
        ({**SFT, "learning_rat": "1"}, "learning_rat", "learning_rate"),
        ({**SFT, "evaluation_strategy": "no"}, "evaluation_strategy", "eval_strategy"),
        ({**SFT, "max_seq_length": "9"}, "max_seq_length", "max_length"),
        ({**SFT, "zzz": "9"}, "zzz", "not a hyperparameter"),
        ({**SFT, "learning_rate": "fast"}, "learning_rate", "a number"),
        ({**SFT, "learning_rate": "0"}, "learning_rate", "greater than 0"),
        ({**SFT, "load_in_4bit": "true"}, "load_in_4bit", "use_peft"),
        (
            {**SFT, "load_in_4bit": "1", "load_in_8bit": "1", "use_peft": "1"},
            "load_in_4bit",
            "8bit",
        ),
        ({**SFT, "export": "both"}, "export", "use_peft"),
        ({**SFT, "lora_r": "8", "use_peft": "false"}, "lora_r", "use_peft"),
        ({**SFT, "bf16": "true", "fp16": "true"}, "bf16", "fp16"),
        ({**SFT, "packing": "true", "max_length": "null"}, "packing", "max_length"),
        (
            {
                **SFT,
                "load_best_model_at_end": "1",
                "save_strategy": "steps",
                "eval_strategy": "epoch",
            },
            "save_strategy",
            "eval_strategy",
        ),
        ({**CLASSIFY, "num_labels": "0"}, "num_labels", "at least 1"),
    ],
)
def test_a_wrong_setting_is_named_with_its_cure(
    given: dict[str, Any], field: str, hint: str
) -> None:
    with pytest.raises(UserError, match=hint) as caught:
        parse_config(given)
    assert caught.value.field == field


def test_a_trl_config_file_works_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "sft.yaml").write_text(
        "model_name_or_path: base\nlearning_rate: 2.0e-4\nlr_scheduler_type: cosine\n"
        "eval_strategy: no\nuse_peft: true\nlora_target_modules: all-linear\n"
        "output_dir: out\npush_to_hub: true\n"
    )
    config = parse_config({**SFT, "lora_r": "4"}, tmp_path)
    assert config.training["learning_rate"] == 2e-4
    assert config.training["eval_strategy"] == "no"
    assert config.model.lora_target_modules == ["all-linear"]
    assert config.model.lora_r == 4
    assert [w.split()[0] for w in config.warnings] == ["output_dir", "push_to_hub"]


def test_a_hyperparameter_wins_over_the_config_text() -> None:
    config = parse_config({**SFT, "config": "learning_rate: 1\nseed: 7", "seed": "8"})
    assert (config.training["learning_rate"], config.training["seed"]) == (1, 8)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2"])
def test_a_broken_config_text_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="YAML"):
        parse_config({**SFT, "config": text})


KEYS = st.sampled_from(
    ["method", "learning_rate", "labels", "columns", "use_peft", "config", "lora_r", "optim"]
) | st.text(max_size=8)
VALUES = st.one_of(
    st.sampled_from(["sft", "text-classification", "true", "[1,", "{}", "nan", "1e999", "null"]),
    st.text(max_size=12),
    st.integers(),
    st.none(),
    st.lists(st.text(max_size=3), max_size=2),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_hyperparameters_file_is_read_or_refused(paths: Paths, values: dict[str, Any]) -> None:
    (paths.config / "hyperparameters.json").write_text(json.dumps(values))
    try:
        load_config(paths)
    except UserError as error:
        assert str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=40))
def test_any_bytes_for_a_config_file_are_read_or_refused(paths: Paths, content: bytes) -> None:
    (paths.config / "hyperparameters.json").write_bytes(content)
    with pytest.raises(UserError):
        load_config(paths)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"use_dora": True}, "use_dora = True"), ({"lora_dropout": 0.1}, "lora_dropout = 0.1")],
)
def test_single_parameters_take_plain_lora_only(setting: dict[str, Any], message: str) -> None:
    settings = {"method": "sft", "use_peft": True, "lora_target_parameters": "experts.up"}
    parse_config(settings)
    with pytest.raises(UserError, match=f"{message}: contradicts another setting"):
        parse_config({**settings, **setting})
