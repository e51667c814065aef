"""Check hyperparameters on the laptop, without torch, against the schemas that sm_train generates.

They lie in the training container's folder; the launcher's wheel brings a copy. The container
checks the same again. Here a typo costs milliseconds instead of an instance's start.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_launch.errors import UserInputError
from sm_launch.job import limits
from sm_launch.job.hyperparameter_names import PROGRAM

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

    from sm_launch.job.training import HyperparameterValue

FIELD = "training.hyperparameters"
OPTIMIZE = "optimize"
"""The method of `sm-launch optimize`, which trains nothing: `optimization` has its settings."""
_NO_METHODS = (
    *("metric_definitions.json", "channels.json", "rows.json", "packages.json", "processors.json"),
    "former_names.json",
    f"{OPTIMIZE}.json",
)
_SWITCHES = {"yes": True, "on": True, "no": False, "off": False}
OUR_IMAGE = re.compile(r"(^|/)sm-train(?!:process)([:@]|$)")


def methods() -> list[str]:
    """The training methods that have a schema."""
    files = _schema_folder().glob("*.json")
    return sorted(file.stem for file in files if file.name not in _NO_METHODS)


def metric_definitions(
    method: str, values: Mapping[str, HyperparameterValue] | None = None
) -> list[dict[str, str]]:
    """The `Name`/`Regex` pairs that match what a job prints: at most 40, as SageMaker takes.

    Args:
        method: of training.
        values: its hyperparameters; a script of the user's has what is most often logged.
    """
    logs = "script" if PROGRAM in (values or {}) else method
    return [
        {"Name": each["Name"], "Regex": each["Regex"]}
        for each in all_metrics()
        if logs in each.get("Methods", [logs])
    ]


def all_metrics() -> list[dict[str, Any]]:
    """`Name`, `Regex` and, of those that not every method logs, `Methods`."""
    definitions: list[dict[str, Any]] = _generated("metric_definitions.json")
    return definitions


def split_channels() -> dict[str, list[str]]:
    """The names under which the training container takes a channel for each split's data."""
    splits: dict[str, list[str]] = _generated("channels.json")["splits"]
    return splits


def data_set_pattern() -> str:
    """What the name of a channel is that holds one of several data sets of a split."""
    pattern: str = _generated("channels.json")["data_set"]
    return pattern


def row_rules() -> dict[str, Any]:
    """What kinds of files the training container reads, and which columns a method needs."""
    rules: dict[str, Any] = _generated("rows.json")
    return rules


def check_hyperparameters(method: str, values: dict[str, HyperparameterValue]) -> None:
    """Refuse unknown keys and wrong values.

    Raises:
        UserInputError: naming every bad key, its value, and the nearest known key.
    """
    schema = _schema(method)
    problems = _limit_problems(values)
    if PROGRAM not in values:
        problems += _schema_problems(schema, values)
    if problems:
        raise UserInputError(
            f"{len(problems)} problem(s) for the method {method}:\n"
            + "\n".join(f"  {problem}" for problem in problems),
            field=FIELD,
        )


def check_image_has(image: str, values: dict[str, HyperparameterValue]) -> None:
    """Refuse what needs a package that no training image of ours has, such as vLLM.

    An image made from ours may have it: one whose repository has another name is taken to know.

    Raises:
        UserInputError: naming the key, the package and what to do instead.
    """
    if PROGRAM in values:
        return
    for need in _generated("packages.json"):
        # What is no package, an image made from ours lacks as well.
        known = bool(need["lacks"]) or OUR_IMAGE.search(image)
        value = values.get(need["key"])
        shown = value if isinstance(value, str) else json.dumps(value)
        off = value is None or value is False
        if known and not off and re.fullmatch(need["values"], shown, re.DOTALL | re.IGNORECASE):
            raise _lacking(need, image, value)


def check_image_reads(image: str, model: str | None, named: str) -> None:
    """Refuse a base model whose processor wants torchvision, which only the GPU flavour has.

    Args:
        image: that trains on rows with images; one whose tag tells no flavour is taken to know.
        model: its kind, as config.json's model_type has it; None where nobody knows.
        named: what job.yaml calls it.

    Raises:
        UserInputError: naming both.
    """
    if not (OUR_IMAGE.search(image) and image.endswith("cpu")):
        return
    if model in _generated("processors.json")["torchvision"]:
        raise UserInputError(
            f"has a processor for images that wants torchvision, as every {model} does, and the "
            f"image {image} does not have it",
            field="training.model",
            value=named,
            fix="set training.image to the GPU flavour (`make build FLAVOR=gpu`), add the package "
            "to an image made from this one, under another name, or use a base model whose "
            "processor takes images alone",
        )


