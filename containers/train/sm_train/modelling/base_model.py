"""The base model of a job: where it is, and whether it is one. Nothing here needs torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sm_train.contract import Paths
from sm_train.errors import UserError
from sm_train.settings.settings import Config

_ENCODERS = (
    *("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra"),
    *("modernbert", "mpnet", "roberta", "xlm-roberta"),
)
_WEIGHTS = ("*.safetensors", "*.bin")


def resolve_base_model(paths: Paths, config: Config) -> str:
    """Directory or Hub id of the base model, checked as far as possible without torch.

    Order: `model_name_or_path`, then the `model` channel. Raises UserError when neither leads to a
    model, or when the Hub would be needed but the job is offline and has no cached copy.
    """
    name = config.model.model_name_or_path
    if name is not None:
        return resolve_model(paths, name, "model_name_or_path", config.model.model_revision)
    channel = paths.channel("model")
    if channel is None:
        raise UserError(
            "is missing, and there is no `model` channel",
            field="model_name_or_path",
            fix="set it to a Hub id or a path, or give the job a channel named model",
        )
    return str(_checked_directory(channel, "channel model"))


def resolve_model(paths: Paths, name: str, field: str, revision: str = "main") -> str:
    """Directory or Hub id of the model that a setting names: channel:NAME, a path, or an id."""
    if name.startswith("channel:"):
        folder = paths.channels / name.removeprefix("channel:")
        if not folder.is_dir():
            raise UserError(
                "is not a channel of this job", field=field, value=name, fix="add the channel"
            )
        return str(_checked_directory(folder, field))
    channel = paths.channel("model")
    if channel is not None and (channel / name).is_dir():
        return str(_checked_directory(channel / name, field))
    if Path(name).is_dir():
        return str(_checked_directory(Path(name), field))
    if Path(name).is_absolute() or name.startswith(("./", "../", "~")):
        raise UserError("no such directory", field=field, value=name, fix="correct the path")
    _check_hub_id(name, field, revision)
    return name


def _checked_directory(folder: Path, field: str) -> Path:
    """The folder that holds config.json: `folder` itself or the only one of its subfolders."""
    candidates = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    matches = [c for c in candidates if (c / "config.json").is_file()]
    if not matches:
        raise UserError(
            "holds no Hugging Face model: no config.json",
            field=field,
            value=str(folder),
            fix="put config.json, the weights and the tokenizer's files there, unpacked",
        )
    weights = [path.name for pattern in _WEIGHTS for path in matches[0].glob(pattern)]
    if not weights:
        raise UserError(
            "holds no weights (*.safetensors)",
            field=field,
            value=str(matches[0]),
            fix="copy the model's weights there",
        )
    if all(name.startswith("adapter_model") for name in weights):
        raise UserError(
            "holds an adapter alone",
            field=field,
            value=str(matches[0]),
            fix="give a whole model: train the adapter with export set to merged",
        )
    read_model_config(str(matches[0]))
    return matches[0]


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


def check_generates(source: str, field: str) -> None:
    """Raise UserError for an encoder; transformers would load it as a generator all the same."""
    config = read_model_config(source)
    kind = str(config.get("model_type"))
    if kind in _ENCODERS and not config.get("is_decoder"):
        raise UserError(
            f"is an encoder ({kind}), which does not generate text",
            field=field,
            value=source,
            fix="use a decoder (such as Llama, Qwen, Mistral), or the method text-classification",
        )
