"""TRL's command line and YAML files as it documents them, through our hyperparameters."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from sm_train.config import load_config, parse_config
from sm_train.contract import Paths
from sm_train.data.channels import load_data
from sm_train.errors import UserError
from sm_train.modelling.chat_templates import template_names, template_text
from sm_train.settings.keys import IGNORED
from sm_train.settings.schema_files import load_schema
from sm_train.settings.trl_script import distribution

Write = Callable[..., None]
SCRIPTS = ("sft", "dpo", "kto", "reward", "grpo", "rloo", "distillation")
SFT_YAML = """\
model_name_or_path: Qwen/Qwen2.5-0.5B
dataset_name: stanfordnlp/imdb
dataset_config: plain_text
dataset_train_split: train
dataset_num_proc: 2
datasets:
  - path: trl-lib/tldr
    columns: [prompt, completion]
streaming: false
env:
  MY_VARIABLE: 3
accelerate_config: zero3
num_processes: 1
output_dir: out
push_to_hub: true
learning_rate: 1.0e-4
eval_strategy: steps
eval_steps: 100
lr_scheduler_type: cosine_with_min_lr
lr_scheduler_kwargs:
  min_lr_rate: 0.1
use_peft: true
lora_target_modules: [q_proj, v_proj]
"""


def commands() -> list[tuple[str, str]]:
    """The examples that stand in the installed TRL's own scripts."""
    import trl

    folder = Path(trl.__file__).parent / "scripts"
    return [
        (name, command)
        for name in SCRIPTS
        for command in re.findall(
            rf"python \S*{name}\.py \\\n(.*?)```", (folder / f"{name}.py").read_text(), re.DOTALL
        )
    ]


def as_hyperparameters(command: str) -> dict[str, str]:
    """What somebody would write who moves the command's options into hyperparameters."""
    values: dict[str, str] = {}
    key = ""
    for word in shlex.split(command.replace("\\\n", " ")):
        if word.startswith("--"):
            key, _, value = word.partition("=")
            values[key] = value or "true"
        else:
            values[key] = word
    return values


def test_the_examples_of_trl_s_scripts_are_taken_option_by_option() -> None:
    examples = commands()
    assert len(examples) >= 6
    for method, command in examples:
        values = as_hyperparameters(command)
        config = parse_config({"method": method, **values})
        for key in values:
            name = key.lstrip("-")
            plain = name.removeprefix("no_")
            assert name in IGNORED or plain in config.given, (method, name)
        assert config.training.get("learning_rate", 5e-7) < 1e-3
        if "--no_remove_unused_columns" in values:
            assert config.training["remove_unused_columns"] is False


@pytest.mark.parametrize("method", SCRIPTS)
def test_every_argument_of_trl_s_scripts_is_known(method: str) -> None:
    import importlib

    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments

    script = importlib.import_module(f"trl.scripts.{method}")
    own = [getattr(script, name) for name in dir(script) if name.endswith("ScriptArguments")]
    known = load_schema(method)["properties"]
    for cls in (ScriptArguments, ModelConfig, DatasetMixtureConfig, *own):
        assert {f.name for f in dataclasses.fields(cls)} <= known.keys()


@pytest.fixture
def yaml_job(paths: Paths, channel: Callable[..., Path], hyperparameters: Write) -> Paths:
    """TRL's YAML in the channel `config`, beside a train and a model channel."""
    (paths.channels / "config").mkdir()
    (paths.channels / "config" / "sft.yaml").write_text(SFT_YAML)
    (paths.channels / "model").mkdir()
    channel("train", [{"text": "a"}])
    hyperparameters(method="sft", config="sft.yaml")
    return paths


def test_a_yaml_file_works_as_it_is(yaml_job: Paths) -> None:
    config = load_config(yaml_job)
    assert config.training["lr_scheduler_kwargs"] == {"min_lr_rate": 0.1}
    assert config.training["learning_rate"] == 1e-4
    assert config.model.lora_target_modules == ["q_proj", "v_proj"]
    assert config.environment == {"MY_VARIABLE": "3"}
    assert config.training["eval_strategy"] == "no"
    assert config.model.model_name_or_path is None
    assert [warning.split()[0] for warning in config.warnings] == [
        "output_dir",
        "push_to_hub",
        "datasets",
        "model_name_or_path",
        "accelerate_config:",
        "eval_strategy",
    ]
    assert len(load_data(yaml_job, config).train) == 1


def test_a_test_channel_is_evaluated_on_but_chooses_nothing(
    yaml_job: Paths, channel: Callable[..., Path]
) -> None:
    channel("test", [{"text": "b"}])
    config = load_config(yaml_job)
    assert config.training["eval_strategy"] == "steps"
    assert config.training["load_best_model_at_end"] is False
    data = load_data(yaml_job, config)
    assert data.validation == data.test == [{"text": "b"}]


