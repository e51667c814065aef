"""The text of single tokens, and where in a text each of its tokens begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sm_serve.engines.generators.text import IncrementalDecoder


class TokenTexts:
    """The tokens of one tokenizer as clients read them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special = frozenset(tokenizer.all_special_ids)
        self._known: dict[int, str] = {}
        # Many tokenizers drop the blank before a text's first token: each is read behind another.
        self._before: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._prefix = self._decode(self._before)

    def name(self, token: int) -> str:
        """A token's text inside of a sentence; a replacement character for a part of one."""
        if token not in self._known:
            text = self._decode([*self._before, token])
            if token in self.special or not text.startswith(self._prefix):
                self._known[token] = self._decode([token])
            else:
                self._known[token] = text[len(self._prefix) :]
        return self._known[token]

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens)) if tokens else ""

    def offsets(self, prompt: Any, tokens: Sequence[int]) -> list[int]:
        """The character at which each token begins, in the prompt or in what `read` gives."""
        if isinstance(prompt, str) and getattr(self._tokenizer, "is_fast", False):
            spans = self._tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
            if len(spans) == len(tokens):
                return _begins(spans)
        decoder, place, offsets = IncrementalDecoder(self._tokenizer), 0, []
        for token in tokens:
            offsets.append(place)
            place += len(decoder.push([token]))
        return offsets

    def read(self, tokens: Sequence[int]) -> str:
        """The text of a sequence, without special tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))


def _begins(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Where tokens begin, the blank before a word being a part of its token.

    A tokenizer may leave that blank out of the span; special tokens have an empty one.
    """
    begins, past = [], 0
    for start, end in spans:
        begins.append(past if start == end else min(start, past))
        past = max(past, end)
    return begins
