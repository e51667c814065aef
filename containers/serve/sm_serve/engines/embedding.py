"""Sentence embeddings: pooled hidden states, as the artefact's sentence-transformers files say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sm_serve.artefact import Artefact, read_json
from sm_serve.config import Settings
from sm_serve.engines import loading
from sm_serve.engines.encoder import TOKENIZING, EncoderEngine, Tokens
from sm_serve.engines.protocol import Task
from sm_serve.errors import BadRequest, StartupError

PARAMETERS = {"normalize", "count_tokens", *TOKENIZING}
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
NAMED_POOLINGS = {"cls": "cls", "mean": "mean", "lasttoken": "last"}


class EmbeddingEngine(EncoderEngine):
    """A vector an input. Parameters: normalize, truncation."""

    task = Task.EMBEDDING
    pooling = "mean"
    normalize = True

    @classmethod
    def load(cls, artefact: Artefact, settings: Settings) -> EmbeddingEngine:
        """Loads the model, and its pooling where the artefact names one."""
        tokenizer = loading.load_tokenizer(artefact, settings)
        engine = cls(loading.load_model(artefact, settings), tokenizer, settings)
        engine.pooling = read_pooling(artefact.path)
        engine.normalize = reads_normalize(artefact.path)
        return engine

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """Vectors; with count_tokens pairs of vector and number of tokens."""
        unknown = sorted(set(parameters) - PARAMETERS)
        if unknown:
            raise BadRequest(f"parameters.{unknown[0]} is unknown to feature-extraction")
        rows = await super().predict(inputs, parameters)
        if not parameters.get("normalize", self.normalize):
            rows = [([x * norm for x in vector], norm, count) for vector, norm, count in rows]
        if parameters.get("count_tokens"):
            return [(vector, count) for vector, _, count in rows]
        return [vector for vector, _, _ in rows]

    def read(self, output: Any, tensors: dict[str, Any], items: list[Tokens]) -> list[Any]:
        """For each item the vector of length one, its former length, and its tokens."""
        hidden = output.last_hidden_state.float()
        mask = tensors["attention_mask"].unsqueeze(-1)
        if self.pooling == "mean":
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        else:
            positions = mask.squeeze(-1).cumsum(-1)
            wanted = 1 if self.pooling == "cls" else positions[:, -1:]
            chosen = ((positions == wanted) & (mask.squeeze(-1) == 1)).int().argmax(-1)
            pooled = hidden[range(len(items)), chosen]
        norms = pooled.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        counts = [len(item["input_ids"]) for item in items]
        return list(zip((pooled / norms).tolist(), norms.squeeze(-1).tolist(), counts, strict=True))


def read_pooling(path: Path) -> str:
    """The pooling of a sentence-transformers artefact; mean where nothing is said."""
    config = path / "1_Pooling" / "config.json"
    if not config.is_file():
        return "mean"
    values = read_json(config)
    named = str(values.get("pooling_mode"))  # as sentence-transformers writes it from 6.0 on
    if named in NAMED_POOLINGS:
        return NAMED_POOLINGS[named]
    for key, pooling in POOLINGS.items():
        if values.get(key):
            return pooling
    raise StartupError(f"{config}: only cls, mean and last-token pooling are served")


def reads_normalize(path: Path) -> bool:
    """Whether the artefact normalizes: as its module list says, else yes."""
    modules = path / "modules.json"
    if not modules.is_file():
        return True
    try:
        listed = json.loads(modules.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StartupError(f"{modules} is not valid JSON: {error}") from error
    return any(str(module.get("type", "")).endswith("Normalize") for module in listed)
