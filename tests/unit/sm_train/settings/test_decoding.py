"""One value in every encoding that an SDK or a person gives it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_train.settings.decoding import decode

NUMBER = {"type": "number"}
INTEGER = {"type": "integer"}
BOOLEAN = {"type": "boolean"}
TEXT = {"type": "string"}
LIST = {"type": ["array", "null"], "items": {"type": "string"}}
CHOICE = {"type": "string", "enum": ["no", "steps", "epoch"]}


@pytest.mark.parametrize(
    ("raw", "schema", "value"),
    [
        ("3", INTEGER, 3),
        ('"3"', INTEGER, 3),  # SDK v2 quotes
        ('"\\"3\\""', INTEGER, 3),
        (3, INTEGER, 3),
        ("3.0", INTEGER, 3),
        ("2e-5", NUMBER, 2e-5),
        ("True", BOOLEAN, True),
        ('"false"', BOOLEAN, False),
        ("no", BOOLEAN, False),
        (True, BOOLEAN, True),
        ("1", TEXT, "1"),  # a column may be called 1
        ('"text"', TEXT, "text"),
        ("it's", TEXT, "it's"),
        ('["a", "b"]', LIST, ["a", "b"]),
        ("['a', 'b']", LIST, ["a", "b"]),
        ("a, b", LIST, ["a", "b"]),
        ("[0, 1]", LIST, ["0", "1"]),
        ('"[\\"a\\"]"', LIST, ["a"]),
        ("null", LIST, None),
        ("None", LIST, None),
        ("Epoch", CHOICE, "epoch"),
        (False, CHOICE, "no"),  # YAML's bare no
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("all-linear", {"type": ["string", "array"]}, "all-linear"),
    ],
)
def test_reads_the_value_that_was_meant(raw: Any, schema: dict[str, Any], value: Any) -> None:
    decoded = decode(raw, schema)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    ("raw", "schema", "reason"),
    [
        ("many", INTEGER, "a whole number"),
        ("1.5", INTEGER, "a whole number"),
        ("nan", NUMBER, "a number"),
        ("maybe", BOOLEAN, "true or false"),
        ("[1", {"type": "object"}, "a JSON object"),
        ("often", CHOICE, "one of no, steps, epoch"),
        ("0", {"type": "number", "exclusiveMinimum": 0}, "greater than 0"),
        ("1.5", {"type": "number", "maximum": 1}, "at most 1"),
    ],
)
def test_says_what_it_expected(raw: Any, schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(raw, schema)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    st.sampled_from([NUMBER, INTEGER, BOOLEAN, TEXT, LIST, CHOICE, {"type": "object"}]),
)
def test_any_value_is_read_or_refused(raw: Any, schema: dict[str, Any]) -> None:
    for form in (raw, json.dumps(raw), str(raw)):
        try:
            decode(form, schema)
        except (ValueError, TypeError):
            continue


@given(st.text())
def test_quoted_text_is_the_text(text: str) -> None:
    once = decode(json.dumps(text), TEXT)
    # Text that is itself a quoted string is what double quoting looks like.
    assert once == text or text.strip()[:1] in {'"', "'"}
