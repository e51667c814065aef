"""The files of a LoRA adapter: read, and refused where no training can have left them so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sm_serve.artefact.adapter_head import WEIGHTS
from sm_serve.artefact.artefact import ADAPTER_CONFIG
from sm_serve.errors import BadRequest

KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")
MOST_WEIGHT = 1e4
MOST_ALPHA = 1e6


def read_config(path: Path, plain: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The adapter's config, its values checked to be the `plain` ones. Raises BadRequest."""
    try:
        config = json.loads((path / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRequest(f"{ADAPTER_CONFIG} is missing or no JSON: give a PEFT adapter") from error
    if not isinstance(config, dict):
        raise BadRequest(f"{ADAPTER_CONFIG} must hold an object")
    for name, allowed in plain.items():
        if config.get(name, allowed[0]) not in allowed:
            raise BadRequest(
                f"{ADAPTER_CONFIG}: {name}={config[name]!r} cannot be served beside other adapters,"
                " only plain LoRA can: merge it before deploying"
            )
    return config


def read_tensors(path: Path) -> dict[str, Any]:
    """All of an adapter's weights. Raises BadRequest."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(path / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise BadRequest(f"{WEIGHTS} is missing or damaged: save the adapter again") from error
    return tensors


def read_weights(path: Path) -> tuple[dict[str, tuple[Any, Any]], dict[str, Any]]:
    """Both matrices of each module that the adapter changes; and all other tensors.

    Raises BadRequest.
    """
    weights: dict[str, dict[str, Any]] = {}
    others: dict[str, Any] = {}
    for key, tensor in read_tensors(path).items():
        match = KEY.fullmatch(key)
        if match is None:
            others[key] = tensor
        else:
            weights.setdefault(match["module"], {})[match["side"]] = tensor
    for module, sides in weights.items():
        if set(sides) != {"A", "B"}:
            raise BadRequest(f"{WEIGHTS} lacks one matrix of {module}: save the adapter again")
    if not weights:
        raise BadRequest(f"{WEIGHTS} is empty: save the adapter again")
    return {module: (sides["A"], sides["B"]) for module, sides in weights.items()}, others


def check_adapter(path: Path) -> None:
    """Raises BadRequest for a LoRA's directory that would spoil its model's answers."""
    check_weights(read_config(path, {}), *read_weights(path))


def check_numbers(path: Path) -> None:
    """The same for an adapter of any kind: its weights alone."""
    for name, tensor in read_tensors(path).items():
        _check_numbers(name, tensor)


def check_weights(
    config: Mapping[str, Any], pairs: Mapping[str, tuple[Any, Any]], others: Mapping[str, Any]
) -> None:
    """Raises BadRequest for weights, ranks or scales that no training leaves behind."""
    for module, (down, up) in pairs.items():
        if down.dim() != 2 or up.dim() != 2 or not down.shape[0]:
            raise BadRequest(f"{WEIGHTS}: {module} is no pair of matrices: save the adapter again")
        _check_numbers(f"{module}.lora_A", down)
        _check_numbers(f"{module}.lora_B", up)
        rank = _pattern(config, "rank_pattern", module, config.get("r", down.shape[0]))
        if rank != down.shape[0]:
            raise BadRequest(
                f"{ADAPTER_CONFIG}: r={rank!r}, but {module} has rank {down.shape[0]}: save the"
                " adapter and its config together"
            )
        scale = scale_of(config, module, down.shape[0])
        if not abs(scale) <= MOST_ALPHA:
            raise BadRequest(f"{ADAPTER_CONFIG}: lora_alpha={scale:g} times the rank is too large")
    for name, tensor in others.items():
        _check_numbers(name, tensor)


def _check_numbers(name: str, tensor: Any) -> None:
    if not tensor.is_floating_point():
        raise BadRequest(
            f"{WEIGHTS}: {name} is of type {tensor.dtype}: give floating-point weights"
        )
    # A type of 8 bits has no comparison of its own.
    largest = float(tensor.float().abs().max()) if tensor.numel() else 0.0
    if not largest <= MOST_WEIGHT:
        raise BadRequest(
            f"{WEIGHTS}: {name} holds {largest:g}, and no trained weight is over {MOST_WEIGHT:g}:"
            " the training went wrong (its loss has become NaN, say): train it again"
        )


def _pattern(config: Mapping[str, Any], field: str, module: str, default: Any) -> Any:
    """A module's own value in one of PEFT's patterns, which match the end of a name."""
    patterns = config.get(field) or {}
    if not isinstance(patterns, dict):
        raise BadRequest(f"{ADAPTER_CONFIG}: {field}={str(patterns)[:40]}: give an object")
    for pattern, value in patterns.items():
        try:
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                return value
        except re.error as error:
            raise BadRequest(
                f"{ADAPTER_CONFIG}: {field}: {pattern[:40]!r} is no pattern"
            ) from error
    return default


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """As PEFT scales: alpha over the rank, or its root."""
    alpha = _pattern(config, "alpha_pattern", module, config.get("lora_alpha", 8))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise BadRequest(f"{ADAPTER_CONFIG}: lora_alpha={str(alpha)[:40]}: give a number")
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)
