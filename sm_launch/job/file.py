"""Read job.yaml and apply overrides: the document, before it is checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from sm_launch.errors import UserInputError

_FLOAT, _BOOL = "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool"
_EXPONENT = (_FLOAT, re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"))
_TRUTH = (_BOOL, re.compile(r"true|True|TRUE|false|False|FALSE"))


class _Loader(yaml.SafeLoader):
    """YAML as people write it: `5e-5` is a number (YAML 1.1 wants a dot and a sign), and `no` is a
    text, as in YAML 1.2: eval_strategy calls it so, and so do labels. Where a key is a switch,
    `yes` and `no` are taken for true and false all the same."""

    yaml_implicit_resolvers = {
        first: [
            *(each for each in resolvers if each[0] != _BOOL),
            *([_EXPONENT] if first in "-+0123456789" else []),
            *([_TRUTH] if first in "tTfF" else []),
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _parse_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader with one more number)


def read_document(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserInputError: it cannot be read, or holds something else.
    """
    try:
        document = _parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserInputError(
            "no such file",
            field="--config",
            value=str(path),
            fix="run `sm-launch init` to write one, or name yours with --config",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserInputError(f"cannot be read: {error}", field=str(path)) from None
    except yaml.YAMLError as error:
        raise UserInputError(f"is not valid YAML: {error}", field=str(path)) from None
    if not isinstance(document, dict):
        raise UserInputError(
            "must hold a mapping of keys",
            field=str(path),
            fix="run `sm-launch init` to see a complete example",
        )
    return document


def apply_override(document: dict[str, Any], override: str) -> None:
    """Set a dotted key of a document, such as `training.method=sft`, in place.

    Raises:
        UserInputError: it is not KEY=VALUE, or leads through something that is no section.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserInputError(
            "must be KEY=VALUE",
            field="--set",
            value=override,
            fix="for example --set training.hyperparameters.num_train_epochs=2",
        )
    try:
        value = _parse_yaml(text)
    except yaml.YAMLError:
        value = text
    *parents, last = key.split(".")
    node = document
    for parent in parents:
        child = node.get(parent)
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise UserInputError(f"{parent} is not a section", field="--set", value=override)
        node = child
    node[last] = value
