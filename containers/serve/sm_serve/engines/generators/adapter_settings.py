"""What an adapter's directory says of how its answers are generated, beside other adapters.

Training writes generation_config.json, the chat template and the length of prompts beside the
weights: an adapter answers as it was evaluated, whichever base model's settings hold for others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sm_serve.engines.generators.defaults import answer_tokens

logger = logging.getLogger(__name__)

_FILE = "generation_config.json"
_TO_LOGITS = (
    *("min_length", "min_new_tokens", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
    *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias"),
    *("forced_bos_token_id", "forced_eos_token_id", "encoder_repetition_penalty"),
    "exponential_decay_length_penalty",
)
"""What holds for every answer, as keywords of `generate`."""
_TO_SEARCH = ("length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty")
_DEFAULTS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class AdapterSettings:
    """What an adapter does otherwise than the base model; None where it does not say."""

    ends: frozenset[int] | None = None
    answer_tokens: int | None = None
    beams: int | None = None
    prompt_tokens: int | None = None
    """To how many tokens its prompts were cut in training."""
    chat_template: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)


NOTHING = AdapterSettings()


def read_settings(
    name: str, path: Path, base: Any, template: str, start: int | None
) -> AdapterSettings:
    """The settings of an adapter's directory.

    Args:
        name: for the log.
        path: of its files.
        base: the base model's generation config; None where it has none.
        template: the base model's chat template.
        start: how many tokens the answer of an encoder-decoder begins with; None for a decoder.
    """
    from transformers import GenerationConfig

    own_template = _chat_template(path)
    changed = own_template if own_template not in (None, template) else None
    if not (path / _FILE).is_file():
        return AdapterSettings(chat_template=changed)
    own = GenerationConfig.from_pretrained(path, local_files_only=True)
    base = base or GenerationConfig()
    _tell_unheld(name, own, base)
    ends = own.eos_token_id
    return AdapterSettings(
        ends=None if ends is None else frozenset(ends if isinstance(ends, list) else [ends]),
        answer_tokens=None if start is None else answer_tokens(own, start),
        beams=int(own.num_beams or 1),
        prompt_tokens=None if start is None else _prompt_tokens(path),
        chat_template=changed,
        options=_differing(own, base, _TO_LOGITS),
        search=_differing(own, base, _TO_SEARCH),
    )


def _differing(own: Any, base: Any, names: tuple[str, ...]) -> dict[str, Any]:
    pairs = {name: (getattr(own, name, None), getattr(base, name, None)) for name in names}
    return {name: mine for name, (mine, its) in pairs.items() if mine != its}


def _tell_unheld(name: str, own: Any, base: Any) -> None:
    """Sampling is each request's own; what it does not say, the base model's files do."""
    unheld = {key: value for key, value in _differing(own, base, _DEFAULTS).items() if value}
    if unheld:
        logger.warning(
            "adapter %r: its generation_config.json says %s, and defaults of sampling are the base"
            " model's for all adapters: send them with the request",
            name,
            ", ".join(f"{key}={value}" for key, value in unheld.items()),
        )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _prompt_tokens(path: Path) -> int | None:
    longest = _read(path / "tokenizer_config.json").get("model_max_length")
    return longest if isinstance(longest, int) and 0 < longest < 1 << 24 else None


def _chat_template(path: Path) -> str | None:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = _read(path / "tokenizer_config.json").get("chat_template")
    return template if isinstance(template, str) else None
