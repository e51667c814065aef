"""From the tokens that a backend yields to the pieces of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sm_serve.engines.generators.text import IncrementalDecoder, StopMatcher
from sm_serve.protocol import Delta, Echo, GenerationRequest, Sampling, TokenLogprob


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """Tokens that a backend produced since the last chunk.

    `prompt` is the prompt's length where images made it longer than its text; `full` says that
    there is no room for more.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt: int = 0
    full: bool = False


class Vocabulary(Protocol):
    """What is asked of an engine about its tokens."""

    tokenizer: Any
    thought_tags: Mapping[int, str]
    thought_pair: tuple[str, str]

    def ends(self, sampling: Sampling, adapter: str | None = None) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    def named(self, entry: TokenLogprob, offset: int = 0) -> TokenLogprob:
        """With each token's text."""
        ...


class AnswerWriter:
    """Turns the token chunks of one answer into deltas."""

    def __init__(
        self,
        engine: Vocabulary,
        sampling: Sampling,
        request: GenerationRequest,
        prompt: int,
        echo: Echo | None,
        opened: str | None = None,
    ) -> None:
        self._engine = engine
        # Where thoughts are told apart, their tags are text even if they are special tokens.
        kept = None if opened is None else engine.thought_tags
        self._decoder = IncrementalDecoder(engine.tokenizer, kept)
        self._stop = StopMatcher(sampling.stop)
        self._limit = sampling.max_new_tokens or 0
        self._eos = engine.ends(sampling, request.adapter)
        self._prompt = prompt
        self._echo = echo
        self._opened = opened
        self._offset = len(echo.text) if echo else 0
        self._stream = request.stream
        self._count = 0
        self._pending = TokenChunk(())
        self._text = ""
        self.finished = False

    def write(self, chunk: TokenChunk) -> Delta | None:
        """The delta to send for a chunk, None while there is nothing to send yet."""
        self._count += len(chunk.tokens)
        reason = None
        if chunk.tokens and chunk.tokens[-1] in self._eos:
            reason = "stop"
        elif self._count >= self._limit or chunk.full:
            reason = "length"
        self._prompt = chunk.prompt or self._prompt
        text, logprobs = self._decode(chunk, last=reason is not None)
        self._pending = TokenChunk(
            self._pending.tokens + chunk.tokens, self._pending.logprobs + logprobs
        )
        text = self._stop.push(text, last=reason is not None)
        if self._stop.matched:
            reason = "stop"
        self.finished = reason is not None
        self._text += text
        if not self.finished and not (self._stream and self._text):
            return None
        delta = Delta(
            text=self._text,
            tokens=self._pending.tokens,
            logprobs=self._pending.logprobs,
            finish_reason=reason,
            prompt_tokens=self._prompt,
            completion_tokens=self._count,
            echo=self._echo,
            cut=self._stop.matched,
            opened=self._opened,
            tags=self._engine.thought_pair,
        )
        self._pending, self._text, self._echo = TokenChunk(()), "", None
        return delta

    def _decode(self, chunk: TokenChunk, *, last: bool) -> tuple[str, tuple[TokenLogprob, ...]]:
        """A chunk's text, and its log probabilities with each token's text and place."""
        if not chunk.logprobs:
            return self._decoder.push(chunk.tokens, last=last), ()
        texts, entries = [], []
        for index, entry in enumerate(chunk.logprobs, start=1):
            entries.append(self._engine.named(entry, self._offset))
            final = last and index == len(chunk.logprobs)
            texts.append(self._decoder.push([entry.token], last=final))
            self._offset += len(texts[-1])
        return "".join(texts), tuple(entries)
