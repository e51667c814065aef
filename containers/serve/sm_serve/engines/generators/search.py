"""Beam search by transformers' `generate`: the one answer that is not made token by token.

A search shares the model with whatever else runs on it: each of its forward passes is a step of its
own, between two steps of the others. So the others go on, and a search takes longer.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sm_serve.engines.generators.sampling import NOT_NUMBERS
from sm_serve.errors import BadRequest, EngineError
from sm_serve.protocol import GenerationRequest, Sampling

BEAMS = "num_beams"
ALONE = ("length_penalty", "early_stopping")
"""Parameters that mean something to a search alone."""
OFF: Mapping[str, Any] = {
    BEAMS: 1, "length_penalty": 1.0, "early_stopping": False, "no_repeat_ngram_size": 0,
    "min_length": 0,
}  # fmt: skip
"""Values with which `generate` does nothing."""


class SearchCancelledError(Exception):
    """Nobody waits for the search any more."""


@dataclass(eq=False, slots=True)
class Search:
    """A search: the prompt, keywords of `generate`, and whether anybody still waits for it."""

    prompt: list[int]
    options: Mapping[str, Any]
    adapter: str | None = None
    cancelled: bool = False

    def run(self, model: Any, step: Callable[[], AbstractContextManager[Any]]) -> list[list[int]]:
        """The new tokens of the best answers, best first; every forward pass is inside `step`.

        Raises EngineError, or SearchCancelledError between two passes.
        """
        import torch
        from transformers import LogitsProcessorList

        config = copy.deepcopy(model.generation_config)
        config.update(**self.options)
        ids = torch.tensor([self.prompt], device=model.device)

        @contextlib.contextmanager
        def checked() -> Iterator[None]:
            if self.cancelled:
                raise SearchCancelledError
            with step():
                yield

        with torch.inference_mode():
            output = in_steps(model, checked).generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                logits_processor=LogitsProcessorList([_check_numbers]),
            )
        # An encoder-decoder's answer begins with a token that is not its own.
        start = 1 if model.config.is_encoder_decoder else len(self.prompt)
        return [row[start:] for row in output.tolist()]


def _check_numbers(_: Any, scores: Any) -> Any:
    if bool(scores.isnan().any()):
        raise EngineError(NOT_NUMBERS)
    return scores


def in_steps(model: Any, step: Callable[[], AbstractContextManager[Any]]) -> Any:
    """The model again, all its parts shared, whose every forward pass is inside `step`."""
    own = copy.copy(model)
    # A hook of the continuous batch knows the rows of its own passes alone.
    vars(own)["_forward_pre_hooks"] = OrderedDict()
    forward = model.forward

    @functools.wraps(forward)
    def stepping(*args: Any, **options: Any) -> Any:
        with step():
            return forward(*args, **options)

    own.forward = stepping
    return own


def check_search(request: GenerationRequest) -> None:
    """Refuses what a search has not, or one beam alone. Raises BadRequest naming the parameter."""
    beams, sampling = request.beams, request.sampling
    count = beams[BEAMS]
    if count == 1:
        for name in ALONE:
            if beams.get(name, OFF[name]) != OFF[name]:
                raise BadRequest(
                    f"parameters.{name}={beams[name]!r} is for a search: set num_beams to 2 or more"
                    " as well, or leave it out",
                    code="invalid_parameter",
                )
        return
    plain = Sampling()
    for name, shown in UNSEARCHED.items():
        if getattr(sampling, name) != getattr(plain, name):
            raise BadRequest(
                f"{shown}: it does not go with num_beams={count}: leave it out, or set num_beams"
                " to 1",
                code="invalid_parameter",
            )
    if request.stream:
        raise BadRequest(
            f"stream: with num_beams={count} the answer is known at its end alone: leave stream"
            " out, or set num_beams to 1",
            code="invalid_parameter",
        )
    if request.sequences > count:
        raise BadRequest(
            f"parameters.num_return_sequences={request.sequences}: num_beams={count} finds no more"
            " than so many: raise it",
            code="invalid_parameter",
        )


UNSEARCHED = {
    "logprobs": "parameters.details",
    "prompt_logprobs": "parameters.decoder_input_details",
    "constraint": "parameters.grammar",
    "seed": "parameters.seed",
    "stop": "parameters.stop",
    "logit_bias": "parameters.logit_bias",
    "frequency_penalty": "parameters.frequency_penalty",
    "presence_penalty": "parameters.presence_penalty",
}
"""Fields of Sampling that a search cannot obey, by the names that clients know."""


def choosing_options(sampling: Sampling) -> dict[str, Any]:
    """How tokens are chosen, as keywords of `generate`."""
    options: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "repetition_penalty": sampling.repetition_penalty,
        "do_sample": not sampling.greedy,
    }
    if sampling.min_new_tokens:
        options["min_new_tokens"] = sampling.min_new_tokens
    if not sampling.greedy:
        names = ("temperature", "top_k", "top_p", "min_p")
        options |= {name: getattr(sampling, name) for name in names}
    return options
