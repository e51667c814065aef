"""Text generation: what every backend shares.

A backend yields token chunks; this module turns prompts into tokens and tokens into text, applies
stop strings, counts usage and knows why generation ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sm_serve.config import Settings
from sm_serve.engines import loading
from sm_serve.engines.defaults import read_defaults
from sm_serve.engines.languages import SOURCE
from sm_serve.engines.long_text import surely_over, tokenize_tail
from sm_serve.engines.protocol import (
    Delta,
    Echo,
    GenerationRequest,
    Sampling,
    Task,
    TokenLogprob,
)
from sm_serve.engines.search import BEAMS, OFF
from sm_serve.engines.token_text import TokenTexts
from sm_serve.engines.turns import EXTRA_SHARE, Turns
from sm_serve.engines.writing import AnswerWriter, TokenChunk
from sm_serve.errors import BadPrompt, BadRequest, EngineError, adapter_not_found
from sm_serve.schemas.images import images_in
from sm_serve.thoughts import is_open, knows_thoughts, opens_thought

logger = logging.getLogger(__name__)

LONG_PROMPT = 2_000
"""Characters from which on a prompt is tokenized beside the event loop: below, many at once take no
longer than a client of /ping waits."""


LENGTHS = {"max_length", "min_length"}
"""Of what only `generate` knows, what every engine can do."""
TAIL_TOKENS = 16
"""Of a prompt, enough to hold the tag that opens a thought."""
RELATIVE_CONTEXT = 4096
"""Tokens for models whose positions are relative (T5): they have no end of their own."""


class TextGenerator(ABC):
    """A language model's tokenizer, and what turns prompts into tokens and tokens into answers."""

    task = Task.TEXT_GENERATION
    searches = False
    """Whether the engine searches with several beams."""

    def __init__(
        self, config: Any, generation_config: Any, tokenizer: Any, settings: Settings
    ) -> None:
        self.tokenizer = tokenizer
        self.texts = TokenTexts(tokenizer)
        self.settings = settings
        self.eos = end_tokens(generation_config, config)
        self.defaults = read_defaults(generation_config, searches=self.searches)
        self._closing = self.eos or end_tokens(tokenizer)
        if self._closing and not self.eos:
            logger.warning(
                "neither generation_config.json nor config.json has an eos_token_id: as with"
                " generate, answers end at max_new_tokens alone. The tokenizer's is %s",
                sorted(self._closing),
            )
        self._thinks = settings.reasoning_parser == "think" or (
            settings.reasoning_parser == "auto" and knows_thoughts(self.chat_template, tokenizer)
        )
        self.context = context_length(config, tokenizer)
        self.vocabulary = int(config.get_text_config().vocab_size)
        self.answer_tokens = settings.max_new_tokens
        self._tokenizing = asyncio.Semaphore(1)  # each takes much memory
        self._places = Turns(int(settings.max_in_flight * EXTRA_SHARE))
        self._room = Turns(sys.maxsize)  # in tokens
        self._active = 0
        self._tokens_total = 0

    def ends(self, sampling: Sampling) -> frozenset[int]:
        """Tokens that end an answer; one held to a constraint always has such an end."""
        if sampling.ignore_eos:
            return frozenset()
        return self._closing if sampling.constraint is not None else self.eos

    @property
    def chat_template(self) -> str:
        """See the protocol; of several named templates the one for tools."""
        template = self.tokenizer.chat_template or ""
        if isinstance(template, dict):
            template = template.get("tool_use") or template.get("default") or ""
        return str(template)

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
            async for delta in deltas:
                yield delta

    async def _answered(self, request: GenerationRequest) -> AsyncGenerator[Delta]:
        request = self.check_beams(request)
        self.check_images(request)
        prompt = await self._tokenize(request)
        sampling = self._limit(bounded(request, self.prefix_length(len(prompt))), len(prompt))
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
        inside = self._inside_thought(prompt, request)
        writer = AnswerWriter(self, sampling, request, len(prompt), echo, inside)
        sampling = replace(sampling, prompt_logprobs=None)
        chunks = self.answer(prompt, sampling, request)
        cost = len(prompt) + (sampling.max_new_tokens or 0)
        async with self._room.turn(cost), contextlib.aclosing(chunks):
            async for chunk in chunks:
                self._tokens_total += len(chunk.tokens)
                delta = writer.write(chunk)
                if delta is not None:
                    yield delta
                if writer.finished:
                    return
        raise EngineError("the engine ended the answer too early")

    def _inside_thought(self, prompt: list[int], request: GenerationRequest) -> bool | None:
        """Whether a chat's prompt has opened a thought; None where there are no thoughts.

        What is held to a constraint is the answer alone.
        """
        chat = bool(request.prompt) and isinstance(request.prompt[0], dict)
        if not (self._thinks and chat) or request.sampling.constraint is not None:
            return None
        if request.continue_final_message:
            return is_open(str(request.prompt[-1].get("content")))  # type: ignore[union-attr]
        return opens_thought(str(self.tokenizer.decode(prompt[-TAIL_TOKENS:])))

    async def _search(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> AsyncGenerator[Delta]:
        """The best answers of a search, whole."""
        ends = self.ends(sampling)
        cost = (len(prompt) + (sampling.max_new_tokens or 0)) * request.beams[BEAMS]
        async with self._room.turn(cost):
            found = await self.search(prompt, sampling, request)
        for index, tokens in enumerate(found):
            size = next((i for i, t in enumerate(tokens, 1) if t in ends), len(tokens))
            self._tokens_total += size
            yield Delta(
                self.texts.read(tokens[:size]),
                tokens=tuple(tokens[:size]),
                finish_reason="stop" if size and tokens[size - 1] in ends else "length",
                prompt_tokens=len(prompt),
                completion_tokens=size,
                index=index,
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

    async def _tokenize(self, request: GenerationRequest) -> list[int]:
        # A tokenizer of languages is changed by each request: one at a time.
        if size_of(request.prompt) >= LONG_PROMPT or SOURCE in request.beams:
            async with self._tokenizing:
                prompt = await asyncio.to_thread(self.encode_prompt, request)
        else:
            prompt = self.encode_prompt(request)
        if not prompt:
            raise BadPrompt("the prompt is empty: give at least one token of text")
        return prompt[-request.truncate :] if request.truncate else prompt

    async def tokens(self, request: GenerationRequest) -> list[int]:
        """See TokenReader."""
        self.check_images(request)
        return await self._tokenize(request)

    def token_text(self, token: int) -> str:
        """See TokenReader."""
        return self.texts.name(token)

    def text_of(self, tokens: Sequence[Any]) -> str:
        """See TokenReader."""
        return self.texts.read(self._check_ids(list(tokens), None)) if tokens else ""

    def encode_prompt(self, request: GenerationRequest) -> list[int]:
        """Token ids of a text, of chat messages by the chat template, or those given."""
        prompt = request.prompt
        if isinstance(prompt, str):
            return self.encode_text(prompt, request)
        if prompt and isinstance(prompt[0], int):
            return self._check_ids(prompt, request.truncate)
        if not self.tokenizer.chat_template:
            raise BadRequest(
                "the model has no chat template: send a plain text prompt, or save a chat template"
                " with the tokenizer",
                code="no_chat_template",
            )
        try:
            text = self.tokenizer.apply_chat_template(
                self.template_messages(request),
                tools=request.tools,
                add_generation_prompt=not request.continue_final_message,
                continue_final_message=request.continue_final_message,
                tokenize=False,
                **request.template_variables,
            )
        except BadRequest:
            raise
        except Exception as error:  # templates raise whatever their authors chose
            raise BadPrompt(f"the chat template refuses these messages: {error}") from error
        # As apply_chat_template itself would go on: the template writes special tokens.
        ids = self._encode_text(text, request.truncate, add_special_tokens=False)
        if request.answer_prefix:
            prefix = self.tokenizer(request.answer_prefix, add_special_tokens=False)
            return [*ids, *prefix["input_ids"]]
        return ids

    def template_messages(self, request: GenerationRequest) -> Any:
        """The messages as the chat template takes them."""
        return request.prompt

    def encode_text(self, text: str, request: GenerationRequest) -> list[int]:
        """The tokens of a text that is the whole prompt."""
        return self._encode_text(text, request.truncate)

    def _encode_text(self, text: str, truncate: int | None, **options: Any) -> list[int]:
        """A text's tokens: none of a far too long one, the last alone of one to be cut."""
        if truncate:
            return tokenize_tail(self.tokenizer, text, truncate, **options)
        if surely_over(self.tokenizer, text, self.context):
            raise self._too_long(f"over {self.context}")
        ids: list[int] = self.tokenizer(text, **options)["input_ids"]
        return ids

    def _check_ids(self, prompt: list[Any], truncate: int | None) -> list[int]:
        if len(prompt) > self.context and not truncate:
            raise self._too_long(str(len(prompt)))
        for index, token in enumerate(prompt):
            if type(token) is not int or not 0 <= token < self.vocabulary:
                raise BadPrompt(
                    f"token {index} of the prompt is {token!r}: give ids from 0 to"
                    f" {self.vocabulary - 1}"
                )
        return list(prompt)

    def _too_long(self, tokens: str) -> BadPrompt:
        return BadPrompt(
            f"the prompt has {tokens} tokens, the model's context is {self.context}: shorten the"
            " prompt",
            code="context_length_exceeded",
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

    def check_images(self, request: GenerationRequest) -> None:
        """BadRequest where messages hold an image that this model or engine does not take."""
        for where, _ in images_in(request.prompt):
            raise BadRequest(
                f"{where} is an image, and this model is served with text alone: leave it out, or"
                " serve one that takes images with SM_SERVE_ENGINE=vllm"
            )

    def prefix_length(self, prompt: int) -> int:
        """What `max_length` counts beside the new tokens: of a decoder, its prompt."""
        return prompt

    def room(self, prompt: int) -> int:
        """Most tokens of an answer to a prompt of so many."""
        return self.context - prompt

    def _limit(self, sampling: Sampling, prompt: int) -> Sampling:
        """Resolves max_new_tokens and refuses what does not fit into the context."""
        room = self.room(prompt)
        if room < (0 if sampling.max_new_tokens == 0 else 1):
            raise self._too_long(str(prompt))
        wanted = sampling.max_new_tokens
        if wanted is None:
            return replace(sampling, max_new_tokens=min(self.answer_tokens, room))
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


def size_of(prompt: Any) -> int:
    """About how many characters there are to tokenize."""
    if isinstance(prompt, str):
        return len(prompt)
    if prompt and isinstance(prompt[0], dict):
        return sum(len(str(message.get("content"))) for message in prompt) + len(prompt)
    return len(prompt)


def end_tokens(*sources: Any) -> frozenset[int]:
    """Tokens that end a sequence, by the first source that names any."""
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        if value is not None:
            return frozenset(value if isinstance(value, list) else [value])
    return frozenset()


def context_length(config: Any, tokenizer: Any) -> int:
    """Tokens of prompt and answer together that the model can take."""
    text_config = config.get_text_config()
    if hasattr(text_config, "relative_attention_num_buckets"):
        return RELATIVE_CONTEXT
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        value = getattr(text_config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    length = tokenizer.model_max_length
    return int(length) if 0 < length < loading.UNSET_LENGTH else 4096
