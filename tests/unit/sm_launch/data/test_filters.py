"""Language, tokens, stems and balance: what goes, why, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES

from sm_launch.data.steps import _LEMMA_CODES, build
from sm_launch.errors import UserInputError

SPLIT = {"train": 0.6, "validation": 0.2, "test": 0.2}
ENGLISH = "The battery of this product lasts for a very long time, and we like it"
GERMAN = "Der Akku dieses Geräts hält sehr lange, und wir sind damit zufrieden"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word-level tokenizer that frames every text by two special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    directory = tmp_path_factory.mktemp("model")
    made.save(str(directory / "tokenizer.json"))
    return directory


def rows(write, texts: list[str]) -> Path:
    lines = [f'"{text}",{"ab"[n % 2]}' for n, text in enumerate(texts)]
    return write("rows.csv", "\n".join(["text,label", *lines]) + "\n")


@pytest.mark.slow
def test_other_languages_go_and_short_texts_stay(write, run) -> None:
    texts = [f"{ENGLISH} {n}" for n in range(20)] + [f"{GERMAN} {n}" for n in range(4)] + ["gut 1"]
    done = run(input=str(rows(write, texts)), language={"allowed": ["en"]}, split=SPLIT)
    assert done.report.rejected == {"other_language": 4}
    assert "looks like de" in done.rejected[0]["detail"]
    with pytest.raises(UserInputError, match="no language that can be recognised"):
        run(input=str(rows(write, texts)), language={"allowed": ["klingon"]})


def test_tokens_are_counted_with_the_special_ones(write, run, tokenizer: Path) -> None:
    texts = [f"one two {n}" for n in range(20)] + ["one two three four 20", "one"]
    source = str(rows(write, texts))
    limits = {"tokenizer": str(tokenizer), "min": 4, "max": 5}
    done = run(input=source, tokens=limits, split=SPLIT)
    assert done.report.rejected == {"too_many_tokens": 1, "too_few_tokens": 1}
    assert "7 of at most 5 tokens" in done.rejected[0]["detail"]
    cut = run(input=source, tokens={**limits, "min": 0, "too_long": "truncate"}, split=SPLIT)
    assert not cut.report.rejected
    assert "one two three" in {row["text"] for row in cut.all_rows}
    with pytest.raises(UserInputError, match=r"no tokenizer\.json"):
        run(input=source, tokens={"tokenizer": "/nowhere", "max": 9})


def test_stems(write, run) -> None:
    source = rows(write, [f"Running films lovely {n}" for n in range(20)])
    done = run(input=str(source), steps=["white_space", "stem"], split=SPLIT)
    assert all(row["text"].startswith("run film love") for row in done.all_rows)


@pytest.mark.slow  # loads two dictionaries
def test_lemmas(write, run) -> None:
    source = rows(write, [f"The mice were RUNNING better {n}" for n in range(20)])
    done = run(input=str(source), steps=["white_space", "lemmatize"], split=SPLIT)
    assert all(row["text"].startswith("the mouse be run good") for row in done.all_rows)
    german = build(["lemmatize"], lemma_language="german")
    assert german("Die Häuser gingen") == "der haus gehen"
    # Loading every dictionary takes a minute; that it is there is enough.
    assert {*_LEMMA_CODES.values()} <= SUPPORTED_LANGUAGES
    with pytest.raises(ValueError, match="lemma_language"):
        run(input=str(source), lemma_language="klingon")


def test_balance_touches_only_training_rows(write, run) -> None:
    lines = [f"text {n},{'a' if n % 10 else 'b'}" for n in range(200)]
    source = write("rows.csv", "\n".join(["text,label", *lines]) + "\n")
    free = run(input=str(source)).report.splits
    done = run(input=str(source), balance={"ratio": 2})
    train = done.report.splits["train"].labels
    assert train["b"] == free["train"].labels["b"]
    assert train["a"] == 2 * train["b"]
    assert done.report.splits["test"].labels == free["test"].labels
    assert done.report.rejected == {"surplus": free["train"].labels["a"] - train["a"]}
    capped = run(input=str(source), balance={"most_per_label": 5}).report.splits["train"]
    assert capped.labels == {"a": 5, "b": 5}
    with pytest.raises(ValueError, match="most_per_label or ratio"):
        run(input=str(source), balance={})
