"""Filling masks, in the result format of Hugging Face's fill-mask."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sm_serve.config import Settings
from sm_serve.engines import offload
from sm_serve.engines.encoders.base import EncoderEngine, Tokens
from sm_serve.engines.generators.scoring import LOGITS
from sm_serve.errors import BadInput, BadRequest, StartupError
from sm_serve.protocol import NO_MASK, Task
from sm_serve.schemas.encoder_fields import TOKENIZING
from sm_serve.schemas.fields import Values

logger = logging.getLogger(__name__)

TOP_K = 5
"""As of Hugging Face's pipeline."""
ANSWER_WORK = 200
"""What an answer costs, in characters of text: each is decoded by itself."""


@dataclass(frozen=True, slots=True)
class Masked:
    """A text's tokens, the places of its masks, and every token's probability in each of them."""

    ids: list[int]
    places: list[int]
    chances: Any


class MaskFillingEngine(EncoderEngine):
    """The most probable tokens in the place of each mask. Parameters: see encoder_fields.py."""

    task = Task.FILL_MASK

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        if tokenizer.mask_token_id is None:
            raise StartupError(
                "the tokenizer does not define a mask_token, by which fill-mask is asked: save it"
                " with one, or correct HF_TASK"
            )
        self.vocabulary = int(model.config.vocab_size)
        # A forward pass gives a value for every token of the vocabulary in every place.
        values = LOGITS["cpu" if model.device.type == "cpu" else "cuda"]
        tokens = min(settings.batch_tokens, max(values // self.vocabulary, 1))
        self._most = TOP_K * settings.max_items
        self._spare = offload.SpareTokenizer(tokenizer)
        super().__init__(model, tokenizer, replace(settings, batch_tokens=tokens))

    async def answer(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any], adapter: str | None
    ) -> list[Any]:
        """A list of tokens an input, or of several masks a list of such lists."""
        for index, text in enumerate(inputs):
            if not isinstance(text, str):
                raise BadInput(index, f" is a {type(text).__name__}: give a text")
        top_k = parameters.get("top_k") or TOP_K
        if top_k > self.vocabulary:
            raise BadRequest(f"parameters.top_k={top_k}: the model knows {self.vocabulary} tokens")
        targets = self._read_targets(parameters.get("targets"))
        top_k = min(top_k, len(targets)) if targets else top_k
        rows = await self.submit(inputs, read_tokenizing(parameters), adapter)
        count = sum(len(row.places) for row in rows) * top_k
        if count > self._most:
            raise BadRequest(
                f"{count} answers (masks times top_k) are over {self._most}: send fewer masks, or a"
                " smaller top_k",
                code="too_many_items",
            )
        return await offload.run(count * ANSWER_WORK, self._answers, rows, top_k, targets)

    def _read_targets(self, targets: str | list[str] | None) -> list[int]:
        """The tokens that may be answered; none where all may."""
        if not targets:
            return []
        allowed = dict.fromkeys(
            token
            for target in ([targets] if isinstance(targets, str) else targets)
            if (token := self._find_token(target)) is not None
        )
        if not allowed:
            raise BadRequest("parameters.targets: none of them is a token that the model knows")
        return list(allowed)

    def _find_token(self, target: str) -> int | None:
        """A word's token; of one that is no token the first that it has, as in the pipeline."""
        token = self.tokenizer.convert_tokens_to_ids(target)
        unknown = self.tokenizer.unk_token_id
        if token is not None and (token != unknown or target == self.tokenizer.unk_token):
            return int(token)
        with self._spare.use() as tokenizer:
            ids = tokenizer(target, add_special_tokens=False, max_length=1, truncation=True)
        pieces = ids["input_ids"]
        logger.info("a target is no token of the model: %s", "left out" if not pieces else "cut")
        return int(pieces[0]) if pieces else None

    def encode(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any]
    ) -> list[tuple[int, Tokens]]:
        """See EncoderEngine. A text without a mask is refused."""
        rows = super().encode(inputs, parameters)
        mask = self.tokenizer.mask_token_id
        for index, (_, tokens) in enumerate(rows):
            if mask not in tokens["input_ids"]:
                raise BadInput(
                    index,
                    f": no mask_token ({self.tokenizer.mask_token}) found on the input",
                    code=NO_MASK,
                )
        return rows

    def read(self, output: Any, tensors: dict[str, Any], items: list[Tokens]) -> list[Any]:
        """The masks of each item."""
        width = tensors["input_ids"].shape[1]
        left = self.tokenizer.padding_side == "left"
        masked = []
        for row, item in enumerate(items):
            ids = item["input_ids"]
            first = width - len(ids) if left else 0
            places = [i for i, token in enumerate(ids) if token == self.tokenizer.mask_token_id]
            logits = output.logits[row, [first + place for place in places]]
            masked.append(Masked(ids, places, logits.softmax(-1).float().cpu()))
        return masked

    def _answers(self, rows: list[Masked], top_k: int, targets: list[int]) -> list[Any]:
        return [self._answer(row, top_k, targets) for row in rows]

    def _answer(self, row: Masked, top_k: int, targets: list[int]) -> Any:
        chances = row.chances[:, targets] if targets else row.chances
        best = chances.topk(top_k)
        single = len(row.places) == 1
        filled = []
        for place, scores, choices in zip(
            row.places, best.values.tolist(), best.indices.tolist(), strict=True
        ):
            tokens = [targets[choice] for choice in choices] if targets else choices
            filled.append(
                [
                    self._filled(row.ids, place, token, score, single=single)
                    for token, score in zip(tokens, scores, strict=True)
                ]
            )
        return filled[0] if single else filled

    def _filled(
        self, ids: list[int], place: int, token: int, score: float, *, single: bool
    ) -> dict[str, Any]:
        whole = [*ids[:place], token, *ids[place + 1 :]]
        whole = [each for each in whole if each != self.tokenizer.pad_token_id]
        return {
            "score": score,
            "token": token,
            "token_str": self.tokenizer.decode([token]),
            # The other masks of a text are special tokens too, and shown.
            "sequence": self.tokenizer.decode(whole, skip_special_tokens=single),
        }


def read_tokenizing(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """How texts are cut: not at all, unless the parameters or their `tokenizer_kwargs` say so."""
    given = parameters.get("tokenizer_kwargs") or {}
    inner = Values(TOKENIZING, given, "parameters.tokenizer_kwargs.")
    names = ("truncation", "max_length")
    tokenizing = {"truncation": False, **{name: inner[name] for name in names if name in inner}}
    return tokenizing | {
        name: parameters[name] for name in names if parameters.get(name) is not None
    }
