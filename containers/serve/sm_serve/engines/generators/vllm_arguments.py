"""vLLM's own engine arguments, from SM_SERVE_VLLM_… and the artefact's vllm.yaml.

Names, types and values are those of vLLM's own parser, whatever version is installed. What this
server sets itself, and what would lift one of its rules, is refused by name.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_serve.config import VLLM_PREFIX, Settings
from sm_serve.errors import StartupError

FILE = "vllm.yaml"
OWN: Mapping[str, str] = {
    "model": "the model is the artefact's, or HF_MODEL_ID's",
    "model_weights": "the model is the artefact's, or HF_MODEL_ID's",
    "tokenizer": "the tokenizer is the artefact's",
    "tokenizer_revision": "the tokenizer is the artefact's",
    "hf_config_path": "the configuration is the artefact's",
    "code_revision": "nothing is downloaded by vLLM: set HF_MODEL_REVISION",
    "revision": "nothing is downloaded by vLLM: set HF_MODEL_REVISION",
    "hf_token": "nothing is downloaded by vLLM: set HF_TOKEN",
    "download_dir": "nothing is downloaded by vLLM: set HF_HOME",
    "served_model_name": "set SM_SERVE_MODEL_NAME",
    "dtype": "set SM_SERVE_DTYPE",
    "trust_remote_code": "set SM_SERVE_TRUST_REMOTE_CODE",
    "generation_config": "requests say how they sample",
    "override_generation_config": "requests say how they sample",
    "structured_outputs_config": "constraints are followed by llguidance",
    "reasoning_parser": "vLLM's answers are read by this server",
    "skip_tokenizer_init": "vLLM gets token ids already",
    "runner": "a generating model is served",
    "convert": "a generating model is served",
    "enable_lora": "it follows the artefact's adapters and SM_SERVE_MAX_LORA_RANK",
    "max_lora_rank": "set SM_SERVE_MAX_LORA_RANK",
    "max_cpu_loras": "set SM_SERVE_MAX_ADAPTERS",
    "lora_modules": "adapters are loaded over /adapters",
    "worker_extension_cls": "it tells this server what vLLM makes of an adapter",
    "enable_log_requests": "bodies are never logged",
    "disable_log_stats": "they are the signs of life by which a stuck engine is known",
    "allowed_local_media_path": "files of the container are not read for clients",
    "allowed_media_domains": "nothing is fetched for clients: they send images as data: URLs",
}
"""Arguments that are not the operator's to set here, and what is instead."""
CODE = frozenset(
    {
        *("logits_processors", "worker_cls", "scheduler_cls"),
        *("io_processor_plugin", "reasoning_parser_plugin", "hf_overrides"),
    }
)
"""They name Python to run: an artefact may only where its code is trusted."""
PICKLES = frozenset({"auto", "pt", "npcache", "hf"})
"""Values of load_format by which pickled weights are read."""
ALWAYS = frozenset({"help"})


@dataclass(frozen=True, slots=True)
class Given:
    """A setting: where it stands, in words for an error, and what it is."""

    place: str
    name: str
    value: Any
    trusted: bool


def given_arguments(model: Path, settings: Settings) -> list[Given]:
    """What was set, the file beside the model first: the environment goes before it.

    Of a model of the Hub the file is the artefact's.

    Raises StartupError where the file is no YAML of names and values.
    """
    folder = settings.artefact_dir if settings.hub_path else model
    arguments = [
        Given(
            f"{FILE}: {name}",
            str(name).replace("-", "_"),
            _with_draft(str(name).replace("-", "_"), value, folder),
            settings.trust_remote_code,
        )
        for name, value in read_file(folder / FILE).items()
    ]
    named = {name for name, _ in settings.vllm}
    kept = [each for each in arguments if each.name not in named]
    return kept + [
        Given(f"{VLLM_PREFIX}{name.upper()}", name, value, trusted=True)
        for name, value in settings.vllm
    ]


