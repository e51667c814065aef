"""What the headers of a local model's safetensors files say, read without torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from sm_train.errors import UserError

_HEADER_BYTES = 8
WEIGHT_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""safetensors' names of the types that a model can be trained and saved in, and torch's."""


def whole_safetensors(path: Path) -> bool:
    """The header tells where the last tensor ends (safetensors format, "Format" section)."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_HEADER_BYTES), "little")
            size = path.stat().st_size
            if length > size:
                return False
            header = json.loads(file.read(length))
    except (OSError, ValueError, MemoryError):
        return False
    ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
    return size == _HEADER_BYTES + length + max(ends, default=0)


def stored_weights(source: str) -> tuple[int, int]:
    """Parameters of a local model and the bytes they take; zeros for a Hub id, not known yet."""
    folder = Path(source)
    files = [*folder.glob("*.safetensors")] if folder.is_dir() else []
    parameters = size = 0
    for path in files:
        if not whole_safetensors(path):
            raise UserError(
                "is cut short, or is not a safetensors file",
                field="model_name_or_path",
                value=str(path),
                fix="copy the base model's files again (a Git LFS pointer is not the file)",
            )
        parameters += sum(math.prod(tensor["shape"]) for tensor in _tensors(path))
        size += path.stat().st_size
    return parameters, size


def stored_type(source: str) -> str | None:
    """The type that most weights of a local model have, by torch's name; None where not known."""
    folder, counts = Path(source), dict.fromkeys(WEIGHT_TYPES, 0)
    for path in [*folder.glob("*.safetensors")] if folder.is_dir() else []:
        for tensor in _tensors(path):
            counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    return WEIGHT_TYPES.get(max(counts, key=counts.__getitem__)) if any(counts.values()) else None


def named_type(config: Any) -> str | None:
    """The type that a config of transformers names, by torch's name; None for any other."""
    named = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    text = str(named).removeprefix("torch.")
    return text if text in WEIGHT_TYPES.values() else None


def _tensors(path: Path) -> list[dict[str, Any]]:
    """What the header of a safetensors file says of its tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_HEADER_BYTES), "little")
        header = json.loads(file.read(length))
    return [value for name, value in header.items() if name != "__metadata__"]
