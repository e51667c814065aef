"""The languages of a translation: tokenizers of mBART, NLLB, M2M100 and PLBart know theirs."""

from __future__ import annotations

from typing import Any

from sm_serve.engines.offload import SpareTokenizer
from sm_serve.errors import BadRequest

SOURCE, TARGET = "src_lang", "tgt_lang"
SHOWN = 60
"""As many languages are told; NLLB has two hundred."""


class Languages:
    """What a tokenizer knows of languages: how to read a text in one, and how answers begin."""

    def __init__(self, tokenizer: Any) -> None:
        self._spare = SpareTokenizer(tokenizer)
        self.tokens = language_tokens(tokenizer)

    def check(self, beams: dict[str, Any]) -> None:
        """Raises BadRequest where a language is missing or unknown."""
        for name in (SOURCE, TARGET):
            value = beams.get(name)
            if value not in self.tokens:
                shown = f"parameters.{name}={value!r} is unknown" if value else f"{name} is missing"
                known = sorted(self.tokens)
                more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
                raise BadRequest(
                    f"{shown}: this model knows {', '.join(known[:SHOWN])}{more}",
                    code="invalid_parameter",
                )

    def encode(self, text: str, source: str, target: str, **options: Any) -> list[int]:
        """A text's tokens as the translation pipeline has them; for a thread of its own."""
        with self._spare.use() as tokenizer:
            built = tokenizer._build_translation_inputs(
                text, return_tensors=None, src_lang=source, tgt_lang=target, **options
            )
        return list(built["input_ids"])


def language_tokens(tokenizer: Any) -> dict[str, int]:
    """The token of each language that a tokenizer translates from and to; empty for most."""
    if not hasattr(tokenizer, "_build_translation_inputs"):
        return {}
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if codes:
        tokens = dict(codes)
        # PLBart's tokens are __java__, and its clients write java.
        tokens |= {code.strip("_"): token for code, token in codes.items()}
        return tokens
    named = getattr(tokenizer, "extra_special_tokens", None) or ()
    return {str(code): tokenizer.convert_tokens_to_ids(str(code)) for code in named}
