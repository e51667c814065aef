"""Which files of a Hub repository serving needs: one format of the weights, and what reads text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|h5|msgpack|ot|gguf|onnx|onnx_data|ckpt|tflite)")
SMALL = re.compile(r".+\.(json|txt|model|jinja|tiktoken|bpe)")
"""Configuration, tokenizers of every kind, chat templates."""
OTHER_INDEXES = re.compile(r"(tf_model\.h5|flax_model\.msgpack)\.index\.json")
MODULE_FOLDER = re.compile(r"\d+(_\w+)?")
"""Of sentence-transformers: `1_Pooling`, `2_Dense`."""
TEMPLATES = "additional_chat_templates"
SHARD = r"-\d{5}-of-\d{5}"
SETS = (
    r"model\.safetensors",
    rf"model{SHARD}\.safetensors",
    r"adapter_model\.safetensors",
    r"pytorch_model\.bin",
    rf"pytorch_model{SHARD}\.bin",
)
"""Whole sets of weights, in the order in which transformers looks for them: the first is taken."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The files to download; `pickled` where their weights are pickles."""

    names: tuple[str, ...]
    weights: int
    pickled: bool


def choose_files(names: Iterable[str], *, code: bool) -> Choice:
    """What serving needs of a repository: safetensors before pickles, never both.

    `code` takes the repository's Python files along, which run only where that is allowed.
    """
    folders: dict[str, list[str]] = {}
    for name in sorted(names):
        folder, _, file = name.rpartition("/")
        if folder in ("", TEMPLATES) or MODULE_FOLDER.fullmatch(folder):
            folders.setdefault(folder, []).append(file)
    chosen: list[str] = []
    weights, pickled = 0, False
    for folder, files in folders.items():
        matches = _choose_weights(files)
        weights += len(matches)
        pickled |= any(not name.endswith(".safetensors") for name in matches)
        rest = [name for name in files if _is_small(name, matches, code=code)]
        chosen += [f"{folder}/{name}" if folder else name for name in (*matches, *rest)]
    return Choice(tuple(chosen), weights, pickled)


def _choose_weights(files: Sequence[str]) -> list[str]:
    for pattern in SETS:
        if matches := [name for name in files if re.fullmatch(pattern, name)]:
            return matches
    return []


def _is_small(name: str, weights: Sequence[str], *, code: bool) -> bool:
    if WEIGHTS.fullmatch(name) or OTHER_INDEXES.fullmatch(name):
        return False
    if name.endswith(".index.json"):
        # The index of the set that was chosen: `model.safetensors.index.json`.
        stem, _, suffix = name.removesuffix(".index.json").rpartition(".")
        return any(re.fullmatch(rf"{re.escape(stem)}{SHARD}\.{suffix}", each) for each in weights)
    return SMALL.fullmatch(name) is not None or (code and name.endswith(".py"))
