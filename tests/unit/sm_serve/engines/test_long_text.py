"""Texts far longer than a model reads: of any kind, only a part of them is tokenized."""

from types import SimpleNamespace

import pytest

from sm_serve.engines.encoders.long_text import (
    CHARACTERS_A_TOKEN,
    MARGIN,
    surely_over,
    tokenize_tail,
)

TOKENS = 100


class BPE:
    """Its model splits every word."""


class Bytes:
    """A tokenizer of a token a character, which remembers how much it was given."""

    most = 0
    backend_tokenizer = SimpleNamespace(model=BPE())

    def __call__(self, text, **options):
        self.most = max(self.most, len(text))
        return {"input_ids": [ord(sign) for sign in text]}


@pytest.mark.parametrize("piece", ["a", "ab ", "字", "a\n", " "])
def test_far_too_long_texts_of_every_kind_are_found_out_by_their_beginning(piece):
    tokenizer, text = Bytes(), piece * 300_000
    assert surely_over(tokenizer, text, TOKENS)
    assert tokenizer.most <= TOKENS * CHARACTERS_A_TOKEN
    assert not surely_over(tokenizer, piece * 20, TOKENS)


@pytest.mark.parametrize("piece", ["a", "ab ", "字", "a\n", "xyz"])
@pytest.mark.parametrize("count", [1, 30, 5000, 300_000])
def test_the_last_tokens_are_those_of_the_whole_text(piece, count):
    tokenizer, text = Bytes(), piece * count
    assert tokenize_tail(tokenizer, text, TOKENS) == [ord(sign) for sign in text][-TOKENS:]
    assert tokenizer.most <= max(2 * TOKENS * CHARACTERS_A_TOKEN, TOKENS + MARGIN)
