"""The rows and settings that the method embedding takes, checked without torch."""

from __future__ import annotations

from typing import Any

import pytest

from sm_train.config import parse_config
from sm_train.errors import UserError
from sm_train.methods.embedding import check_data, clean_row
from sm_train.modelling.embedding import kind
from sm_train.rows import Data

CONFIG = parse_config({"method": "embedding"})


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"anchor": "a", "positive": "b", "id": 1}, "pairs"),
        ({"anchor": "a", "positive": "b", "negative_1": "c", "negative_2": "d"}, "triplets"),
        ({"sentence1": "a", "sentence2": "b", "score": "0.5"}, "scored pairs"),
        ({"sentence1": "a", "sentence2": "b", "label": 1.0}, "labelled pairs"),
    ],
)
def test_formats(row: dict[str, Any], form: str) -> None:
    assert kind(clean_row(row, CONFIG)) == form


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"anchor": "a", "positive": " "}, "no text in column positive"),
        ({"anchor": "a", "positive": "b", "negative": None}, "no text in column negative"),
        ({"sentence1": "a", "sentence2": "b", "label": 2}, "neither a number in score nor"),
        ({"sentence1": "a", "sentence2": "b", "score": "high"}, "could not convert"),
    ],
)
def test_bad_rows(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        clean_row(row, CONFIG)


def test_settings_that_cannot_work_name_their_fix() -> None:
    pair = {"anchor": "a", "positive": "b"}
    with pytest.raises(UserError, match="loss = 'CoSENTLoss': does not take pairs"):
        config = parse_config({"method": "embedding", "loss": "CoSENTLoss"})
        check_data(config, Data([pair], None, None))
    with pytest.raises(UserError, match="takes one negative a row, and the rows have 2"):
        config = parse_config({"method": "embedding", "loss": "TripletLoss"})
        check_data(config, Data([{**pair, "negative_1": "c", "negative_2": "d"}], None, None))
    with pytest.raises(UserError, match="channels: mix formats"):
        check_data(CONFIG, Data([pair], [{**pair, "negative": "c"}], None))
    with pytest.raises(UserError, match="use_peft = True: is not supported"):
        parse_config({"method": "embedding", "use_peft": True})
    with pytest.raises(UserError, match="loss = 'Cosent': expected one of"):
        parse_config({"method": "embedding", "loss": "Cosent"})
