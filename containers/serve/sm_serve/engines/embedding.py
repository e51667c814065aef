"""Sentence embeddings: pooled hidden states, as the artefact's sentence-transformers files say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_serve.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines.encoder import TOKENIZING, EncoderEngine, Tokens
from sm_serve.engines.protocol import ADAPTER, Task
from sm_serve.errors import BadRequest, StartupError
from sm_serve.model_files import read_json

PARAMETERS = {"normalize", "count_tokens", *TOKENIZING}
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
NAMED_POOLINGS = {"cls": "cls", "mean": "mean", "lasttoken": "last"}


@dataclass(frozen=True, slots=True)
class Pooling:
    """How hidden states become a vector."""

    mode: str = "mean"
    normalize: bool = True


class EmbeddingEngine(EncoderEngine):
    """A vector an input. Parameters: normalize, truncation."""

    task = Task.EMBEDDING

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model, tokenizer, settings)
        self.own_profile: Pooling = Pooling()

    def profile_of(self, artefact: Artefact) -> Pooling:
        """See EncoderEngine."""
        return read_files(artefact.path, read_files(artefact.base, Pooling()))

    def read_profile(self, path: Path) -> Pooling:
        """See EncoderEngine."""
        return read_files(path, self.own_profile)

    async def answer(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any], adapter: str | None
    ) -> list[Any]:
        """Vectors; with count_tokens pairs of vector and number of tokens."""
        unknown = sorted(set(parameters) - PARAMETERS)
        if unknown:
            raise BadRequest(f"parameters.{unknown[0]} is unknown to feature-extraction")
        pooling: Pooling = self.profile(adapter)
        rows = await self.submit(inputs, parameters, adapter)
        if not parameters.get("normalize", pooling.normalize):
            rows = [([x * norm for x in vector], norm, count) for vector, norm, count in rows]
        if parameters.get("count_tokens"):
            return [(vector, count) for vector, _, count in rows]
        return [vector for vector, _, _ in rows]

    def read(self, output: Any, tensors: dict[str, Any], items: list[Tokens]) -> list[Any]:
        """For each item the vector of length one, its former length, and its tokens."""
        hidden = output.last_hidden_state.float()
        mask = tensors["attention_mask"].unsqueeze(-1)
        mode = self.profile(items[0][ADAPTER]).mode
        if mode == "mean":
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        else:
            positions = mask.squeeze(-1).cumsum(-1)
            wanted = 1 if mode == "cls" else positions[:, -1:]
            chosen = ((positions == wanted) & (mask.squeeze(-1) == 1)).int().argmax(-1)
            pooled = hidden[range(len(items)), chosen]
        norms = pooled.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        counts = [len(item["input_ids"]) for item in items]
        return list(zip((pooled / norms).tolist(), norms.squeeze(-1).tolist(), counts, strict=True))


def read_files(path: Path, default: Pooling) -> Pooling:
    """What a sentence-transformers directory says; the default where it says nothing."""
    return Pooling(read_pooling(path, default.mode), reads_normalize(path, default.normalize))


def read_pooling(path: Path, default: str) -> str:
    """The pooling that its files name. StartupError for one that is not served."""
    config = path / "1_Pooling" / "config.json"
    if not config.is_file():
        return default
    values = read_json(config)
    named = str(values.get("pooling_mode"))  # as sentence-transformers writes it from 6.0 on
    if named in NAMED_POOLINGS:
        return NAMED_POOLINGS[named]
    for key, pooling in POOLINGS.items():
        if values.get(key):
            return pooling
    raise StartupError(f"{config}: only cls, mean and last-token pooling are served")


def reads_normalize(path: Path, default: bool) -> bool:
    """Whether vectors are normalized: as its module list says."""
    modules = path / "modules.json"
    if not modules.is_file():
        return default
    try:
        listed = json.loads(modules.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StartupError(f"{modules} is not valid JSON: {error}") from error
    return any(str(module.get("type", "")).endswith("Normalize") for module in listed)