def _with_draft(name: str, value: Any, folder: Path) -> Any:
    """Of speculative_config the folder of the draft, which the file names from where it lies.

    Raises StartupError where it lies elsewhere: nothing is downloaded by vLLM.
    """
    model = value.get("model") if isinstance(value, dict) else None
    if name != "speculative_config" or not isinstance(model, str):
        return value
    draft = (folder / model).resolve()
    if not draft.is_dir() or folder.resolve() not in draft.parents:
        raise StartupError(
            f"{FILE}: {name}: model {model!r} is no folder of {folder}: put the draft model there,"
            f" or set {VLLM_PREFIX}{name.upper()}"
        )
    return {**value, "model": str(draft)}


def read_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, empty where there is none."""
    if not path.is_file():
        return {}
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise StartupError(f"{path} is no YAML: {' '.join(str(error).split())[:300]}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise StartupError(
            f"{path} must hold vLLM's arguments by name, such as max_model_len: 8192"
        )
    return document


def parse_arguments(given: list[Given], settings: Settings) -> dict[str, Any]:
    """The settings as keywords of AsyncEngineArgs, by vLLM's own parser.

    Raises StartupError for an unknown name, with the nearest one, for a value that vLLM does not
    take, and for what this server sets itself.
    """
    if not given:
        return {}
    parser = _make_parser()
    actions = {action.dest: action for action in parser._actions if action.dest not in ALWAYS}
    values: dict[str, Any] = {}
    for each in given:
        _check_own(each, settings)
        if each.name not in actions:
            near = difflib.get_close_matches(each.name, actions, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "see vLLM's engine arguments"
            raise StartupError(f"{each.place} is no engine argument of this vLLM: {hint}")
        values[each.name] = _parse(parser, actions[each.name], each)
    return values


def _check_own(each: Given, settings: Settings) -> None:
    if each.name in OWN:
        raise StartupError(f"{each.place}={each.value!r} cannot be set: {OWN[each.name]}")
    if each.name in CODE and not each.trusted:
        raise StartupError(
            f"{each.place}={each.value!r} names code to run: set SM_SERVE_TRUST_REMOTE_CODE=true if"
            f" you trust the artefact, or set {VLLM_PREFIX}{each.name.upper()}"
        )
    pickled = each.name == "load_format" and str(each.value).lower() in PICKLES
    if pickled and not settings.allow_pickle_weights:
        raise StartupError(
            f"{each.place}={each.value!r} reads pickles, which can run code: set"
            " SM_SERVE_ALLOW_PICKLE_WEIGHTS=true if you trust the weights"
        )


def _make_parser() -> Any:
    from vllm import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        """Raises where argparse would end the process."""

        def error(self, message: str) -> Any:
            raise ValueError(message)

    return AsyncEngineArgs.add_cli_args(Parser(add_help=False))


def _parse(parser: Any, action: Any, each: Given) -> Any:
    option = next(name for name in action.option_strings if name.startswith("--"))
    try:
        parsed = parser.parse_args(_argv(action, option, each.value))
    except (ValueError, TypeError, SystemExit) as error:
        reason = " ".join(str(error).split())[:300]
        raise StartupError(
            f"{each.place}={each.value!r}: vLLM does not take it: {reason}"
        ) from error
    return getattr(parsed, action.dest)


def _argv(action: Any, option: str, value: Any) -> list[str]:
    """A value as words of a command line, as vLLM's parser takes them."""
    import argparse

    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(action, argparse.BooleanOptionalAction):
        switches = {"true": option, "false": f"--no-{option.removeprefix('--')}"}
        if text.strip().lower() not in switches:
            raise ValueError("give true or false")
        return [switches[text.strip().lower()]]
    if action.nargs in ("+", "*"):
        items = value if isinstance(value, list) else text.split()
        return [option, *(i if isinstance(i, str) else json.dumps(i) for i in items)]
    return [f"{option}={text}"]
