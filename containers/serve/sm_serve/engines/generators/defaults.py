"""What a checkpoint's generation_config.json says, as `generate` obeys it.

Temperature, filters and repetition penalty are defaults that a request may change. The rest (banned
words, suppressed tokens, least lengths and the like) holds for every answer.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from typing import Any

from sm_serve.protocol import Sampling

logger = logging.getLogger(__name__)

Processors = Callable[[int, int, Mapping[str, Any]], Any]
"""From the lengths of prompt and answer, and what a request says otherwise than the checkpoint, to
the logits processors of the request."""


def read_defaults(generation_config: Any, *, searches: bool) -> Sampling:
    """The checkpoint's own sampling parameters; 1.0 is the temperature of one that names none.

    The log says when its beams are not obeyed everywhere; an engine `searches` or has none at all.
    """

    def value(name: str, otherwise: float) -> float:
        default = getattr(generation_config, name, None)
        return otherwise if default is None else default

    if (beams := int(value("num_beams", 1))) > 1:
        where = "streams and in OpenAI's formats" if searches else "this engine"
        logger.warning("generation_config.json asks for num_beams=%d, which is not offered in %s:"
                       " answers there are those of num_beams=1", beams, where)  # fmt: skip
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


def build_processors(model: Any, config: Any) -> Processors:
    """What `generate` would do to logits because of `config`."""

    def build(prompt: int, answer: int, options: Mapping[str, Any]) -> Any:
        own = copy.deepcopy(config)
        own.update(**options)
        own.max_length = prompt + answer
        if own.min_new_tokens is not None:
            own.min_length = prompt + own.min_new_tokens
        model._prepare_special_tokens(own, device=model.device)
        return model._get_logits_processor(
            own, input_ids_seq_length=prompt, device=model.device, model_kwargs={}
        )

    return build


def answer_tokens(generation_config: Any, start: int) -> int | None:
    """Most tokens of an encoder-decoder's answer by its checkpoint; None where that says nothing.

    `start` is how many tokens the answer begins with.
    """
    if generation_config.max_new_tokens:
        return int(generation_config.max_new_tokens)
    longest = generation_config.max_length
    return max(int(longest) - start, 1) if longest else None
