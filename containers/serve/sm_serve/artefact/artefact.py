"""What is in the model directory: read off config.json, checked before torch is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sm_serve.artefact.adapter_head import WEIGHTS as ADAPTER_WEIGHTS
from sm_serve.artefact.adapter_head import head_options, task_of
from sm_serve.artefact.config_sizes import check_sizes
from sm_serve.artefact.model_files import read_json
from sm_serve.config import Settings
from sm_serve.errors import StartupError
from sm_serve.protocol import Task
from sm_serve.tasks import by_alias, by_architecture

PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth")
PAIR_TASKS = ("summarization", "translation")
TRANSLATION = re.compile("translation_(?P<source>.+)_to_(?P<target>.+)")
"""A translation's task may name its languages, as in translation_en_to_fr."""
ONNX = ("onnx/model_quantized.onnx", "onnx/model.onnx", "model_quantized.onnx", "model.onnx")
"""Where optimum and others keep a model as ONNX. It is read where there are no other weights."""
ADAPTER_CONFIG = "adapter_config.json"
ADAPTERS_FOLDER = "adapters"
"""Adapters to choose from by request, each in a folder named as it is asked for."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A checked model directory. `base` differs from `path` for an unmerged adapter.

    `head` holds the keywords of from_pretrained by which the base model gets the adapter's head.
    """

    path: Path
    base: Path
    task: Task
    config: dict[str, Any]
    adapters: Mapping[str, Path] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)

    @property
    def encoder_decoder(self) -> bool:
        """Whether the model generates from an encoded prompt (T5, BART)."""
        return bool(self.config.get("is_encoder_decoder"))

    @property
    def onnx(self) -> Path | None:
        """The file that holds the model as ONNX, where it has no weights for torch."""
        return _onnx_of(self.base)

    @property
    def is_adapter(self) -> bool:
        """Whether the directory holds a PEFT adapter for another model."""
        return (self.path / ADAPTER_CONFIG).is_file() and self.base != self.path


def inspect(model_dir: Path, settings: Settings) -> Artefact:
    """Checks a model directory and finds its task.

    Raises StartupError where the directory is missing or empty, holds no Hugging Face model,
    needs pickled weights or remote code that were not allowed, or has an unsupported task.
    """
    if not model_dir.is_dir() or not any(model_dir.iterdir()):
        raise StartupError(
            f"no model in {model_dir}: the endpoint's ModelDataUrl must hold a Hugging Face model"
            " directory (config.json, model.safetensors, tokenizer files), or HF_MODEL_ID name a"
            " model of the Hub"
        )
    check_links(model_dir)
    base = _base_of(model_dir)
    config_path = base / "config.json"
    if not config_path.is_file():
        raise StartupError(
            f"{config_path} is missing: {model_dir} is not a Hugging Face model directory, and"
            f" there is no {model_dir / 'code' / (settings.program or 'inference.py')} to load it"
        )
    config = read_json(config_path)
    _check_weights(base, settings)
    if "auto_map" in config and not settings.trust_remote_code:
        raise StartupError(
            f"{config_path} has auto_map: the model needs its own Python code. Set"
            " SM_SERVE_TRUST_REMOTE_CODE=true if you trust it"
        )
    adapters = _find_adapters(model_dir, settings.served_name)
    task = find_task(
        config, config_path, settings.task or _adapters_task(model_dir, base, adapters)
    )
    _check_tasks(adapters, task)
    _check_kind(config, config_path, settings.task)
    check_sizes(config, base)  # last: a model that is not for us at all has a better reason
    artefact = Artefact(model_dir, base, task, config, adapters)
    if not artefact.is_adapter:
        return artefact
    config = config | _asked_otherwise(model_dir, config)
    artefact = replace(artefact, config=config)
    return replace(artefact, head=head_options(model_dir, config, task))


def _asked_otherwise(adapter: Path, config: dict[str, Any]) -> dict[str, Any]:
    """How an adapter is asked, as its config.json says; an encoder-decoder's prefix, too."""
    path = adapter / "config.json"
    if not path.is_file():
        return {}
    own = read_json(path)
    keys = ["task_specific_params", *(["prefix"] if config.get("is_encoder_decoder") else [])]
    return {key: own[key] for key in keys if key in own}


def find_task(config: dict[str, Any], source: Path, wanted: str | None) -> Task:
    """The task that HF_TASK names, else the one that the architecture's name tells."""
    if wanted is not None:
        family = "translation" if TRANSLATION.fullmatch(wanted) else wanted
        name = by_alias().get(family, family)
        known = [task.value for task in Task if task is not Task.CUSTOM]
        if name not in known:
            raise StartupError(
                f"HF_TASK={wanted!r} is not supported: give one of"
                f" {', '.join([*known, *by_alias()])}"
            )
        return Task(name)
    architectures = config.get("architectures") or []
    for architecture in architectures:
        for suffix, task in by_architecture().items():
            if str(architecture).endswith(suffix):
                return task
    raise StartupError(
        f"{source}: architectures={architectures!r} is not supported; serve a model whose"
        f" architecture ends in {', '.join(by_architecture())}, set HF_TASK, or add"
        " code/inference.py"
    )


