"""Text generation: what every backend shares, and the plain `generate` backend.

A backend yields token chunks; this module turns prompts into tokens and tokens into text, applies
stop strings, counts usage and knows why generation ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from sm_serve.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines import loading
from sm_serve.engines.protocol import Delta, GenerationRequest, Sampling, Task
from sm_serve.engines.text import IncrementalDecoder, StopMatcher
from sm_serve.errors import BadRequest, EngineError, NotReady

logger = logging.getLogger(__name__)

LONG_PROMPT_CHARACTERS = 20_000
"""Prompts from this length on are tokenized off the event loop."""


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """Tokens that a backend produced since the last chunk."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...] = ()


class TextGenerator(ABC):
    """A language model with its tokenizer. Subclasses run the tokens."""

    task = Task.TEXT_GENERATION

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.eos = end_tokens(model, tokenizer)
        self.context = context_length(model.config, tokenizer)
        self._active = 0
        self._tokens_total = 0

    @abstractmethod
    def run_tokens(
        self, prompt: list[int], sampling: Sampling, *, incremental: bool
    ) -> AsyncGenerator[TokenChunk]:
        """Yields chunks, as they come if `incremental`, until the end of sequence or the limit."""

    def check(self, sampling: Sampling) -> None:
        """Raises BadRequest for sampling that this backend cannot do."""
        if sampling.logprobs:
            raise BadRequest("logprobs is not supported by the engine of this model: leave it out")

    def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """See the protocol."""
        return self._generate(request)

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[Delta]:
        self.check(request.sampling)
        prompt = await self._tokenize(request)
        sampling = self._limit(request.sampling, len(prompt))
        incremental = request.stream or bool(sampling.stop)
        writer = _Writer(self.tokenizer, sampling, self.eos, len(prompt), request.stream)
        self._active += 1
        chunks = self.run_tokens(prompt, sampling, incremental=incremental)
        try:
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    self._tokens_total += len(chunk.tokens)
                    delta = writer.write(chunk)
                    if delta is not None:
                        yield delta
                    if writer.finished:
                        return
            raise EngineError("the engine ended the answer too early")
        finally:
            self._active -= 1

    async def _tokenize(self, request: GenerationRequest) -> list[int]:
        size = sum(len(str(part)) for part in request.prompt) if request.prompt else 0
        if isinstance(request.prompt, str):
            size = len(request.prompt)
        if size >= LONG_PROMPT_CHARACTERS:
            prompt = await asyncio.to_thread(self.encode_prompt, request)
        else:
            prompt = self.encode_prompt(request)
        if not prompt:
            raise BadRequest("the prompt is empty: give at least one token of text")
        return prompt

    def encode_prompt(self, request: GenerationRequest) -> list[int]:
        """Token ids of a text, of chat messages by the chat template, or those given."""
        prompt = request.prompt
        if isinstance(prompt, str):
            ids: list[int] = self.tokenizer(prompt)["input_ids"]
            return ids
        if prompt and isinstance(prompt[0], int):
            return self._check_ids(prompt)
        if not self.tokenizer.chat_template:
            raise BadRequest(
                "the model has no chat template: send a plain text prompt, or save a chat template"
                " with the tokenizer",
                code="no_chat_template",
            )
        try:
            ids = self.tokenizer.apply_chat_template(
                prompt,
                tools=request.tools,
                add_generation_prompt=not request.continue_final_message,
                continue_final_message=request.continue_final_message,
                tokenize=True,
                return_dict=True,
            )["input_ids"]
        except Exception as error:  # templates raise whatever their authors chose
            raise BadRequest(f"the chat template refuses these messages: {error}") from error
        return ids

    def _check_ids(self, prompt: list[Any]) -> list[int]:
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        for index, token in enumerate(prompt):
            if not isinstance(token, int) or not 0 <= token < vocabulary:
                raise BadRequest(
                    f"prompt[{index}]={token!r} is not a token id from 0 to {vocabulary - 1}"
                )
        return list(prompt)

    def _limit(self, sampling: Sampling, prompt: int) -> Sampling:
        """Resolves max_new_tokens and refuses what does not fit into the context."""
        room = self.context - prompt
        if room < 1:
            raise BadRequest(
                f"the prompt has {prompt} tokens, the model's context is {self.context}:"
                " shorten the prompt",
                code="context_length_exceeded",
            )
        wanted = sampling.max_new_tokens
        if wanted is None:
            return replace(sampling, max_new_tokens=min(self.settings.max_new_tokens, room))
        if wanted > room:
            raise BadRequest(
                f"max_new_tokens={wanted} and a prompt of {prompt} tokens exceed the context of"
                f" {self.context}: ask for at most {room}",
                code="context_length_exceeded",
            )
        return sampling

    def stats(self) -> dict[str, float]:
        """See the protocol."""
        return {"active_generations": self._active, "generated_tokens_total": self._tokens_total}


