"""Texts far longer than a model reads: what of them need not be tokenized.

A tokenizer takes about a second and a hundred megabytes for each megabyte of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CHARACTERS_A_TOKEN = 32
"""Hardly any text has more; where one has, all of it is tokenized."""
MARGIN = 8
"""Tokens at a cut's place that may be others than the whole text's."""
BLANKS = (" ", "\n", "\t", "\r")


def head(text: str, tokens: int) -> str:
    """The whole words at the beginning of a text that surely fill `tokens`, if it is so long."""
    most = tokens * CHARACTERS_A_TOKEN
    if len(text) <= 2 * most:
        return text
    place = max(text.rfind(blank, 0, most) for blank in BLANKS)
    return text[:place] if place > 0 else text


def tokenize_heads(tokenizer: Any, texts: Sequence[str], length: int, **options: Any) -> Any:
    """The texts' tokens cut to `length`, as the tokenizer cuts them."""
    if tokenizer.truncation_side != "right":
        return tokenizer(list(texts), truncation=True, max_length=length, **options)
    heads = [head(text, length) for text in texts]
    batch = tokenizer(heads, truncation=True, max_length=length, **options)
    unfilled = [
        index
        for index, text in enumerate(texts)
        if len(heads[index]) < len(text) and len(batch["input_ids"][index]) < length
    ]
    for index in unfilled:
        whole = tokenizer([texts[index]], truncation=True, max_length=length, **options)
        for name in batch:
            batch[name][index] = whole[name][0]
    return batch


def surely_over(tokenizer: Any, text: str, tokens: int) -> bool:
    """Whether the beginning of a long text has more than `tokens` tokens by itself."""
    begin = head(text, tokens)
    if begin is text and len(text) > 2 * tokens * CHARACTERS_A_TOKEN and splits_words(tokenizer):
        begin = text[: tokens * CHARACTERS_A_TOKEN]
    return len(begin) < len(text) and len(tokenizer(begin)["input_ids"]) > tokens + MARGIN


def splits_words(tokenizer: Any) -> bool:
    """Whether a word without end is many tokens. To some tokenizers it is one, the unknown one."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    fused = getattr(model, "fuse_unk", False) and not getattr(model, "byte_fallback", False)
    return type(model).__name__ == "BPE" and not fused


def tokenize_tail(tokenizer: Any, text: str, tokens: int, **options: Any) -> list[int]:
    """The last `tokens` tokens of a text, of which not much more than they is tokenized."""
    begin = max(len(text) - tokens * CHARACTERS_A_TOKEN, 0)
    if begin > len(text) // 2:
        places = [text.find(blank, begin) for blank in BLANKS]
        inside = begin if splits_words(tokenizer) else 0
        begin = min([place for place in places if place > 0], default=inside)
        ids: list[int] = tokenizer(text[begin:], **options)["input_ids"]
        if len(ids) > tokens + MARGIN:
            return ids[-tokens:]
    ids = tokenizer(text, **options)["input_ids"]
    return ids[-tokens:]
