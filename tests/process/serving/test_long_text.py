"""Long texts: cut before the tokenizer, to the same tokens."""

import pytest
import serving_models as models

from sm_serve.engines.encoders.long_text import head, surely_over, tokenize_heads

pytestmark = pytest.mark.slow  # imports transformers

TEXTS = {
    "short": "the movie was good",
    "words": "the movie was good, bad and great! " * 400,
    "no blanks": "moviegoodbad" * 900,
    "blanks": " " * 9000 + "good bad",
    "one long word first": "a" * 9000 + " good bad",
    "not ASCII": "très bon — 映画は最高 🎬 " * 500,
}


@pytest.fixture(scope="module", params=[True, False], ids=["pieces", "bytes"])
def tokenizer(request, tmp_path_factory):
    """Of BERT's kind, where an endless word is one token; and of bytes."""
    if not request.param:
        return models.tokenizer(tmp_path_factory.mktemp("bytes"), bert=True)
    from tokenizers import BertWordPieceTokenizer
    from transformers import PreTrainedTokenizerFast

    raw = BertWordPieceTokenizer()
    raw.train_from_iterator([models.VOCABULARY] * 4, vocab_size=200, show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw._tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=64
    )


@pytest.mark.parametrize("length", [8, 64])
def test_a_head_gives_the_tokens_of_the_whole(tokenizer, length):
    texts = list(TEXTS.values())
    whole = tokenizer(texts, truncation=True, max_length=length)
    cut = tokenize_heads(tokenizer, texts, length)
    assert dict(cut) == dict(whole)


def test_little_is_left_of_a_long_text():
    assert len(head(TEXTS["words"], 8)) <= 8 * 32
    assert head(TEXTS["short"], 8) == TEXTS["short"]


def test_a_prompt_is_over_the_context_only_where_it_is(tokenizer):
    for text in TEXTS.values():
        count = len(tokenizer(text)["input_ids"])
        assert not surely_over(tokenizer, text, count)
    assert surely_over(tokenizer, "good " * 100_000, 512)
    assert not surely_over(tokenizer, "good " * 600, 512)  # not long enough to be sure of
