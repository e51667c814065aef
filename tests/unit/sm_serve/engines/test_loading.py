"""What the in-process engines refuse before they load it."""

from __future__ import annotations

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
