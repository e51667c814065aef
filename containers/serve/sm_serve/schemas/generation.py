"""The parameters of Hugging Face's text generation, in and out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sm_serve.errors import BadRequest
from sm_serve.protocol import ADAPTER, UNTOLD, Delta, Sampling, TokenLogprob
from sm_serve.schemas.field_table import BEAMS as BEAM_FIELDS
from sm_serve.schemas.field_table import GENERATION
from sm_serve.schemas.fields import Values
from sm_serve.schemas.parameters import read_penalties

BEAMS = "num_beams"
BEAM_NAMES = tuple(field.name for field in BEAM_FIELDS)
UNCUT = (False, "do_not_truncate")
ANSWER_KEYS = {"summarization": "summary_text", "translation": "translation_text"}
"""What pipelines of these tasks call an answer; of others `generated_text`."""


def answer_key(task: str | None) -> str:
    """What the pipeline of a task calls its answers; of translation_en_to_fr as of translation."""
    return ANSWER_KEYS.get((task or "").split("_")[0], "generated_text")


@dataclass(frozen=True, slots=True)
class Options:
    """How to generate, and what of it to write."""

    sampling: Sampling
    full_text: bool = False
    details: bool = False
    adapter: str | None = None
    sequences: int = 1
    truncate: int | None = None
    beams: Mapping[str, Any] = field(default_factory=dict)
    cut: bool = False


def read_options(parameters: Mapping[str, Any], defaults: Sampling = UNTOLD) -> Options:
    """Parameters as text-generation-inference has them. BadRequest names a wrong one.

    What they leave open is as in `defaults`, but greedy.
    Any of temperature, top_k, top_p and min_p switches sampling on, and `do_sample: false` off.
    """
    fields = Values(GENERATION, parameters, "parameters.")
    sampling = read_sampling(fields, defaults)
    details = fields.flag("details")
    top = fields.get("top_n_tokens", 0)
    if details or top:
        sampling = replace(sampling, logprobs=top)
    if fields.flag("decoder_input_details"):
        if not details:
            raise BadRequest("parameters.decoder_input_details: set details to true as well")
        sampling = replace(sampling, prompt_logprobs=0)
    beams = {name: fields[name] for name in BEAM_NAMES if name in fields}
    sequences = fields.get("num_return_sequences", 1)
    if sequences > 1 and beams.get("num_beams", 1) == 1 and sampling.greedy:
        fix = "set do_sample to true, or num_beams to as many, as well"
        raise fields.wrong("num_return_sequences", sequences, fix)
    return Options(
        sampling,
        fields.flag("return_full_text"),
        details or bool(top),
        fields.get(ADAPTER) or None,
        sequences,
        fields.get("truncate"),
        beams,
        fields.get("truncation", False) not in UNCUT,
    )


def read_sampling(fields: Values, defaults: Sampling) -> Sampling:
    """How to choose tokens."""
    given = any(name in fields for name in ("temperature", "top_k", "top_p", "min_p"))
    sample = fields.get("do_sample", given)
    return Sampling(
        max_new_tokens=fields.get("max_new_tokens"),
        min_new_tokens=fields.get("min_new_tokens", 0),
        temperature=fields.number("temperature", defaults.temperature) if sample else 0.0,
        top_k=fields.get("top_k", defaults.top_k) if sample else 0,
        top_p=fields.number("top_p", defaults.top_p) if sample else 1.0,
        min_p=fields.number("min_p", defaults.min_p) if sample else 0.0,
        stop=fields.texts("stop") + fields.texts("stop_sequences"),
        ignore_eos=fields.flag("ignore_eos_token"),
        **read_penalties(fields, defaults),
    )


def write_result(
    text: str, pieces: Iterable[Delta], *, details: bool, key: str = "generated_text"
) -> dict[str, Any]:
    """The answer to one prompt, its text under `key`."""
    result: dict[str, Any] = {key: text}
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
    top = piece.logprobs[-1].top if piece.logprobs else ()
    return {
        **({"top_tokens": [write_token(other) for other in top]} if top else {}),
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
