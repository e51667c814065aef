"""Every template that can be named ends an answer with one token, or is refused with the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sm_train.config import parse_config
from sm_train.contract import Paths
from sm_train.errors import UserError
from sm_train.job import Job
from sm_train.modelling.chat_templates import settle_chat_template, template_names, template_text
from sm_train.modelling.end_of_turn import base_stops, settle_end_of_turn
from sm_train.platform.stopping import StopRequest
from sm_train.rows import Data

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "fine"}]
REFUSED = {
    "glm4moe": "is no mark: the model would never learn to stop",
    "idefics3": "leaves out the text of the assistant's answers",
    "smolvlm": "leaves out the text of the assistant's answers",
}


def bytes_tokenizer(*known: str) -> Any:
    """A base model's: every text is its bytes, but for the tokens named."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({t: i for i, t in enumerate(["<s>", "</s>", *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(known)})
    return tokenizer


def job(template: str, source: Path, **settings: Any) -> Job:
    config = parse_config({"method": "sft", "chat_template": template, **settings})
    return Job(Paths(source), config, Data([], None, None, {}), str(source), StopRequest(), 0.0)


def settle(made: Job, tokenizer: Any) -> None:
    settle_end_of_turn(made, tokenizer, base_stops(made, tokenizer.eos_token_id), CHAT)


# llava_next renders no content that is text: the look at the first rows refuses it before.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in template_names() if name != "llava_next"])
def test_the_end_of_turn_becomes_one_token_that_stops(name: str, tmp_path: Path) -> None:
    tokenizer = bytes_tokenizer()
    before = len(tokenizer)
    tokenizer.chat_template = template_text(Paths(tmp_path), name)
    made = job(name, tmp_path)
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            settle(made, tokenizer)
        return
    settle(made, tokenizer)
    text = tokenizer.apply_chat_template(CHAT, tokenize=False)
    ids = tokenizer(text.rsplit("fine", 1)[1].strip(), add_special_tokens=False)["input_ids"]
    assert ids[0] == tokenizer.eos_token_id
    known = ids[0] < before  # where the template ends with the base model's own end
    assert made.new_tokens.ids == ([] if known else [ids[0]])
    assert tokenizer.decode([ids[0]], skip_special_tokens=True) == ""


def test_a_known_token_is_taught_but_not_added(tmp_path: Path) -> None:
    tokenizer = bytes_tokenizer("<|im_end|>")
    before = len(tokenizer)
    tokenizer.chat_template = template_text(Paths(tmp_path), "chatml")
    made = job("chatml", tmp_path)
    settle(made, tokenizer)
    assert len(tokenizer) == before
    assert made.new_tokens.ids == [before - 1]


def test_a_base_that_stops_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 258]}')
    tokenizer = bytes_tokenizer("<end_of_turn>")
    tokenizer.chat_template = template_text(Paths(tmp_path), "gemma")
    made = job("gemma", tmp_path)
    settle(made, tokenizer)
    assert tokenizer.eos_token == "</s>"
    assert made.new_tokens.ids == []


def test_methods_that_teach_no_new_token_are_refused(tmp_path: Path) -> None:
    tokenizer = bytes_tokenizer()
    tokenizer.chat_template = template_text(Paths(tmp_path), "llama3")
    made = job("llama3", tmp_path, method="dpo")
    with pytest.raises(UserError, match="dpo does not teach a model a new token"):
        settle(made, tokenizer)
    known = bytes_tokenizer("<|eot_id|>")
    known.chat_template = tokenizer.chat_template
    settle(made, known)
    assert known.eos_token == "<|eot_id|>"


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ({"method": "sft"}, {"text": "w"}),
        ({"method": "sft"}, {"prompt": "w", "completion": "w"}),
        ({"method": "dpo"}, {"prompt": "w", "chosen": "w", "rejected": "w"}),
    ],
)
def test_text_is_refused_that_nothing_would_end(
    settings: dict[str, Any], row: dict[str, Any], tmp_path: Path
) -> None:
    tokenizer = bytes_tokenizer()
    data = Data([row], None, None, {})

    def settled(**more: Any) -> None:
        config = parse_config({**settings, **more})
        settle_chat_template(Job(Paths(tmp_path), config, data, "", StopRequest(), 0.0), tokenizer)

    settled()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="names no end of sequence"):
        settled()
    if settings["method"] == "sft":
        settled(eos_token="</s>")
