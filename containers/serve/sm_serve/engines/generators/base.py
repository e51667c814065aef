"""Text generation: what every backend shares.

A backend yields token chunks; this module turns them into text, applies stop strings, counts usage
and knows why generation ended.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from sm_serve.config import Settings
from sm_serve.engines.failures import Checkup
from sm_serve.engines.generators.adapter_settings import NOTHING, AdapterSettings
from sm_serve.engines.generators.answer_form import AnswerForm, choose_form, stopping
from sm_serve.engines.generators.defaults import read_defaults
from sm_serve.engines.generators.prompts import PromptReader
from sm_serve.engines.generators.search import BEAMS, OFF
from sm_serve.engines.generators.text import IncrementalDecoder
from sm_serve.engines.generators.writing import AnswerWriter, TokenChunk
from sm_serve.engines.turns import EXTRA_SHARE, Turns
from sm_serve.errors import BadPrompt, BadRequest, EngineError, ServeError, adapter_not_found
from sm_serve.protocol import (
    WARM_UP,
    Delta,
    Echo,
    GenerationRequest,
    Sampling,
    Task,
    TokenLogprob,
)

logger = logging.getLogger(__name__)

LENGTHS = {"max_length", "min_length"}
"""Of what only `generate` knows, what every engine can do."""


class TextGenerator(PromptReader, ABC):
    """A language model, by what turns the tokens of a prompt into those of an answer."""

    task = Task.TEXT_GENERATION
    searches = False
    """Whether the engine searches with several beams."""

    def __init__(
        self, config: Any, generation_config: Any, tokenizer: Any, settings: Settings
    ) -> None:
        super().__init__(config, tokenizer)
        self.settings = settings
        self.adapter_settings: dict[str | None, AdapterSettings] = {}
        self.eos = end_tokens(generation_config, config)
        self.defaults = read_defaults(generation_config, searches=self.searches)
        self._closing = self.eos or end_tokens(tokenizer)
        if self._closing and not self.eos:
            logger.warning(
                "neither generation_config.json nor config.json has an eos_token_id: as with"
                " generate, answers end at max_new_tokens alone. The tokenizer's is %s",
                sorted(self._closing),
            )
        form = choose_form(settings.reasoning_parser, self.chat_template, tokenizer)
        self._form: AnswerForm | None = form
        self.thought_tags: Mapping[int, str] = form.tags if form else {}
        self.thought_pair = form.pair if form else ("", "")
        if form is not None:
            self.eos |= form.ends
            self._closing |= form.ends
        self.answer_tokens = settings.max_new_tokens
        self._places = Turns(int(settings.max_in_flight * EXTRA_SHARE))
        self._room = Turns(sys.maxsize)  # in tokens
        self.checkup = Checkup(self._answer_own)
        self._active = 0
        self._tokens_total = 0
        self._open_thoughts = 0

    def settings_of(self, adapter: str | None) -> AdapterSettings:
        """What an adapter does otherwise than the base model."""
        return self.adapter_settings.get(adapter, NOTHING)

    def ends(self, sampling: Sampling, adapter: str | None = None) -> frozenset[int]:
        """Tokens that end an answer; one held to a constraint always has such an end."""
        if sampling.ignore_eos:
            return frozenset()
        if own := self.settings_of(adapter).ends:
            return own | self._form.ends if self._form is not None else own
        return self._closing if sampling.constraint is not None else self.eos

    @abstractmethod
    def answer(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> AsyncGenerator[TokenChunk]:
        """Yields chunks until the end of sequence or the limit: as they come if there is a use."""

    @abstractmethod
    async def score(self, prompt: list[int], count: int, adapter: str | None) -> list[TokenLogprob]:
        """The log probability of each prompt token, the first one's being None."""

    @abstractmethod
    def adapters(self) -> list[str]:
        """See AdapterHost."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """See the protocol."""
        return self._generate(request)

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[Delta]:
        if request.adapter is not None and request.adapter not in self.adapters():
            raise adapter_not_found(request.adapter, self.adapters())
        async with self._places.turn(), contextlib.aclosing(self._answered(request)) as deltas:
            try:
                async for delta in deltas:
                    if delta.finish_reason is not None and delta.completion_tokens:
                        self.checkup.succeeded()
                    yield delta
            except Exception as error:
                if isinstance(error, EngineError) or not isinstance(error, ServeError):
                    self.checkup.failed(error)
                raise

    async def _answer_own(self) -> None:
        """Asks the model itself, past what bounds clients. Raises where it does not answer."""
        async with contextlib.aclosing(self._answered(WARM_UP)) as deltas:
            async for _ in deltas:
                pass

    def health(self) -> str | None:
        """See the protocol."""
        return self.trouble() or self.checkup.reason

    @abstractmethod
    def trouble(self) -> str | None:
        """Why no request at all is being answered: what runs the model has ended or is stuck."""

    async def _answered(self, request: GenerationRequest) -> AsyncGenerator[Delta]:
        request = self.check_beams(request)
        self.check_images(request)
        prompt = await self._tokenize(request)
        asked = bounded(request, self.prefix_length(len(prompt)))
        sampling = self._limit(asked, len(prompt), request.adapter)
        self._check(sampling)
        self._active += 1
        answered = self._search if request.beams.get(BEAMS, 1) > 1 else self._write
        try:
            async with contextlib.aclosing(answered(prompt, sampling, request)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self._active -= 1

    async def _write(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> AsyncGenerator[Delta]:
        """An answer token by token."""
        echo = await self._echo(prompt, request)
        if sampling.max_new_tokens == 0:
            yield Delta("", finish_reason="length", prompt_tokens=len(prompt), echo=echo)
            return
        opened = self._opened(prompt, request)
        if self._form is not None and opened is not None:
            sampling = replace(sampling, stop=stopping(sampling, self._form))
        writer = AnswerWriter(self, sampling, request, len(prompt), echo, opened)
        sampling = replace(sampling, prompt_logprobs=None)
        chunks, said = self.answer(prompt, sampling, request), opened or ""
        cost = len(prompt) + (sampling.max_new_tokens or 0)
        async with self._room.turn(cost), contextlib.aclosing(chunks):
            async for chunk in chunks:
                self._tokens_total += len(chunk.tokens)
                delta = writer.write(chunk)
                if delta is not None:
                    said += "" if opened is None else delta.text
                    if delta.finish_reason == "stop":
                        self._count_open_thought(said)
                    yield delta
                if writer.finished:
                    return
        raise EngineError("the engine ended the answer too early")

    def _count_open_thought(self, answer: str) -> None:
        """As in vLLM, such an answer is all thought. Its reader must learn why there is nothing."""
        if self._form is None or not self._form.breaks_off(answer):
            return
        self._open_thoughts += 1
        if self._open_thoughts == 1:
            logger.warning(
                "a model has ended its answer without %s: all of it is told as reasoning_content,"
                " and content is null. For a model that does not think, set"
                " SM_SERVE_REASONING_PARSER=none. Further ones are counted in /metrics alone",
                self._form.unfinished,
            )

    def _opened(self, prompt: list[int], request: GenerationRequest) -> str | None:
        """How a chat's prompt begins the answer; None where there are no thoughts."""
        chat = bool(request.prompt) and isinstance(request.prompt[0], dict)
        return self._form.opened(prompt, request) if self._form is not None and chat else None

    def answer_prefix(self, prompt: str, request: GenerationRequest) -> str:
        """See PromptReader."""
        if self._form is None or request.sampling.constraint is None:
            return request.answer_prefix
        return self._form.prefix(prompt, request)

    def template_of(self, request: GenerationRequest) -> str | None:
        """See PromptReader."""
        return self.settings_of(request.adapter).chat_template

    def template_messages(self, request: GenerationRequest) -> Any:
        """See PromptReader."""
        return request.prompt if self._form is None else self._form.messages(request.prompt)

    async def _search(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> AsyncGenerator[Delta]:
        """The best answers of a search, whole."""
        ends = self.ends(sampling, request.adapter)
        cost = (len(prompt) + (sampling.max_new_tokens or 0)) * request.beams[BEAMS]
        async with self._room.turn(cost):
            outcome = await self.search(prompt, sampling, request)
        opened = self._opened(prompt, request)
        kept = None if opened is None else self.thought_tags
        for index, tokens in enumerate(outcome):
            size = next((i for i, t in enumerate(tokens, 1) if t in ends), len(tokens))
            self._tokens_total += size
            yield Delta(
                IncrementalDecoder(self.tokenizer, kept).push(tokens[:size], last=True),
                tokens=tuple(tokens[:size]),
                finish_reason="stop" if size and tokens[size - 1] in ends else "length",
                prompt_tokens=len(prompt),
                completion_tokens=size,
                index=index,
                opened=opened,
                tags=self.thought_pair,
            )

    async def search(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> list[list[int]]:
        """The new tokens of the best answers, best first, for an engine that `searches`."""
        raise EngineError("this engine does not search")

    async def _echo(self, prompt: list[int], request: GenerationRequest) -> Echo | None:
        """What the request wants to know of its prompt."""
        count = request.sampling.prompt_logprobs
        text = ""
        if request.echo:
            given = request.prompt
            text = given if isinstance(given, str) else self.texts.read(prompt)
        if count is None:
            return Echo(text) if text else None
        entries = await self.score(prompt, count, request.adapter)
        offsets = self.texts.offsets(request.prompt, prompt)
        return Echo(text, tuple(map(self.named, entries, offsets)))

    def named(self, entry: TokenLogprob, offset: int = 0) -> TokenLogprob:
        """With each token's text."""
        name = self.texts.name
        special = self.texts.special

        def tell(token: TokenLogprob) -> TokenLogprob:
            return replace(
                token, text=name(token.token), offset=offset, special=token.token in special
            )

        return replace(tell(entry), top=tuple(map(tell, entry.top)))

    def _check(self, sampling: Sampling) -> None:
        for token, _ in sampling.logit_bias:
            if token >= self.vocabulary:
                raise BadRequest(
                    f"logit_bias holds token {token}: give ids from 0 to {self.vocabulary - 1}"
                )
        if sampling.constraint is not None and sampling.ignore_eos:
            raise BadRequest(
                f"{sampling.constraint.field} ends the answer itself: leave ignore_eos out"
            )

    def check_beams(self, request: GenerationRequest) -> GenerationRequest:
        """The request as the engine can serve it. BadRequest for what only beam search has."""
        for name in sorted(set(request.beams) - LENGTHS):
            if request.beams[name] == OFF.get(name):
                continue
            raise BadRequest(
                f"parameters.{name}={request.beams[name]!r}: this engine does not offer it: leave"
                " it out, or serve the model with SM_SERVE_ENGINE=transformers",
                code="invalid_parameter",
            )
        if request.cut:
            raise BadRequest("parameters.truncation: a decoder's prompts are cut by truncate")
        return replace(request, beams=_lengths_of(request.beams))

    def prefix_length(self, prompt: int) -> int:
        """What `max_length` counts beside the new tokens: of a decoder, its prompt."""
        return prompt

    def room(self, prompt: int) -> int:
        """Most tokens of an answer to a prompt of so many."""
        return self.context - prompt

    def _limit(self, sampling: Sampling, prompt: int, adapter: str | None) -> Sampling:
        """Resolves max_new_tokens and refuses what does not fit into the context."""
        room = self.room(prompt)
        if room < (0 if sampling.max_new_tokens == 0 else 1):
            raise self._too_long(str(prompt))
        wanted = sampling.max_new_tokens
        if wanted is None:
            most = self.settings_of(adapter).answer_tokens or self.answer_tokens
            return replace(sampling, max_new_tokens=min(most, room))
        if wanted > room:
            raise BadPrompt(
                f"max_new_tokens={wanted} and a prompt of {prompt} tokens exceed the context of"
                f" {self.context}: ask for at most {room}",
                code="context_length_exceeded",
            )
        return sampling

    def stats(self) -> dict[str, float]:
        """See the protocol."""
        return {
            "active_generations": self._active,
            "generated_tokens_total": self._tokens_total,
            "open_thoughts_total": self._open_thoughts,
            "adapters": len(self.adapters()),
        }


def _lengths_of(beams: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in beams.items() if name in LENGTHS}


def bounded(request: GenerationRequest, prefix: int) -> Sampling:
    """The sampling with `max_length` and `min_length`, which count `prefix` as well, resolved."""
    sampling, beams = request.sampling, request.beams
    if "max_length" in beams:
        if sampling.max_new_tokens is not None:
            raise BadRequest("parameters.max_length: max_new_tokens says otherwise: leave one out")
        if beams["max_length"] <= prefix:
            raise BadRequest(
                f"parameters.max_length={beams['max_length']} leaves no token for the answer, as"
                f" {prefix} are there before it: give more, or max_new_tokens"
            )
        sampling = replace(sampling, max_new_tokens=beams["max_length"] - prefix)
    if "min_length" in beams:
        least = max(beams["min_length"] - prefix, sampling.min_new_tokens)
        sampling = replace(sampling, min_new_tokens=least)
    return sampling


def end_tokens(*sources: Any) -> frozenset[int]:
    """Tokens that end a sequence, by the first source that names any."""
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        if value is not None:
            return frozenset(value if isinstance(value, list) else [value])
    return frozenset()
