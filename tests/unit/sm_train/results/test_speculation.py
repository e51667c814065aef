"""Settings by which vLLM guesses ahead: written beside the model, by a draft that can."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sm_train.contract import Paths
from sm_train.errors import UserError
from sm_train.results.speculation import Speculation, draft_for

LLAMA = {"architectures": ["LlamaForCausalLM"], "vocab_size": 5}
TOKENS = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "</s>"}]}
Channel = Callable[..., Path]


def described(channel: Channel, name: str, config: dict[str, Any], tokens: dict[str, Any]) -> Path:
    folder = channel(name, json.dumps(config), "config.json")
    channel(name, json.dumps(tokens), "tokenizer.json")
    channel(name, "", "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            Speculation("ngram", 5, 4),
            {"method": "ngram", "prompt_lookup_max": 4, "num_speculative_tokens": 5},
        ),
        (
            Speculation("draft", 3, 4, "draft-source"),
            {"method": "draft_model", "model": "draft", "num_speculative_tokens": 3},
        ),
    ],
)
def test_settings_lie_beside_the_model_and_others_stay(
    given: Speculation, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("draft-source").mkdir()
    Path("draft-source/config.json").write_text("{}")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "vllm.yaml").write_text("max_model_len: 8192\nspeculative_config: {method: old}\n")
    given.write(folder)
    settings = yaml.safe_load((folder / "vllm.yaml").read_text())
    assert settings == {"max_model_len": 8192, "speculative_config": expected}
    assert (folder / "draft/config.json").is_file() == (given.method == "draft")
    assert f"{given.tokens} tokens" in given.sentence


def test_a_draft_of_the_same_family_will_do(paths: Paths, channel: Channel) -> None:
    model = described(channel, "model", LLAMA, TOKENS)
    other = {**TOKENS, "normalizer": None, "version": "1.0"}
    draft = described(channel, "draft", {**LLAMA, "architectures": ["Qwen3ForCausalLM"]}, other)
    assert draft_for(paths, str(model)) == str(draft)


@pytest.mark.parametrize(
    ("config", "tokens", "said"),
    [
        ({**LLAMA, "architectures": ["BertModel"]}, TOKENS, "no language model"),
        ({**LLAMA, "vocab_size": 6}, TOKENS, "a vocabulary of 6, and the model one of 5"),
        (LLAMA, {**TOKENS, "model": {"vocab": {"a": 1, "b": 0}}}, "numbers its tokens otherwise"),
        (LLAMA, {**TOKENS, "added_tokens": []}, "numbers its tokens otherwise"),
    ],
)
def test_another_is_refused_by_name(
    paths: Paths, channel: Channel, config: dict[str, Any], tokens: dict[str, Any], said: str
) -> None:
    model = described(channel, "model", LLAMA, TOKENS)
    described(channel, "draft", config, tokens)
    with pytest.raises(UserError, match=said) as refused:
        draft_for(paths, str(model))
    assert refused.value.field == "channel draft"
    assert refused.value.fix