def test_a_hyperparameter_that_cannot_hold_is_refused_not_dropped(
    paths: Paths, channel: Callable[..., Path], hyperparameters: Write
) -> None:
    channel("train", [{"text": "a"}])
    hyperparameters(method="sft", eval_strategy="steps")
    with pytest.raises(UserError, match="needs a validation channel"):
        load_data(paths, load_config(paths))


def test_the_config_channel_may_hold_other_files(paths: Paths, hyperparameters: Write) -> None:
    (paths.channels / "config").mkdir()
    (paths.channels / "config" / "fsdp.yaml").write_text(
        "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2, fsdp_offload_params: true}\n"
    )
    (paths.channels / "config" / "mine.jinja").write_text("{{ messages }}")
    hyperparameters(method="dpo", accelerate_config="fsdp.yaml", chat_template="mine.jinja")
    assert load_config(paths).job.accelerate_config == "fsdp.yaml"
    assert distribution("fsdp.yaml", paths.channels / "config") == {
        "fsdp": True,
        "fsdp_config": {"version": 2, "offload_params": True},
    }


def test_accelerate_configs_by_trl_s_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distribution("multi_gpu", None) == {}
    monkeypatch.setattr("sm_train.settings.trl_script.has_deepspeed", lambda: True)
    zero = distribution("zero3", None)["deepspeed"]
    assert zero["zero_optimization"]["stage"] == 3
    assert zero["train_batch_size"] == "auto"
    monkeypatch.setattr("sm_train.settings.trl_script.has_deepspeed", lambda: False)
    for name, reshard in (("zero2", False), ("zero3", True)):
        assert distribution(name, None)["fsdp_config"]["reshard_after_forward"] is reshard
    assert distribution("fsdp2", None)["fsdp_config"]["version"] == 2
    with pytest.raises(UserError, match=r"use one of fsdp1, fsdp2, .*zero3"):
        distribution("zero9", None)


def test_processes_share_the_model_only_where_there_are_several(
    paths: Paths, hyperparameters: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    hyperparameters(method="sft", accelerate_config="fsdp2")
    assert "fsdp" not in load_config(paths).training
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert load_config(paths).training["fsdp"] is True


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"no_remove_unused_columns": "1", "remove_unused_columns": "1"},
            "contradicts remove_unused",
        ),
        ({"no_remove_unused_columns": "maybe"}, "true or false|is a switch"),
        ({"config": "env: [1]"}, "env = .*mapping"),
        ({"chat_template": "qwenn"}, "is no chat template.*chatml"),
        ({"chat_template": "gone.jinja"}, "in none of the channels"),
        ({"chat_template": "chatml", "chat_template_path": "Qwen/Qwen3-8B"}, "only one of them"),
    ],
)
def test_what_is_refused(
    paths: Paths, hyperparameters: Write, given: dict[str, str], message: str
) -> None:
    hyperparameters(method="sft", **given)
    with pytest.raises(UserError, match=message):
        load_config(paths)


@pytest.mark.slow
def test_data_sets_by_name_where_there_is_no_train_channel(
    paths: Paths, hyperparameters: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for split, count in (("train", 8), ("test", 2)):
        lines = [json.dumps({"text": f"{split} {i}"}) for i in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    hyperparameters(method="sft", dataset_name=str(folder))
    data = load_data(paths, load_config(paths))
    assert (len(data.train), len(data.validation or ())) == (8, 2)
    parts = [{"path": "json", "data_files": str(folder / "train.jsonl"), "fraction": 1.0}]
    hyperparameters(method="sft", datasets=json.dumps(parts), test_split_size="0.25")
    data = load_data(paths, load_config(paths))
    assert (len(data.train), len(data.validation or ())) == (6, 2)
    hyperparameters(method="sft", dataset_name=str(folder), dataset_train_split="all")
    with pytest.raises(UserError, match=r"it has \['test', 'train'\]"):
        load_data(paths, load_config(paths))
    hyperparameters(method="sft", dataset_name="owner/name")
    with pytest.raises(UserError, match="channel named train"):
        load_data(paths, load_config(paths))


def test_templates_have_names(paths: Paths) -> None:
    assert {"chatml", "llama3", "qwen3"} <= set(template_names())
    assert "im_start" in template_text(paths, "qwen3")
    assert template_text(paths, "{{ messages }}") == "{{ messages }}"


def test_settings_of_lora_without_lora_are_pointed_out() -> None:
    config = parse_config({"method": "sft", "lora_r": "8"})
    assert config.warnings == ("lora_r is ignored: use_peft is not set",)
