"""What the in-process engines refuse before they load it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sm_serve.errors import StartupError

pytestmark = pytest.mark.slow  # imports torch


@pytest.mark.parametrize("kind", ["idefics3", "llava", "qwen2_5_vl"])
def test_a_model_of_texts_and_images_is_named_and_sent_to_vllm(kind: str) -> None:
    from sm_serve.engines.loading import check_reads_text_alone

    config = {"model_type": kind, "vision_config": {}}
    with pytest.raises(StartupError, match=f"'{kind}' takes images.*SM_SERVE_ENGINE=vllm"):
        check_reads_text_alone(config)
    check_reads_text_alone({**config, "auto_map": {"AutoModelForCausalLM": "x.Y"}})
    check_reads_text_alone({"model_type": "llama"})
    check_reads_text_alone({"model_type": "gemma3", "vision_config": {}})


@pytest.mark.parametrize(
    ("told", "length"),
    [
        ({"reranking": {"max_length": 12, "truncation": True}}, 12),
        ({"reranking": {"max_length": 1200}}, 64),
        ({"reward": {"truncation": False}}, 64),
        ({"summarization": {"max_length": 14}}, 64),  # of facebook/bart-large-mnli's kind
        ({"reranking": "short"}, 64),
        (None, 64),
    ],
)
def test_texts_are_cut_to_the_length_that_the_model_has_learnt(told: Any, length: int) -> None:
    from sm_serve.engines.encoders.classification import ClassificationEngine
    from sm_serve.engines.loading import learnt_length

    config = SimpleNamespace(task_specific_params=told)
    assert learnt_length(config, ClassificationEngine.learnt_as, 64) == length