def _check_kind(config: Mapping[str, Any], source: Path, wanted: str | None) -> None:
    """A decoder would go on with the text instead of summing it up."""
    pairs = wanted in PAIR_TASKS or TRANSLATION.fullmatch(wanted or "")
    if pairs and not config.get("is_encoder_decoder"):
        raise StartupError(
            f"HF_TASK={wanted!r} is for encoder-decoders (T5, BART, Marian), and {source} is of"
            f" {config.get('architectures')}: correct HF_TASK, or leave it out"
        )


def _adapters_task(model_dir: Path, base: Path, adapters: Mapping[str, Path]) -> str | None:
    """What an adapter that is to be merged, or all to choose from, were trained for, if they say.

    It goes before the base model's own task: that may be without their head, or have another one.
    """
    merged = base != model_dir and (model_dir / ADAPTER_CONFIG).is_file()
    folders = [model_dir] if merged else list(adapters.values())
    tasks = {task_of(read_json(folder / ADAPTER_CONFIG)) for folder in folders} - {None}
    return next(iter(tasks)) if len(tasks) == 1 else None


def _check_tasks(adapters: Mapping[str, Path], task: Task) -> None:
    for path in adapters.values():
        own = task_of(read_json(path / ADAPTER_CONFIG))
        if own not in (None, task):
            raise StartupError(
                f"{path} is an adapter for {own}, and the model is served for {task}: leave it out"
            )


def _base_of(model_dir: Path) -> Path:
    """The directory of the full model: an unmerged adapter names it in adapter_config.json."""
    adapter = model_dir / ADAPTER_CONFIG
    # Beside an adapter config.json names its labels; the model is where the weights are.
    if (model_dir / "config.json").is_file() and not _holds_adapter_alone(model_dir):
        return model_dir
    if not adapter.is_file():
        alone = not (model_dir / ADAPTERS_FOLDER).is_dir()
        return model_dir if alone else model_dir / "base"
    named = str(read_json(adapter).get("base_model_name_or_path", ""))
    candidates = [model_dir / "base", Path(named), model_dir / named]
    for candidate in candidates:
        if named and (candidate / "config.json").is_file():
            return candidate
    raise StartupError(
        f"{adapter} is an unmerged adapter of base_model_name_or_path={named!r}, which is not in"
        " the container: put the base model into the artefact's base/ folder, or merge before"
        " deploying"
    )


def _holds_adapter_alone(folder: Path) -> bool:
    weights = {path.name for path in folder.glob("*.safetensors")}
    pickled = any((folder / name).exists() for name in PICKLED)
    return (folder / ADAPTER_CONFIG).is_file() and weights == {ADAPTER_WEIGHTS} and not pickled


def _find_adapters(model_dir: Path, own_name: str) -> dict[str, Path]:
    """Adapters by name. StartupError where they could not be told apart from the model."""
    folder = model_dir / ADAPTERS_FOLDER
    adapters = {
        path.parent.name: path.parent for path in sorted(folder.glob(f"*/{ADAPTER_CONFIG}"))
    }
    if adapters and (model_dir / ADAPTER_CONFIG).is_file():
        raise StartupError(
            f"{model_dir} is an adapter and holds more in {folder}: put all of them into"
            f" {ADAPTERS_FOLDER}/NAME/ beside base/"
        )
    if own_name in adapters:
        raise StartupError(
            f"{adapters[own_name]} has the model's own name: rename it, or set SM_SERVE_MODEL_NAME"
        )
    return adapters


def _check_weights(model_dir: Path, settings: Settings) -> None:
    if weights := sorted(model_dir.glob("*.safetensors")):
        _check_readable(weights)
        return
    pickled = [name for name in PICKLED if (model_dir / name).exists()]
    if pickled and not settings.allow_pickle_weights:
        raise StartupError(
            f"{model_dir / pickled[0]} is a pickle, which can run code when loaded: save the model"
            " as safetensors, or set SM_SERVE_ALLOW_PICKLE_WEIGHTS=true if you trust it"
        )
    if not pickled and _onnx_of(model_dir) is None:
        raise StartupError(f"no weights in {model_dir}: model.safetensors is missing")


def _onnx_of(folder: Path) -> Path | None:
    if any(folder.glob("*.safetensors")) or any((folder / name).exists() for name in PICKLED):
        return None
    return next((folder / name for name in ONNX if (folder / name).is_file()), None)


def _check_readable(weights: list[Path]) -> None:
    """safetensors calls a file that it may not read missing."""
    for path in weights:
        if not os.access(path, os.R_OK):
            raise StartupError(
                f"{path} cannot be read by user {os.geteuid()} (mode"
                f" {path.stat().st_mode & 0o777:o}): run chmod a+r on it, or start the container"
                " as its owner"
            )


def check_links(model_dir: Path) -> None:
    """A link that leads out of an unpacked archive could expose files of the container.

    Directories that are links themselves are allowed: the platform may mount the model so.
    """
    root = model_dir.resolve()
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() and not _stays_inside(path, root):
                raise StartupError(
                    f"{path} is a link out of the model directory: put the file itself there"
                )


def _stays_inside(path: Path, root: Path) -> bool:
    target = path.resolve()
    # Hub caches store snapshots as links into a sibling blobs folder.
    return target.is_relative_to(root) or target.is_relative_to(root.parent.parent / "blobs")
