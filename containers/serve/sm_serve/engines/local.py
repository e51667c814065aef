"""Generation by a model in this process: adapters and the choice of tokens are ours."""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import AsyncGenerator
from typing import Any, Self

from sm_serve.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines import loading
from sm_serve.engines.generation import TextGenerator, TokenChunk
from sm_serve.engines.grammar import Grammars
from sm_serve.engines.hosting import BankHost
from sm_serve.engines.lora import AdapterBank
from sm_serve.engines.protocol import GenerationRequest, Sampling, TokenLogprob
from sm_serve.engines.sampling import Choice
from sm_serve.engines.scoring import Scorer
from sm_serve.errors import BadRequest, EngineError


class LocalGenerator(BankHost, TextGenerator):
    """A model of transformers. Subclasses run its tokens."""

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model.config, model.generation_config, tokenizer, settings)
        self.model = model
        self.grammars = Grammars(tokenizer, self.vocabulary, self.eos)
        self.bank = AdapterBank(model, settings.max_adapters)
        self._scorer = Scorer(model, self.bank, self.paused)

    @classmethod
    def load(cls, artefact: Artefact, settings: Settings) -> Self:
        """Loads model, tokenizer and adapters; StartupError says what the artefact lacks."""
        tokenizer = loading.load_tokenizer(artefact, settings)
        engine = cls(loading.load_model(artefact, settings), tokenizer, settings)
        engine.load_all(artefact.adapters)
        return engine

    @abstractmethod
    def run_tokens(
        self, prompt: list[int], choice: Choice, *, incremental: bool, adapter: str | None
    ) -> AsyncGenerator[TokenChunk]:
        """Yields chunks, as they come if `incremental`, until the end of sequence or the limit."""

    async def answer(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> AsyncGenerator[TokenChunk]:
        """See TextGenerator."""
        with self.bank.using(request.adapter):
            matcher = None
            if sampling.constraint is not None:
                matcher = await asyncio.to_thread(self.grammars.matcher, sampling.constraint)
            choice = Choice(sampling, prompt, self.eos, matcher)
            chunks = self.run_tokens(
                prompt,
                choice,
                incremental=request.stream or bool(sampling.stop),
                adapter=request.adapter,
            )
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    if choice.failure is not None:
                        raise EngineError("the constraint became too complex to go on with")
                    yield chunk

    async def score(self, prompt: list[int], count: int, adapter: str | None) -> list[TokenLogprob]:
        """See TextGenerator."""
        if self.model.config.is_encoder_decoder:
            raise BadRequest("this model encodes its prompt: it has no log probabilities of it")
        with self.bank.using(adapter):
            return await self._scorer.score(prompt, count, adapter)
