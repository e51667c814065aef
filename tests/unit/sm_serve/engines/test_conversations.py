"""Conversations as inputs of a classifier: rendered by the model's own template, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from sm_serve.engines.conversations import rendered
from sm_serve.errors import BadRequest

TEMPLATE = (
    "{% if tools %}<tools>{% endif %}{% for m in messages %}"
    "{% if m.role == 'spy' %}{{ raise_exception('no spies') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}"
)
ASKED = [{"role": "user", "content": "two?"}, {"role": "assistant", "content": "2"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATE)


def test_each_conversation_is_rendered_by_the_template(tokenizer: Any) -> None:
    prompts = rendered(tokenizer, [{"messages": ASKED}, {"messages": ASKED[:1], "tools": [{}]}])
    assert prompts == ["<user>two?<assistant>2", "<tools><user>two?"]
    assert rendered(tokenizer, ["a text", {"text": "a", "text_pair": "b"}]) is None


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([{"messages": ASKED}, "a text"], r"inputs\[1\].messages is missing"),
        ([{"messages": ASKED, "text_pair": "x"}], r"inputs\[0\].text_pair is unknown"),
        ([{"messages": "two?"}], "must be a list of objects"),
        ([{"messages": [{"role": "spy", "content": "x"}]}], "refuses them: no spies"),
        ([{"messages": ASKED, "chat_template_kwargs": 1}], "must be an object"),
    ],
)
def test_what_cannot_be_rendered_is_named(tokenizer: Any, inputs: list[Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        rendered(tokenizer, inputs)


def test_a_model_without_a_template_says_so() -> None:
    from types import SimpleNamespace

    with pytest.raises(BadRequest, match="has no chat template"):
        rendered(SimpleNamespace(chat_template=None), [{"messages": ASKED}])
