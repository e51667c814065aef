"""The base model of a job: where it is, and whether it is one. Nothing here needs torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_train.contract import Paths, read_json
from sm_train.errors import UserError
from sm_train.modelling.unpacking import unpacked
from sm_train.settings.packages import installed
from sm_train.settings.schema_files import wants_torchvision
from sm_train.settings.settings import Config

_ENCODERS = (
    *("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra"),
    *("modernbert", "mpnet", "roberta", "xlm-roberta"),
)
ADAPTER_CONFIG = "adapter_config.json"
PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
"""How a model's images (and videos) are made ready for it; one of the first two is always there."""
_WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class BaseModel:
    """What a job begins with.

    Attributes:
        source: directory or Hub id of a whole model.
        adapter: directory of a LoRA adapter that is to be merged into it first.
        revision: of the Hub id.
    """

    source: str
    adapter: Path | None = None
    revision: str = "main"

    @property
    def origin(self) -> str:
        """By what the job's base model is recognised: the adapter names its base itself."""
        return self.source if self.adapter is None else str(self.adapter)


def resolve_base_model(paths: Paths, config: Config) -> BaseModel:
    """The job's base model, checked as far as possible without torch.

    Order: `model_name_or_path`, then the `model` channel, which holds a model's files, a
    `model.tar.gz`, or what a job with `export: adapter` left. Raises UserError when neither leads
    to a model, or when the Hub would be needed but the job is offline and has no cached copy.
    """
    name, revision = config.model.model_name_or_path, config.model.model_revision
    channel = paths.channel("model")
    if name is None and channel is None:
        raise UserError(
            "is missing, and there is no `model` channel",
            field="model_name_or_path",
            fix="set it to a Hub id or a path, or give the job a channel named model",
        )
    field = "channel model" if name is None else "model_name_or_path"
    place = channel if name is None else _directory_of(paths, name, field)
    if place is None:
        _check_hub_id(str(name), field, revision)
        return BaseModel(str(name), revision=revision)
    directory = _model_directory(unpacked(paths, place), field)
    if not _is_adapter_alone(directory):
        _check_whole(directory, field)
        return BaseModel(str(directory))
    if config.job.export == "adapter":
        raise UserError(
            "would leave an adapter of the base model with another adapter merged into it, which "
            "nobody has",
            field="export",
            value="adapter",
            fix="set export to merged or both, or begin with a whole model",
        )
    return _base_of(paths, directory, field)


def resolve_model(paths: Paths, name: str, field: str, revision: str = "main") -> str:
    """Directory or Hub id of the model that a setting names: channel:NAME, a path, or an id."""
    place = _directory_of(paths, name, field)
    if place is None:
        _check_hub_id(name, field, revision)
        return name
    directory = _model_directory(unpacked(paths, place), field)
    _check_whole(directory, field)
    return str(directory)


def _directory_of(paths: Paths, name: str, field: str) -> Path | None:
    """Where the model is that a setting names; None for a Hub id."""
    if name.startswith("channel:"):
        folder = paths.channels / name.removeprefix("channel:")
        if not folder.is_dir():
            raise UserError(
                "is not a channel of this job", field=field, value=name, fix="add the channel"
            )
        return folder
    channel = paths.channel("model")
    if channel is not None and (channel / name).is_dir():
        return channel / name
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or name.startswith(("./", "../", "~")):
        raise UserError("no such directory", field=field, value=name, fix="correct the path")
    return None


def _model_directory(folder: Path, field: str) -> Path:
    """The folder of a model or an adapter: `folder` itself or the first of its subfolders."""
    candidates = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    for candidate in candidates:
        if (candidate / "config.json").is_file() or (candidate / ADAPTER_CONFIG).is_file():
            return candidate
    raise UserError(
        "holds no Hugging Face model: no config.json",
        field=field,
        value=str(folder),
        fix="put config.json, the weights and the tokenizer's files there, or a model.tar.gz "
        "that holds them",
    )


def _weights(folder: Path) -> list[str]:
    return [path.name for pattern in _WEIGHTS for path in folder.glob(pattern)]


def _is_adapter_alone(folder: Path) -> bool:
    adapted = (folder / ADAPTER_CONFIG).is_file()
    return adapted and all(name.startswith("adapter_model") for name in _weights(folder))


