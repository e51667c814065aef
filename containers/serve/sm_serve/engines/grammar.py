"""Answers held to a JSON schema, a regular expression, a choice or a grammar, by llguidance."""

from __future__ import annotations

import json
import threading
from typing import Any

from sm_serve.engines.protocol import Constraint, ConstraintKind
from sm_serve.errors import BadRequest

JSON_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Python's own layout: where any whitespace may come a small model can go on with it for ever."""


class Grammars:
    """Makes matchers for one tokenizer; what they share is built at the first one."""

    def __init__(self, tokenizer: Any, vocabulary: int, eos: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._eos = sorted(eos)
        self._lock = threading.Lock()
        self._shared: Any = None

    def matcher(self, constraint: Constraint) -> Any:
        """A fresh matcher. Blocks for up to a second.

        Raises BadRequest where the constraint is malformed or too complex.
        """
        import llguidance

        with self._lock:
            if self._shared is None:
                self._shared = self._share()
        try:
            grammar = write_grammar(constraint)
        except ValueError as error:
            raise refused(constraint, str(error)) from error
        matcher = llguidance.LLMatcher(self._shared, grammar, log_level=0)
        if matcher.is_error():
            raise refused(constraint, matcher.get_error())
        return matcher

    def _share(self) -> Any:
        from llguidance import hf

        if not self._eos:
            raise BadRequest("this model has no end of sequence: it cannot hold to a constraint")
        try:
            return hf.from_tokenizer(self._tokenizer, self._vocabulary, self._eos)
        except ValueError as error:
            raise BadRequest(
                f"this model's tokenizer cannot hold answers to a constraint: {error}"
            ) from error


def write_grammar(constraint: Constraint) -> str:
    """The constraint in llguidance's own form. Raises ValueError."""
    import llguidance

    if constraint.kind is ConstraintKind.JSON_SCHEMA:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            constraint.value, overrides=JSON_OPTIONS
        )
        return str(grammar)
    if constraint.kind is ConstraintKind.REGEX:
        return str(llguidance.LLMatcher.grammar_from_regex(constraint.value))
    if constraint.kind is ConstraintKind.CHOICE:
        texts = " | ".join(json.dumps(text) for text in json.loads(constraint.value))
        return str(llguidance.LLMatcher.grammar_from_lark(f"start: {texts}"))
    return str(llguidance.grammar_from("grammar", constraint.value))


def refused(constraint: Constraint, reason: str) -> BadRequest:
    """The error for a constraint that cannot be used."""
    first = reason.strip().splitlines()[0] if reason.strip() else "it is malformed"
    return BadRequest(f"{constraint.field}: {first[:300]}", code="invalid_constraint")
