"""Thoughts are told apart by what is loaded: of every template that shows them, in any pieces."""

import itertools
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sm_serve.engines.generators.answer_form import choose_form
from sm_serve.protocol import Delta, GenerationRequest
from sm_serve.schemas.message_reader import MessageReader

pytestmark = pytest.mark.slow

TEMPLATES = Path(find_spec("trl").submodule_search_locations[0], "chat_templates")
ASKED = [{"role": "user", "content": "so"}]
THOUGHT = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), "I think.")
ANSWER = {"role": "assistant", "content": "Fine, then.", **THOUGHT}


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({t: i for i, t in enumerate(["<s>", "</s>", *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def answers(tokenizer):
    """Of each template that shows thoughts: how the prompt begins an answer, and an answer."""
    texts = {}
    for path in sorted(TEMPLATES.glob("*.jinja")):
        if path.stem.endswith("_training"):
            continue
        tokenizer.chat_template = path.read_text()
        try:
            prompt, whole = (
                tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=begin)
                for turns, begin in ((ASKED, True), ([*ASKED, ANSWER], False))
            )
        except Exception:  # templates for images want no text
            continue
        if "I think." in whole and whole.startswith(prompt):
            form = choose_form("auto", tokenizer.chat_template, tokenizer)
            request = GenerationRequest(ASKED)
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            answer = whole[len(prompt) : whole.rindex("Fine, then.") + len("Fine, then.")]
            texts[path.stem] = (form, form and form.opened(ids, request), answer)
    return texts


def test_templates_of_each_kind_are_among_them(answers):
    kinds = {form and form.unfinished for form, _, _ in answers.values()}
    assert {"</think>", "<channel|>", "<|channel|>final<|message|>", " to=user<|message|>"} == kinds
    assert len(answers) >= 12


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cuts=st.lists(st.integers(0, 120), max_size=40))
def test_a_thought_and_an_answer_of_each_template(answers, cuts):
    for name, (form, opened, text) in answers.items():
        reader, thought, answer = MessageReader(), "", ""
        places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        for number, (begin, end) in enumerate(itertools.pairwise(places), start=2):
            reason = "stop" if number == len(places) else None
            delta = Delta(text[begin:end], finish_reason=reason, opened=opened, tags=form.pair)
            piece = reader.read(delta)
            thought, answer = thought + piece.thought, answer + piece.text
        assert (name, thought, answer) == (name, "I think.", "Fine, then.")
