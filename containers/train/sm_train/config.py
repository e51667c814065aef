"""The job's settings: hyperparameters.json to typed values, checked before torch is imported.

Keys are a few of ours (`JobArguments` and the method's own), TRL's model keys (`ModelArguments`),
and any field of the method's TRL or transformers config by its own name.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from sm_train.contract import RESERVED_PREFIXES, Paths, channel_file, read_json
from sm_train.data.mixing import check_mixing
from sm_train.data.prompts import check_prompt_template
from sm_train.data.splits import setting_values, split_files
from sm_train.data.streaming import check_streaming
from sm_train.errors import UserError
from sm_train.methods import METHODS, load_method
from sm_train.modelling.chat_templates import check_chat_template
from sm_train.settings.arguments import LORA_KEYS, DatasetArguments, JobArguments, ModelArguments
from sm_train.settings.decoding import decode, unquote
from sm_train.settings.keys import FORMER_NAMES, IGNORED
from sm_train.settings.packages import check_packages
from sm_train.settings.parallelism import check_parallelism
from sm_train.settings.reporters import check_reporters, check_tracking
from sm_train.settings.schema_files import load_schema
from sm_train.settings.settings import Config, Method, Training
from sm_train.settings.trl_script import (
    distribution,
    environment,
    plain_key,
    without_flags,
    yaml_config,
)

Arguments = TypeVar("Arguments")


def load_config(paths: Paths) -> Config:
    """Read, decode and check hyperparameters.json. Raises UserError for the first thing wrong."""
    raw = {
        key: value
        for key, value in read_json(paths.config / "hyperparameters.json").items()
        if not key.startswith(RESERVED_PREFIXES)
    }
    config = parse_config(raw, paths.channel("config"))
    check_tracking(config, {**os.environ, **config.environment})
    check_chat_template(config, paths)
    config.method.check_files(config, paths)
    return fit_to_job(config, paths)


def parse_config(
    raw: Mapping[str, Any], config_channel: Path | None = None, *, here: bool = True
) -> Config:
    """Typed settings from raw hyperparameters (and the YAML config that they may name).

    `here`: whether the job runs in this environment, so that it needs the packages.
    """
    raw = {plain_key(str(key)): value for key, value in raw.items()}
    profile = frozenset({str(unquote(raw.get("accelerate_config")))})
    filed = yaml_config(raw.get("config"), config_channel, profile)
    merged = {**filed, **raw}
    variables = environment(merged.pop("env", None))
    method = load_method(_method_name(merged))
    schema = load_schema(method.name)["properties"]
    warnings = [f"{key} is ignored: {IGNORED[key]}" for key in sorted(merged) if key in IGNORED]
    kept = {key: value for key, value in merged.items() if key not in IGNORED}
    values = {key: _value(key, value, schema) for key, value in without_flags(kept, schema).items()}
    unused = [key for key in LORA_KEYS if key in values and not values.get("use_peft")]
    warnings += [f"{key} is ignored: use_peft is not set" for key in unused]
    config = Config(
        method=method,
        job=_pick(JobArguments, values),
        model=_pick(ModelArguments, values),
        own=_pick(method.arguments, values),
        dataset=_pick(DatasetArguments, values),
        training=cast(Training, _training_values(method, values)),
        given=frozenset(values),
        warnings=tuple(warnings),
        environment=variables,
        from_file=frozenset(filed.keys() - raw.keys()),
    )
    check_contradictions(config)
    if here:
        check_packages(config)
    config.method.check_arguments(config)
    return config


def fit_to_job(config: Config, paths: Paths) -> Config:
    """The settings that depend on the job's channels and processes."""
    training, warnings = config.training.copy(), list(config.warnings)
    splits = split_files(paths, setting_values(config))
    remote = config.dataset.named and "train" not in splits
    if config.dataset.named and not remote:
        key = "datasets" if config.dataset.datasets else "dataset_name"
        warnings.append(f"{key} is ignored: the train channel holds the data")
    model = config.model
    if model.model_name_or_path and _yields_to_channel(model.model_name_or_path, paths):
        warnings.append("model_name_or_path is ignored: the model channel holds the base model")
        model = replace(model, model_name_or_path=None)
    template = str(training.get("chat_template_path") or "")
    if template.endswith((".jinja", ".j2")):
        training["chat_template_path"] = str(channel_file(paths, template, "chat_template_path"))
    if config.job.accelerate_config:
        shared = distribution(config.job.accelerate_config, paths.channel("config"))
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            training = cast(Training, {**shared, **training})
        if "zero" in config.job.accelerate_config and "fsdp" in shared:
            warnings.append("accelerate_config: FSDP2 takes DeepSpeed's place, which is not here")
    if not remote and "validation" not in splits:
        warnings += _evaluate_on_test(config, "test" in splits, training)
    return replace(config, model=model, training=training, warnings=tuple(warnings))


def _yields_to_channel(name: str, paths: Paths) -> bool:
    """Whether a Hub id stands beside a `model` channel: configs name where the model once was."""
    channel = paths.channel("model")
    is_path = name.startswith(("channel:", "/", ".", "~")) or Path(name).is_dir()
    return channel is not None and not is_path and not (channel / name).is_dir()


