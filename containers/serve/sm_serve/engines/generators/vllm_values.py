"""Sampling and tokens as vLLM has them, and as we do."""

from __future__ import annotations

import json
from typing import Any

from sm_serve.engines.generators.writing import TokenChunk
from sm_serve.protocol import ConstraintKind, Sampling, TokenLogprob


def write_sampling(sampling: Sampling, eos: frozenset[int], *, incremental: bool) -> Any:
    """Our Sampling as vLLM's SamplingParams."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=sampling.max_new_tokens,
        min_tokens=min(sampling.min_new_tokens, sampling.max_new_tokens or 0),
        temperature=0.0 if sampling.greedy else sampling.temperature,
        top_k=0 if sampling.greedy else sampling.top_k,
        top_p=1.0 if sampling.greedy else sampling.top_p,
        min_p=0.0 if sampling.greedy else sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        logit_bias=dict(sampling.logit_bias) or None,
        seed=None if sampling.greedy else sampling.seed,
        logprobs=sampling.logprobs,
        prompt_logprobs=sampling.prompt_logprobs,
        stop_token_ids=None if sampling.ignore_eos else sorted(eos),
        ignore_eos=sampling.ignore_eos,
        structured_outputs=write_constraint(sampling),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA if incremental else RequestOutputKind.FINAL_ONLY,
    )


def write_constraint(sampling: Sampling) -> Any:
    """Our Constraint as vLLM's StructuredOutputsParams."""
    from vllm.sampling_params import StructuredOutputsParams

    constraint = sampling.constraint
    if constraint is None:
        return None
    if constraint.kind is ConstraintKind.JSON_SCHEMA:
        return StructuredOutputsParams(json=json.loads(constraint.value))
    if constraint.kind is ConstraintKind.CHOICE:
        return StructuredOutputsParams(choice=json.loads(constraint.value))
    return StructuredOutputsParams(**{constraint.kind.value: constraint.value})


def read_output(output: Any, sampling: Sampling) -> TokenChunk:
    """The new tokens of a vLLM output, with their log probabilities where they were asked for."""
    tokens = tuple(output.token_ids)
    if sampling.logprobs is None or not output.logprobs:
        return TokenChunk(tokens)
    rows = zip(tokens, output.logprobs, strict=True)
    return TokenChunk(tokens, tuple(read_row(*row, sampling.logprobs) for row in rows))


def read_row(token: int, logprobs: Any, count: int) -> TokenLogprob:
    """One token among those that vLLM tells of its place."""
    ranked = sorted(logprobs.items(), key=lambda item: -item[1].logprob)
    top = tuple(TokenLogprob(other, value.logprob) for other, value in ranked)
    return TokenLogprob(token, logprobs[token].logprob, top=top[:count])


def read_prompt(prompt: list[int], rows: Any, count: int) -> list[TokenLogprob]:
    """vLLM's log probabilities of a prompt, None of its first token."""
    return [
        TokenLogprob(token, None) if logprobs is None else read_row(token, logprobs, count)
        for token, logprobs in zip(prompt, rows, strict=True)
    ]