def _lacking(need: dict[str, Any], image: str, value: HyperparameterValue) -> UserInputError:
    message, fix = f"needs {need['lacks']}, which no job has", need["fix"]
    if not need["lacks"]:
        message = f"needs the package {need['modules'][0]}, which the image {image} does not have"
        fix = f"{fix}; or add it to an image made from this one, under another name"
    return UserInputError(message, field=f"{FIELD}.{need['key']}", value=value, fix=fix)


def with_switches(document: dict[str, Any]) -> dict[str, Any]:
    """A job.yaml whose hyperparameters say true or false where the method has a switch.

    YAML 1.1 reads `yes`, `no`, `on` and `off` so; as texts they would be what they are not: a `no`
    that is true. And a `false` where the method calls it `no` becomes that word.
    """
    training = document.get("training")
    given = training.get("hyperparameters") if isinstance(training, dict) else None
    if not isinstance(given, dict) or not isinstance(training, dict):
        return document
    method = training.get("method", "text-classification")
    if PROGRAM in given or method not in (*methods(), OPTIMIZE):
        return document
    table = _schema(method)["properties"]
    settled = {key: _switched(value, table.get(key, {})) for key, value in given.items()}
    return document | {"training": {**training, "hyperparameters": settled}}


def _switched(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value as what its schema calls it, where it is one of YAML 1.1's truths."""
    kinds, options = schema.get("type", []), schema.get("enum", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(value, str) and "boolean" in kinds and value not in options:
        return _SWITCHES.get(value.lower(), value)
    if value is False and "boolean" not in kinds and "no" in options:
        return "no"
    return value


def is_integer(method: str, name: str) -> bool:
    """Whether a hyperparameter takes whole numbers only."""
    kinds = _schema(method).get("properties", {}).get(name, {}).get("type", [])
    named = {kinds} if isinstance(kinds, str) else set(kinds)
    return "integer" in named and "number" not in named


def default_of(method: str, name: str) -> Any:
    """What the trainer takes where a job does not say it; None where it has none of its own."""
    if method not in methods():
        return None
    return _schema(method).get("properties", {}).get(name, {}).get("default")


def _schema(method: str) -> dict[str, Any]:
    known = methods()
    if method not in (*known, OPTIMIZE):
        close = get_close_matches(method, known, n=1)
        raise UserInputError(
            "is not a method",
            field="training.method",
            value=method,
            fix=f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}",
        )
    schema: dict[str, Any] = _generated(f"{method}.json")
    return schema


def trainer_folder() -> Path:
    """Where sm_train lies: as the wheel holds it, or in the checkout that the launcher runs from.

    Nothing of it is imported.
    """
    copy = Path(__file__).parents[1] / "trainer"
    return copy if copy.is_dir() else Path(__file__).parents[2] / "containers/train"


def _schema_folder() -> Path:
    return trainer_folder() / "sm_train/schemas"


def _generated(name: str) -> Any:
    return json.loads((_schema_folder() / name).read_text(encoding="utf-8"))


def _limit_problems(values: dict[str, HyperparameterValue]) -> list[str]:
    problems = []
    if len(values) > limits.HYPERPARAMETER_COUNT:
        problems.append(f"{len(values)} keys: SageMaker takes {limits.HYPERPARAMETER_COUNT}")
    for key, value in values.items():
        length = len(value if isinstance(value, str) else json.dumps(value))
        if length > limits.HYPERPARAMETER_VALUE_LENGTH:
            problems.append(
                f"{key}: {length} characters; SageMaker takes "
                f"{limits.HYPERPARAMETER_VALUE_LENGTH}; put long values into a `config` channel"
            )
    return problems


def _schema_problems(schema: dict[str, Any], values: dict[str, HyperparameterValue]) -> list[str]:
    from jsonschema import Draft202012Validator

    known = list(schema.get("properties", {}))
    former: dict[str, str] = _generated("former_names.json")
    problems = []
    for key, value in values.items():
        if key not in known:
            close = [former[key]] if former.get(key) in known else get_close_matches(key, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"{key}: unknown hyperparameter (got {value!r}){hint}")
    present = {key: value for key, value in values.items() if key in known}
    for error in Draft202012Validator(schema).iter_errors(present):
        if error.validator == "required":
            continue  # the launcher adds method and model itself
        where = ".".join(str(part) for part in error.absolute_path)
        problems.append(f"{where}: {_never(schema, error) or error.message}")
    return problems


def _never(schema: dict[str, Any], error: ValidationError) -> str | None:
    """Why a method cannot turn a switch on; None of other problems."""
    about = schema["properties"][error.absolute_path[0]]
    if error.validator != "enum" or not set(about["enum"]) <= {False, None}:
        return None
    return f"{error.instance!r}: {about['description']} Remove it"
