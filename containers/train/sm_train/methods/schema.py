"""JSON schemas of every method's hyperparameters, generated from the classes that hold them.

`python -m sm_train.methods.schema --write` regenerates them; `--check` fails when they are out of
date. The launcher checks a job with the same files, in milliseconds and without torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import json
import sys
import types
import typing
from types import SimpleNamespace
from typing import Any

from sm_train.contract import DATA_SET_CHANNEL, RESERVED_PREFIXES, SPLIT_CHANNELS
from sm_train.data.readers import NOT_DATA, READERS, WHOLE
from sm_train.methods import METHODS, load_method
from sm_train.methods.rewards import ANSWER_COLUMNS
from sm_train.modelling.embedding_losses import LOSSES
from sm_train.results.metrics import METRIC_DEFINITIONS
from sm_train.settings.keys import FORMER_NAMES
from sm_train.settings.packages import missing_in_images
from sm_train.settings.reporters import KNOWN
from sm_train.settings.schema_files import FOLDER, PROCESSORS
from sm_train.settings.settings import as_it_is, load_training_config

_JSON_TYPES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}

# Bounds that the libraries' type hints cannot say.
_BOUNDS: dict[str, dict[str, float]] = {
    "learning_rate": {"exclusiveMinimum": 0},
    "num_train_epochs": {"exclusiveMinimum": 0},
    "per_device_train_batch_size": {"minimum": 1},
    "per_device_eval_batch_size": {"minimum": 1},
    "gradient_accumulation_steps": {"minimum": 1},
    "save_total_limit": {"minimum": 1},
    "logging_steps": {"exclusiveMinimum": 0},
    "save_steps": {"exclusiveMinimum": 0},
    "eval_steps": {"exclusiveMinimum": 0},
    "warmup_steps": {"minimum": 0},
    "weight_decay": {"minimum": 0},
    "max_length": {"minimum": 1},
    "num_labels": {"minimum": 1},
    "lora_r": {"minimum": 1},
    "lora_alpha": {"minimum": 1},
    "lora_dropout": {"minimum": 0, "exclusiveMaximum": 1},
    "max_rejected_share": {"minimum": 0, "maximum": 1},
    "early_stopping_patience": {"minimum": 1},
    "num_processes": {"minimum": 1},
    "shuffle_buffer_size": {"minimum": 0},
    "generation_rows": {"minimum": 1},
    "generation_max_new_tokens": {"minimum": 1},
    "label_smoothing_factor": {"minimum": 0, "exclusiveMaximum": 1},
}


# Options that the type hints leave open. Text may be a list as JSON.
_OPTIONS: dict[str, dict[str, Any]] = {
    "report_to": {
        "pattern": rf"^(\[.*|{'|'.join(KNOWN)})$",
        "items": {"type": "string", "pattern": rf"^({'|'.join(KNOWN)})$"},
    },
}


# Which methods can is known to the launcher, so that no instance starts for nothing.
_NO_STREAM = {
    "type": ["boolean", "null"],
    "enum": [False, None],
    "description": "Not possible with this method, which looks at all rows before its first step: "
    "groups, windows, or what its trainer makes of pairs. sft, dpo, reward, text-classification "
    "and token-classification can.",
    "default": None,
}


def build_schema(name: str) -> dict[str, Any]:
    """The schema of a method, from its classes. Imports transformers and TRL."""
    from sm_train.settings.arguments import DatasetArguments, JobArguments, ModelArguments
    from sm_train.settings.keys import IGNORED

    method = load_method(name)
    library = load_training_config(method.training_config)
    properties: dict[str, Any] = {}
    for cls in (library, ModelArguments, DatasetArguments, method.arguments, JobArguments):
        for key, schema in _class_properties(cls).items():
            properties[key] = schema
    properties |= _switches(properties)
    if not method.streams:
        properties |= {"streaming": _NO_STREAM}
        del properties["shuffle_buffer_size"]
    own = {item.name for item in dataclasses.fields(method.arguments)}
    if method.shared:
        properties = {k: v for k, v in properties.items() if k in own or k in method.shared}
    for key, value in method.defaults.items():
        properties[key]["default"] = value
    for key, reason in () if method.shared else IGNORED.items():
        properties.setdefault(key, {})["description"] = f"Ignored: {reason}."
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Hyperparameters of {name}",
        "type": "object",
        "properties": dict(sorted(properties.items())),
        "patternProperties": {f"^{prefix}": {} for prefix in RESERVED_PREFIXES},
        "required": ["method"],
        "additionalProperties": False,
    }


def _switches(properties: dict[str, Any]) -> dict[str, Any]:
    """argparse's `no_X` for every X that is on by default, as TRL's command line has them."""
    return {
        f"no_{key}": {"type": "boolean", "description": f"Turns {key} off."}
        for key, schema in properties.items()
        if schema.get("default") is True and "boolean" in schema.get("type", ())
    }


def _class_properties(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    properties = {}
    for item in dataclasses.fields(cls):
        if not item.init:
            continue
        schema = _type_schema(hints[item.name])
        if "choices" in item.metadata and "enum" not in schema:
            schema["enum"] = list(item.metadata["choices"])
        if "null" in schema.get("type", []) and "enum" in schema and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
        schema.update(_BOUNDS.get(item.name, {}))
        schema.update(_OPTIONS.get(item.name, {}))
        if item.metadata.get("help"):
            schema["description"] = " ".join(str(item.metadata["help"]).split())
        default = _default(item)
        if default is not dataclasses.MISSING:
            schema["default"] = default
        properties[item.name] = schema
    return properties


def _default(item: dataclasses.Field[Any]) -> Any:
    value = item.default
    if value is dataclasses.MISSING and item.default_factory is not dataclasses.MISSING:
        value = item.default_factory()
    if isinstance(value, enum.Enum):
        value = value.value
    return value


def _type_schema(hint: Any) -> dict[str, Any]:
    """JSON types, options and item type of a Python type hint; {} allows anything."""
    members = _union_members(hint)
    options: list[Any] = []
    kinds: list[str] = []
    items: dict[str, Any] | None = None
    for member in members:
        origin = typing.get_origin(member) or member
        if origin is typing.Literal:
            options.extend(typing.get_args(member))
            kinds.extend(_JSON_TYPES[type(v)] for v in typing.get_args(member))
        elif isinstance(origin, type) and issubclass(origin, enum.Enum):
            options.extend(v.value for v in origin)
            kinds.append("string")
        elif origin in _JSON_TYPES:
            kinds.append(_JSON_TYPES[origin])
            arguments = typing.get_args(member)
            if origin is list and arguments and arguments[0] in _JSON_TYPES:
                items = {"type": _JSON_TYPES[arguments[0]]}
        # Other classes (accelerate's, torch's) cannot be written in a config: dicts stand for them.
    kinds = list(dict.fromkeys(kinds)) or ["object", "null"]
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    # `SchedulerType | str` means the scheduler's names; a Literal beside bare text does not.
    if options and "array" not in kinds:
        schema["enum"] = options
    if items is not None:
        schema["items"] = items
    return schema


def _union_members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def rendered() -> dict[str, str]:
    """File name to text of everything that is generated."""
    files = {f"{name}.json": build_schema(name) for name in METHODS}
    texts = {name: _dump(value) for name, value in files.items()}
    texts["metric_definitions.json"] = _dump(METRIC_DEFINITIONS)
    texts["channels.json"] = _dump({"splits": SPLIT_CHANNELS, "data_set": DATA_SET_CHANNEL})
    texts["rows.json"] = _dump(_row_rules())
    texts["former_names.json"] = _dump(FORMER_NAMES)
    texts["packages.json"] = _dump(missing_in_images())
    texts[PROCESSORS] = _dump({"torchvision": _taking_videos()})
    return texts


class _SettingNames:
    """Settings whose values are their own names, in braces."""

    def __getattr__(self, name: str) -> str:
        return f"{{{name}}}"

    def get(self, name: str, _default: object = None) -> str:
        """As a dict's."""
        return f"{{{name}}}"


