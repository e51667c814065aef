"""Sentence embeddings: pooled hidden states, as the artefact's sentence-transformers files say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines.encoders.base import EncoderEngine, Tokens
from sm_serve.engines.encoders.sentence import Recipe, begin, read_recipe
from sm_serve.errors import BadInput, BadRequest
from sm_serve.protocol import ADAPTER, Task

IDS = "ids"
"""For `encode`: the inputs are lists of token ids."""


class EmbeddingEngine(EncoderEngine):
    """A vector an input. Parameters: normalize, prompt_name, and those of the tokenizer."""

    task = Task.EMBEDDING

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model, tokenizer, settings)
        self.own_profile: Recipe = Recipe()

    def profile_of(self, artefact: Artefact) -> Recipe:
        """See EncoderEngine."""
        device = self.model.device
        base = read_recipe(artefact.base, Recipe(), device)
        recipe = (
            read_recipe(artefact.path, base, device) if artefact.path != artefact.base else base
        )
        self.max_length = min(self.max_length, recipe.max_length or self.max_length)
        return recipe

    def read_profile(self, path: Path) -> Recipe:
        """See EncoderEngine."""
        return read_recipe(path, self.own_profile, self.model.device)

    async def answer(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any], adapter: str | None
    ) -> list[Any]:
        """Vectors; with count_tokens pairs of vector and number of tokens."""
        recipe: Recipe = self.profile(adapter)
        rest = {name: value for name, value in parameters.items() if name != "prompt_name"}
        if rest.get("truncate") is not None:
            rest["truncation"] = rest["truncate"]
        if inputs and isinstance(inputs[0], list):
            self._check_ids(inputs)
            rest[IDS] = True
        else:
            inputs = self._begun(inputs, parameters, recipe)
        rows = await self.submit(inputs, rest, adapter)
        if not parameters.get("normalize", recipe.normalize):
            rows = [([x * norm for x in vector], norm, count) for vector, norm, count in rows]
        if parameters.get("count_tokens"):
            return [(vector, count) for vector, _, count in rows]
        return [vector for vector, _, _ in rows]

    def _check_ids(self, inputs: Sequence[Any]) -> None:
        """BadRequest for what the model cannot read."""
        most = int(self.model.get_input_embeddings().num_embeddings)
        for index, ids in enumerate(inputs):
            if not isinstance(ids, list) or not 0 < len(ids) <= self.max_length:
                raise BadInput(
                    index, f": give as every other input 1 to {self.max_length} token ids"
                )
            for token in ids:
                if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < most:
                    raise BadInput(
                        index,
                        f" holds {str(token)[:20]}, which is no token id from 0 to {most - 1}",
                    )

    def encode(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any]
    ) -> list[tuple[int, Tokens]]:
        """Token ids are read as they are, with no special tokens added."""
        if not parameters.get(IDS):
            return super().encode(inputs, parameters)
        return [
            (len(ids), {name: [0] * len(ids) for name in self._columns} | {"input_ids": ids})
            for ids in inputs
        ]

    @staticmethod
    def _begun(
        inputs: Sequence[Any], parameters: Mapping[str, Any], recipe: Recipe
    ) -> Sequence[Any]:
        name = parameters.get("prompt_name")
        if name is not None and (not isinstance(name, str) or name not in recipe.prompts):
            known = ", ".join(recipe.prompts) or "none"
            raise BadRequest(f"parameters.prompt_name={name!r}: the model's prompts are {known}")
        return begin(inputs, recipe, name)

    def read(self, output: Any, tensors: dict[str, Any], items: list[Tokens]) -> list[Any]:
        """For each item the vector of length one, its former length, and its tokens."""
        recipe: Recipe = self.profile(items[0][ADAPTER])
        vectors = recipe.vectors(output.last_hidden_state.float(), tensors["attention_mask"])
        norms = vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        counts = [len(item["input_ids"]) for item in items]
        return list(
            zip((vectors / norms).tolist(), norms.squeeze(-1).tolist(), counts, strict=True)
        )