class _Writer:
    """Turns the token chunks of one answer into deltas."""

    def __init__(
        self, tokenizer: Any, sampling: Sampling, eos: frozenset[int], prompt: int, stream: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._decoder = IncrementalDecoder(tokenizer)
        self._stop = StopMatcher(sampling.stop)
        self._limit = sampling.max_new_tokens or 0
        self._eos = frozenset() if sampling.ignore_eos else eos
        self._prompt = prompt
        self._stream = stream
        self._count = 0
        self._pending = TokenChunk(())
        self._text = ""
        self.finished = False

    def write(self, chunk: TokenChunk) -> Delta | None:
        """The delta to send for a chunk, None while there is nothing to send yet."""
        self._count += len(chunk.tokens)
        self._pending = TokenChunk(
            self._pending.tokens + chunk.tokens, self._pending.logprobs + chunk.logprobs
        )
        reason = None
        if chunk.tokens and chunk.tokens[-1] in self._eos:
            reason = "stop"
        elif self._count >= self._limit:
            reason = "length"
        text = self._stop.push(
            self._decoder.push(chunk.tokens, last=reason is not None), last=reason is not None
        )
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
        )
        self._pending, self._text = TokenChunk(()), ""
        return delta


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a sequence: the generation config's, else the model's, the tokenizer's."""
    for source in (model.generation_config, model.config, tokenizer):
        value = getattr(source, "eos_token_id", None)
        if value is not None:
            return frozenset(value if isinstance(value, list) else [value])
    return frozenset()


def context_length(config: Any, tokenizer: Any) -> int:
    """Tokens of prompt and answer together that the model can take."""
    text_config = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        value = getattr(text_config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    length = tokenizer.model_max_length
    return int(length) if 0 < length < loading.UNSET_LENGTH else 4096


class PlainGenerator(TextGenerator):
    """`model.generate`, one request after the other: for models without paged attention."""

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model, tokenizer, settings)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._last_token = time.monotonic()
        self._busy = False
        self._thread = threading.Thread(target=self._work, name="sm-serve-generate", daemon=True)
        self._thread.start()

    @classmethod
    def load(cls, artefact: Artefact, settings: Settings) -> PlainGenerator:
        """Loads model and tokenizer; StartupError says what the artefact lacks."""
        tokenizer = loading.load_tokenizer(artefact, settings)
        return cls(loading.load_model(artefact, settings), tokenizer, settings)

    def health(self) -> str | None:
        """See the protocol."""
        if not self._thread.is_alive():
            return "the generation thread is not running"
        if self._busy and time.monotonic() - self._last_token > self.settings.stall_timeout:
            return f"no token for over {self.settings.stall_timeout:g} s"
        return None

    def close(self) -> None:
        """See the protocol."""
        self._jobs.put(None)

    async def run_tokens(
        self, prompt: list[int], sampling: Sampling, *, incremental: bool
    ) -> AsyncGenerator[TokenChunk]:
        """Queues the request and yields its tokens one by one."""
        reason = self.health()
        if reason is not None:
            raise NotReady(f"the model does not answer: {reason}")
        job = _Job(prompt, sampling)
        self._jobs.put(job)
        try:
            while True:
                item = await job.output.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    return
                yield TokenChunk((item,))
        finally:
            job.cancelled = True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.cancelled:
                continue
            self._busy, self._last_token = True, time.monotonic()
            try:
                self._run(job)
                job.send(None)
            except Exception as error:
                logger.exception("generation failed")
                job.send(EngineError(f"generation failed ({type(error).__name__})"))
            finally:
                self._busy = False

    def _run(self, job: _Job) -> None:
        import torch
        from transformers import StoppingCriteriaList

        if job.sampling.seed is not None:
            torch.manual_seed(job.sampling.seed)
        ids = torch.tensor([job.prompt], device=self.model.device)
        with torch.inference_mode():
            self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                streamer=_Streamer(job, self),
                stopping_criteria=StoppingCriteriaList([_Cancelled(job)]),
                pad_token_id=self.tokenizer.pad_token_id or min(self.eos, default=0),
                **self._arguments(job.sampling),
            )

    def _arguments(self, sampling: Sampling) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "max_new_tokens": sampling.max_new_tokens,
            "do_sample": not sampling.greedy,
            "repetition_penalty": sampling.repetition_penalty,
        }
        if sampling.ignore_eos:
            arguments["eos_token_id"] = -1
        if not sampling.greedy:
            arguments |= {
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
            }
        return arguments

    def heard(self) -> None:
        """A token came: the thread is alive."""
        self._last_token = time.monotonic()


class _Job:
    """One request of the generation thread."""

    def __init__(self, prompt: list[int], sampling: Sampling) -> None:
        self.prompt = prompt
        self.sampling = sampling
        self.cancelled = False
        self.output: asyncio.Queue[int | Exception | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def send(self, item: int | Exception | None) -> None:
        """Hands a token, an error or the end to the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self.output.put_nowait, item)


class _Streamer:
    """transformers' streamer interface: first the prompt, then every new token."""

    def __init__(self, job: _Job, engine: PlainGenerator) -> None:
        self._job = job
        self._engine = engine
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        self._engine.heard()
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self._job.send(token)

    def end(self) -> None:
        """Nothing to flush: tokens are sent as they come."""


class _Cancelled:
    """A stopping criterion that ends a request whose client has gone."""

    def __init__(self, job: _Job) -> None:
        self._job = job

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        import torch

        return torch.full((input_ids.shape[0],), self._job.cancelled, device=input_ids.device)