def _row_rules() -> dict[str, Any]:
    """What files and columns a job needs, for the launcher to look into the first rows by."""
    trained = {name: method for name in METHODS if (method := load_method(name)).trains}
    named: Any = SimpleNamespace(own=_SettingNames(), training=_SettingNames())
    return {
        "kinds": list(READERS),
        "whole": list(WHOLE),
        "not_data": sorted(NOT_DATA),
        "columns": {
            name: [list(group) for group in method.required_columns(named)]
            for name, method in trained.items()
        },
        "expanded": [name for name, method in trained.items() if method.expand is not as_it_is],
        "without_images": [
            name
            for name, method in trained.items()
            if method.training_config.startswith("trl") and not method.images
        ],
        "answers": ANSWER_COLUMNS,
        "losses": {kind: list(losses) for kind, losses in LOSSES.items()},
    }


def _taking_videos() -> list[str]:
    """The model types whose processor takes videos beside images and texts."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

    return sorted(set(PROCESSOR_MAPPING_NAMES) & set(VIDEO_PROCESSOR_MAPPING_NAMES))


def _dump(value: Any) -> str:
    """JSON with a line for each hyperparameter, so that a change of one is a change of one line."""
    return _lines(value, depth=2) + "\n"


def _lines(value: Any, depth: int) -> str:
    if not depth or not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[\n" + ",\n".join(_lines(item, depth - 1) for item in value) + "\n]"
    items = (f"{json.dumps(key)}: {_lines(item, depth - 1)}" for key, item in value.items())
    return "{\n" + ",\n".join(items) + "\n}"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the generated files; 1 when a check finds one out of date."""
    parser = argparse.ArgumentParser(prog="python -m sm_train.methods.schema", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", action="store_true", help="regenerate the files")
    choice.add_argument("--check", action="store_true", help="fail when they are out of date")
    chosen = parser.parse_args(arguments)
    stale = []
    for name, text in rendered().items():
        path = FOLDER / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if chosen.write:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        sys.stdout.write(f"{'wrote' if chosen.write else 'out of date:'} {path}\n")
    return 1 if stale and chosen.check else 0


if __name__ == "__main__":
    sys.exit(main())