def _check_whole(folder: Path, field: str) -> None:
    weights = _weights(folder)
    if not weights:
        made = any(folder.glob("**/*.onnx"))
        raise UserError(
            f"holds no weights (*.safetensors){', but what was made for serving' * made}",
            field=field,
            value=str(folder),
            fix="give the artefact that it was made from"
            if made
            else "copy the model's weights there",
        )
    if all(name.startswith("adapter_model") for name in weights):
        raise UserError(
            "holds an adapter alone",
            field=field,
            value=str(folder),
            fix="give a whole model: train the adapter with export set to merged",
        )
    read_model_config(str(folder))


def _base_of(paths: Paths, adapter: Path, field: str) -> BaseModel:
    """An adapter's base: `base/` within it, the channel `base`, or what its config names."""
    if not any(adapter.glob("adapter_model.*")):
        raise UserError(
            f"has {ADAPTER_CONFIG} and no adapter_model.safetensors",
            field=field,
            value=str(adapter),
            fix="copy all files of the adapter",
        )
    settings = read_json(adapter / ADAPTER_CONFIG)
    if settings.get("peft_type") != "LORA":
        raise UserError(
            "is no LoRA adapter",
            field=f"{ADAPTER_CONFIG} peft_type",
            value=settings.get("peft_type"),
            fix="merge it into its base model with PEFT, and give the whole model",
        )
    channel = paths.channel("base")
    near = next((p for p in (adapter / "base", channel) if p is not None and p.is_dir()), None)
    if near is not None:
        source = _model_directory(unpacked(paths, near), field)
        _check_whole(source, field)
        return BaseModel(str(source), adapter)
    named = str(settings.get("base_model_name_or_path") or "")
    if named.count("/") > 1 or Path(named).is_absolute() or not named:
        raise UserError(
            f"is an adapter whose base model ({named or 'not named'}) this job does not have",
            field=field,
            value=str(adapter),
            fix="give the base model as the channel base, or in the folder base/ beside "
            f"{ADAPTER_CONFIG}",
        )
    revision = str(settings.get("revision") or "main")
    _check_hub_id(named, f"{ADAPTER_CONFIG} base_model_name_or_path", revision)
    return BaseModel(named, adapter, revision)


def _check_hub_id(name: str, field: str, revision: str) -> None:
    if name.count("/") > 1:
        raise UserError(
            "is neither a directory nor a Hub id (owner/name)",
            field=field,
            value=name,
            fix="correct the path or the id",
        )
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in {"1", "true", "yes", "on"}:
        return
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
        raise UserError(
            "is not on this machine, and HF_HUB_OFFLINE forbids fetching it",
            field=field,
            value=name,
            fix="give the job the model as a channel named model",
        )


def read_model_config(source: str) -> dict[str, Any]:
    """config.json of a local base model; {} for a Hub id. Raises UserError for a broken file."""
    path = Path(source) / "config.json"
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"is not valid JSON: {error}", field=str(path)) from error
    return value if isinstance(value, dict) else {}


def check_takes_images(source: str) -> None:
    """Raise UserError for a local model that rows with images cannot train.

    One that takes images says in a file of its processor how they are made ready.
    """
    folder = Path(source)
    if not folder.is_dir():
        return
    if not any((folder / name).is_file() for name in PROCESSOR_FILES[:2]):
        raise text_model(source)
    kind = str(read_model_config(source).get("model_type"))
    if wants_torchvision(kind) and not installed("torchvision"):
        raise lacking_for_images(source, f"torchvision, as every {kind} does")


def lacking_for_images(source: str, needed: str) -> UserError:
    """Why rows with images cannot train a base model here: its processor needs more."""
    return UserError(
        f"has a processor that wants a package which is not installed: {needed}",
        field="model_name_or_path",
        value=source,
        fix="train on the image's GPU flavour, add the package to an image made from this one, or "
        "use a base model whose processor takes images alone",
    )


def text_model(source: str) -> UserError:
    """Why rows with images cannot train a base model."""
    return UserError(
        "takes text alone (it has no processor for images), and the rows have images",
        field="model_name_or_path",
        value=source,
        fix="use a base model that takes images, with its preprocessor_config.json or "
        "processor_config.json; or leave the images out of the rows",
    )


def is_encoder(source: str) -> bool:
    """Whether a local model reads a text as a whole, and generates none."""
    config = read_model_config(source)
    return str(config.get("model_type")) in _ENCODERS and not config.get("is_decoder")


def check_generates(source: str, field: str) -> None:
    """Raise UserError for an encoder; transformers would load it as a generator all the same."""
    if is_encoder(source):
        kind = read_model_config(source).get("model_type")
        raise UserError(
            f"is an encoder ({kind}), which does not generate text",
            field=field,
            value=source,
            fix="use a decoder (such as Llama, Qwen, Mistral), or the method text-classification",
        )