def _evaluate_on_test(config: Config, tested: bool, training: Training) -> list[str]:
    """What eval_strategy means without a validation channel; TRL has a test split only."""
    if training.get("eval_strategy", "no") == "no":
        return []
    if tested:
        # Choosing the weights by the test rows would make their score worthless.
        training.setdefault("load_best_model_at_end", False)
        return ["eval_strategy evaluates on the test channel: there is no validation channel"]
    if "eval_strategy" in config.from_file:
        training["eval_strategy"] = "no"
        return ["eval_strategy is ignored: there is neither a validation nor a test channel"]
    return []


def check_contradictions(config: Config) -> None:
    """Settings that cannot hold together. Raises UserError naming both."""
    model, training = config.model, config.training
    if model.load_in_4bit and model.load_in_8bit:
        raise _clash("load_in_4bit", True, "load_in_8bit is true too", "set only one of them")
    if (model.load_in_4bit or model.load_in_8bit) and not model.use_peft:
        raise _clash(
            "load_in_4bit" if model.load_in_4bit else "load_in_8bit",
            True,
            "quantised weights cannot be trained in full",
            "set use_peft to true",
        )
    if config.job.export != "merged" and not model.use_peft:
        raise _clash(
            "export", config.job.export, "there is no adapter without LoRA", "set use_peft to true"
        )
    _check_target_parameters(config)
    lora_keys = sorted(config.given.intersection(LORA_KEYS))
    if lora_keys and "use_peft" in config.given and not model.use_peft:
        raise _clash(lora_keys[0], None, "use_peft is false", "set use_peft to true")
    if training.get("bf16") and training.get("fp16"):
        raise _clash("bf16", True, "fp16 is true too", "set only one of them")
    if training.get("packing") and "max_length" in config.given and not training.get("max_length"):
        raise _clash(
            "packing", True, "packing needs max_length", "set max_length, or packing false"
        )
    save, evaluate = training.get("save_strategy"), training.get("eval_strategy")
    if (
        training.get("load_best_model_at_end")
        and save
        and evaluate
        and save not in (evaluate, "best")
    ):
        raise _clash(
            "save_strategy",
            save,
            f"load_best_model_at_end needs it equal to eval_strategy ({evaluate})",
            "set both to steps or to epoch",
        )
    _check_scoring(config)
    check_prompt_template(config)
    check_mixing(config)
    check_streaming(config)
    check_parallelism(config)
    check_reporters(config)


def _check_scoring(config: Config) -> None:
    """The classification methods score all predictions at once, each beside its own row."""
    if not config.method.training_config.startswith("transformers:"):
        return
    unfit = {"batch_eval_metrics": True, "eval_do_concat_batches": False}
    for name, value in {**unfit, "prediction_loss_only": True}.items():
        if config.training.get(name) is value:
            raise UserError(
                f"leaves {config.method.name} without scores",
                field=name,
                value=value,
                fix="remove it (eval_accumulation_steps saves GPU memory)",
            )


def _check_target_parameters(config: Config) -> None:
    """PEFT adapts single parameters with plain LoRA only."""
    model = config.model
    if not model.lora_target_parameters:
        return
    if model.use_dora:
        raise _clash("use_dora", True, "lora_target_parameters is set too", "set use_dora to false")
    if "lora_dropout" in config.given and model.lora_dropout:
        raise _clash(
            "lora_dropout",
            model.lora_dropout,
            "parameters that lora_target_parameters names take no dropout",
            "set lora_dropout to 0",
        )


def _clash(name: str, value: Any, message: str, fix: str) -> UserError:
    return UserError(f"contradicts another setting: {message}", field=name, value=value, fix=fix)


def _method_name(raw: Mapping[str, Any]) -> str:
    value = unquote(raw.get("method"))
    name = str(value or "").strip().lower().replace("_", "-")
    if name in METHODS:
        return name
    near = difflib.get_close_matches(name, METHODS, n=1)
    raise UserError(
        "is missing"
        if not name
        else "is not a method" + (f"; did you mean {near[0]}?" if near else ""),
        field="method",
        value=value,
        fix=f"set it to one of {', '.join(METHODS)}",
    )


def _value(key: str, raw: Any, schema: Mapping[str, Any]) -> Any:
    if key not in schema:
        raise unknown_key(key, raw, schema)
    try:
        return decode(raw, schema[key])
    except (ValueError, TypeError) as error:
        described = schema[key].get("description", "")
        raise UserError(str(error), field=key, value=raw, fix=described or None) from error


def unknown_key(key: str, raw: Any, schema: Mapping[str, Any]) -> UserError:
    """The error for a key that the method does not have, with the nearest that it has."""
    former = FORMER_NAMES.get(key)
    near = difflib.get_close_matches(key, schema, n=3, cutoff=0.6)
    suggestions = [former] if former in schema else near
    if suggestions:
        return UserError(
            f"is not a hyperparameter; did you mean {' or '.join(str(s) for s in suggestions)}?",
            field=key,
            value=raw,
            fix="correct the name or remove it",
        )
    return UserError(
        "is not a hyperparameter of this method", field=key, value=raw, fix="remove it"
    )


def _pick(cls: type[Arguments], values: Mapping[str, Any]) -> Arguments:
    """An arguments dataclass from the values that carry its fields' names; null means default."""
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    return cls(**{k: v for k, v in values.items() if k in names and v is not None})


def _training_values(method: Method, values: Mapping[str, Any]) -> dict[str, Any]:
    ours = {f.name for c in (JobArguments, ModelArguments, DatasetArguments) for f in fields(c)}
    own = {f.name for f in fields(method.arguments)} - set(method.shared_keys)
    chosen = {k: v for k, v in values.items() if k not in ours | own}
    return {**method.defaults, **chosen}
