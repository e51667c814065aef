"""What a checkpoint's generation_config.json says, as `generate` obeys it.

Temperature, filters and repetition penalty are defaults that a request may change. The rest (banned
words, suppressed tokens, least lengths and the like) holds for every answer.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

from sm_serve.engines.protocol import Sampling

logger = logging.getLogger(__name__)

Processors = Callable[[int, int], Any]
"""From the lengths of prompt and answer to the logits processors of one request."""


def read_defaults(generation_config: Any) -> Sampling:
    """The checkpoint's own sampling parameters; 1.0 is the temperature of one that names none."""

    def value(name: str, otherwise: float) -> float:
        found = getattr(generation_config, name, None)
        return otherwise if found is None else found

    if (beams := int(value("num_beams", 1))) > 1:
        logger.warning("generation_config.json asks for num_beams=%d, which is not offered: answers"
                       " are those of num_beams=1", beams)  # fmt: skip
    return Sampling(
        temperature=float(value("temperature", 1.0)) or 1.0,
        top_k=int(value("top_k", 0)),
        top_p=float(value("top_p", 1.0)),
        min_p=float(value("min_p", 0.0)),
        repetition_penalty=float(value("repetition_penalty", 1.0)),
    )


def greedy_config(model: Any) -> Any:
    """The model's generation config without what is each request's own, or not offered."""
    config = copy.deepcopy(model.generation_config)
    config.update(
        do_sample=False,
        num_beams=1,
        num_return_sequences=1,
        early_stopping=False,
        length_penalty=1.0,
        repetition_penalty=1.0,
        guidance_scale=None,
        temperature=None,
        top_k=None,
        top_p=None,
        min_p=None,
        stop_strings=None,
    )
    return config


def decoder_start(model: Any) -> list[int] | None:
    """What the answer of an encoder-decoder begins with, None for a model that has no encoder.

    Penalties count the decoder's tokens alone.
    """
    if not model.config.is_encoder_decoder:
        return None
    config = model.generation_config
    start = config.decoder_start_token_id
    start = config.bos_token_id if start is None else start
    return list(start) if isinstance(start, list) else [start]


def build_processors(model: Any, config: Any) -> Processors | None:
    """What `generate` would do to logits because of `config`; None where that is nothing."""

    def build(prompt: int, answer: int) -> Any:
        own = copy.deepcopy(config)
        own.max_length = prompt + answer
        if own.min_new_tokens is not None:
            own.min_length = prompt + own.min_new_tokens
        model._prepare_special_tokens(own, device=model.device)
        return model._get_logits_processor(
            own, input_ids_seq_length=prompt, device=model.device, model_kwargs={}
        )

    return build if build(1, 1) else None
