"""The parameters of Hugging Face's text generation, in and out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sm_serve.engines.protocol import ADAPTER, Delta, Sampling, TokenLogprob
from sm_serve.errors import BadRequest
from sm_serve.schemas.constraints import read_grammar
from sm_serve.schemas.parameters import MAX_SEED, MAX_TOP_LOGPROBS, UNTOLD, Fields

MAX_SEQUENCES = 16


@dataclass(frozen=True, slots=True)
class Options:
    """How to generate, and what of it to write."""

    sampling: Sampling
    full_text: bool = False
    details: bool = False
    adapter: str | None = None
    sequences: int = 1
    truncate: int | None = None


def read_options(parameters: Mapping[str, Any], defaults: Sampling = UNTOLD) -> Options:
    """Parameters as text-generation-inference has them. BadRequest names a wrong one.

    What they leave open is as in `defaults`, but greedy.
    Any of temperature, top_k, top_p and min_p switches sampling on, and `do_sample: false` off.
    """
    fields = Fields(parameters, "parameters.")
    sampling = read_sampling(fields, parameters, defaults)
    details = bool(fields.flag("details"))
    top = fields.integer("top_n_tokens", 0, MAX_TOP_LOGPROBS) or 0
    if details or top:
        sampling = replace(sampling, logprobs=top)
    if fields.flag("decoder_input_details"):
        if not details:
            raise BadRequest("parameters.decoder_input_details: set details to true as well")
        sampling = replace(sampling, prompt_logprobs=0)
    full_text = bool(fields.flag("return_full_text"))
    adapter = fields.text(ADAPTER)
    sequences = fields.integer("num_return_sequences", 1, MAX_SEQUENCES) or 1
    if sequences > 1 and sampling.greedy:
        raise fields.wrong("num_return_sequences", sequences, "set do_sample to true as well")
    truncate = fields.integer("truncate", 1, 1_000_000)
    fields.only("num_beams", 1, None)
    fields.only("best_of", 1, None)
    fields.only("watermark", False, None)
    fields.only("typical_p", 1.0, None)
    fields.ignore("use_cache", "pad_token_id", "clean_up_tokenization_spaces")
    fields.finish()
    return Options(sampling, full_text, details or bool(top), adapter or None, sequences, truncate)


def read_sampling(fields: Fields, parameters: Mapping[str, Any], defaults: Sampling) -> Sampling:
    """How to choose tokens."""
    do_sample = fields.flag("do_sample")
    names = ("temperature", "top_k", "top_p", "min_p")
    given = any(parameters.get(name) is not None for name in names)
    temperature = fields.number("temperature", defaults.temperature, 0.0, 100.0)
    top_k = fields.integer("top_k", 0, 1_000_000)
    top_k = defaults.top_k if top_k is None else top_k
    top_p = fields.number("top_p", defaults.top_p, 1e-6, 1.0)
    min_p = fields.number("min_p", defaults.min_p, 0.0, 1.0)
    sample = given if do_sample is None else do_sample
    return Sampling(
        max_new_tokens=fields.integer("max_new_tokens", 1, 1_000_000),
        min_new_tokens=fields.integer("min_new_tokens", 0, 1_000_000) or 0,
        temperature=temperature if sample else 0.0,
        top_k=top_k if sample else 0,
        top_p=top_p if sample else 1.0,
        min_p=min_p if sample else 0.0,
        repetition_penalty=fields.number(
            "repetition_penalty", defaults.repetition_penalty, 0.01, 10.0
        ),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2.0, 2.0),
        presence_penalty=fields.number("presence_penalty", 0.0, -2.0, 2.0),
        logit_bias=fields.biases("logit_bias"),
        constraint=read_grammar(fields.take("grammar")),
        seed=fields.integer("seed", 0, MAX_SEED),
        stop=fields.texts("stop") + fields.texts("stop_sequences"),
        ignore_eos=bool(fields.flag("ignore_eos_token")),
    )


def write_result(text: str, pieces: Iterable[Delta], *, details: bool) -> dict[str, Any]:
    """The answer to one prompt."""
    result: dict[str, Any] = {"generated_text": text}
    deltas = list(pieces)
    if details and deltas:
        tokens = [entry for delta in deltas for entry in delta.logprobs]
        result["details"] = {
            **finish(deltas[-1]),
            "tokens": [write_token(entry) for entry in tokens],
        }
        read = deltas[0].echo.logprobs if deltas[0].echo is not None else ()
        result["details"]["prefill"] = [
            {"id": entry.token, "text": entry.text, "logprob": entry.logprob} for entry in read
        ]
        if any(entry.top for entry in tokens):
            result["details"]["top_tokens"] = [
                [write_token(other) for other in entry.top] for entry in tokens
            ]
    return result


def write_token(entry: TokenLogprob) -> dict[str, Any]:
    """A token as text-generation-inference writes it."""
    return {
        "id": entry.token,
        "text": entry.text,
        "logprob": entry.logprob,
        "special": entry.special,
    }


def write_piece(piece: Delta, text: str) -> dict[str, Any]:
    """An event of a stream; the last one repeats the whole text."""
    token: dict[str, Any] = {
        "id": piece.tokens[-1] if piece.tokens else None,
        "text": piece.text,
        "special": False,
    }
    if piece.logprobs:
        token["logprob"] = piece.logprobs[-1].logprob
        token["special"] = piece.logprobs[-1].special
    done = piece.finish_reason is not None
    return {
        "token": token,
        "generated_text": text if done else None,
        "details": finish(piece) if done else None,
    }


def finish(piece: Delta) -> dict[str, Any]:
    """Why an answer ended (length, eos_token or stop_sequence), and what it took."""
    reason = piece.finish_reason
    if reason == "stop":
        reason = "stop_sequence" if piece.cut else "eos_token"
    return {
        "finish_reason": reason,
        "generated_tokens": piece.completion_tokens,
        "prompt_tokens": piece.prompt_tokens,
    }
