"""Choosing the next token in a continuous batch, request by request.

transformers applies one list of logits processors to the whole batch and then draws from the
softmax. This one processor gives each row what its own request asks for. A greedy row, and a row
with a seed, is reduced to the one token that was chosen, which the draw afterwards must take; so
greedy answers equal `generate` token by token however the batch is mixed.
"""

from __future__ import annotations

from typing import Any

from sm_serve.engines.protocol import Sampling

REQUEST_SAMPLING = "sampling"
"""Name under which a request carries its Sampling."""


def build_processor() -> Any:
    """The processor; a function, as its base class imports torch."""
    import torch
    from transformers.generation.continuous_batching.cb_logits_processors import (
        ContinuousBatchingLogitsProcessor,
    )

    class RequestSampling(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
        """Applies each row's own Sampling. Rows are kept from preparation to the next call."""

        supported_kwargs = {REQUEST_SAMPLING: Sampling}  # noqa: RUF012 - transformers' interface
        ignored_kwargs = ()

        def __init__(self) -> None:
            self._rows: list[Any] = []

        def fill_defaults(self, int32_tensor: Any) -> None:
            int32_tensor.zero_()

        def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Any:
            self._rows = [request.state for request in requests_with_new_token]
            return torch.zeros(len(self._rows), dtype=torch.int32)

        def __call__(self, scores: Any, tensor_arg: Any) -> Any:
            rows = self._rows
            samplings = [
                state.logit_processor_kwargs.get(REQUEST_SAMPLING, Sampling()) for state in rows
            ]
            if all(s.greedy and s.repetition_penalty == 1.0 for s in samplings):
                return one_hot(scores, scores.argmax(dim=-1, keepdim=True))
            scores = scores.clone()
            for index, (state, sampling) in enumerate(zip(rows, samplings, strict=True)):
                scores[index] = process_row(scores[index], state, sampling)
            return scores

    def one_hot(scores: Any, chosen: Any) -> Any:
        masked = torch.full_like(scores, float("-inf"))
        return masked.scatter_(-1, chosen, 0.0)

    return RequestSampling()


def process_row(scores: Any, state: Any, sampling: Sampling) -> Any:
    """One request's logits after penalty, temperature, top-k and top-p, in generate's order."""
    import torch

    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*state.initial_tokens, *state.generated_tokens}))
        seen = seen.to(scores.device)
        values = scores[seen]
        penalty = sampling.repetition_penalty
        scores[seen] = torch.where(values < 0, values * penalty, values / penalty)
    if sampling.greedy:
        return _only(scores, int(scores.argmax()))
    scores = scores / sampling.temperature
    if sampling.top_k:
        limit = scores.topk(min(sampling.top_k, scores.numel())).values[-1]
        scores = scores.masked_fill(scores < limit, float("-inf"))
    if sampling.top_p < 1.0:
        ordered, indices = scores.sort()
        remove = ordered.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        remove[-1] = False
        scores[indices[remove]] = float("-inf")
    if sampling.seed is not None:
        return _only(scores, _draw(scores, sampling.seed, position(state)))
    return scores


def position(state: Any) -> int:
    """How many tokens of the answer there are, also after a request was evicted and resumed."""
    prompt = state._true_initial_tokens or len(state.initial_tokens)
    return len(state.initial_tokens) - int(prompt) + len(state.generated_tokens)


def _draw(scores: Any, seed: int, place: int) -> int:
    """A draw that depends on seed and position alone, not on what else is in the batch."""
    import torch

    generator = torch.Generator().manual_seed((seed * 1_000_003 + place) % 2**63)
    return int(torch.multinomial(scores.float().softmax(-1).cpu(), 1, generator=generator))


def _only(scores: Any, token: int) -> Any:
    import torch

    masked = torch.full_like(scores, float("-inf"))
    masked[token] = 0.0
    return masked
