"""The base model of a job: where it is, and whether it is one. Nothing here needs torch."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zlib
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
    channel = _unpacked(paths, "model")
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
        folder = _unpacked(paths, name.removeprefix("channel:"))
        if folder is None:
            raise UserError(
                "is not a channel of this job", field=field, value=name, fix="add the channel"
            )
        return str(_checked_directory(folder, field))
    channel = _unpacked(paths, "model")
    if channel is not None and (channel / name).is_dir():
        return str(_checked_directory(channel / name, field))
    if Path(name).is_dir():
        return str(_checked_directory(Path(name), field))
    if Path(name).is_absolute() or name.startswith(("./", "../", "~")):
        raise UserError("no such directory", field=field, value=name, fix="correct the path")
    _check_hub_id(name, field, revision)
    return name


def _unpacked(paths: Paths, name: str) -> Path | None:
    """A channel's directory, or what its only archive holds: jobs leave a model.tar.gz.

    Raises UserError for an archive that cannot be unpacked.
    """
    channel = paths.channel(name)
    files = [path for path in channel.rglob("*") if path.is_file()] if channel else []
    if len(files) != 1 or not files[0].name.endswith((".tar.gz", ".tgz")):
        return channel
    # One that lies there from an earlier job in this place is another file's.
    target = paths.base / "unpacked" / f"{name}-{files[0].stat().st_mtime_ns}"
    if target.is_dir():  # by the process that started this one
        return target
    partial = target.with_name(f".{name}-{os.getpid()}")
    try:
        with tarfile.open(files[0]) as archive:
            archive.extractall(partial, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"cannot be unpacked: {error}",
            field=f"channel {name}",
            value=files[0].name,
            fix="give the model.tar.gz of a training job that completed, or its files unpacked",
        ) from error
    partial.rename(target)
    return target


def _checked_directory(folder: Path, field: str) -> Path:
    """The folder that holds config.json: `folder` itself or the only one of its subfolders."""
    candidates = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    found = [c for c in candidates if (c / "config.json").is_file()]
    if not found:
        raise UserError(
            "holds no Hugging Face model: no config.json",
            field=field,
            value=str(folder),
            fix="put config.json, the weights and the tokenizer's files there, or one model.tar.gz",
        )
    weights = [path.name for pattern in _WEIGHTS for path in found[0].glob(pattern)]
    if not weights:
        compiled = sorted(path.name for path in found[0].glob("**/*.onnx"))
        raise UserError(
            f"holds no weights (*.safetensors){', but what was made for serving' * bool(compiled)}",
            field=field,
            value=str(found[0]),
            fix="give the artefact that it was optimized from"
            if compiled
            else "copy the model's weights there",
        )
    if all(name.startswith("adapter_model") for name in weights):
        raise UserError(
            "holds an adapter alone",
            field=field,
            value=str(found[0]),
            fix="give a whole model: train the adapter with export set to merged",
        )
    read_model_config(str(found[0]))
    return found[0]


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
