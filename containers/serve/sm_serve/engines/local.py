"""Generation by a model in this process: adapters and the choice of tokens are ours."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import AsyncGenerator
from typing import Any

from sm_serve.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines import loading
from sm_serve.engines.defaults import decoder_start, greedy_config
from sm_serve.engines.generation import TextGenerator, TokenChunk
from sm_serve.engines.grammar import TOO_COMPLEX, Grammars, refused
from sm_serve.engines.hosting import BankHost
from sm_serve.engines.lora import SPOILT, AdapterBank
from sm_serve.engines.protocol import GenerationRequest, Sampling, TokenLogprob
from sm_serve.engines.sampling import Choice
from sm_serve.engines.scoring import Scorer
from sm_serve.errors import BadRequest, EngineError


class LocalGenerator(BankHost, TextGenerator):
    """A model of transformers. Subclasses run its tokens."""

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model.config, model.generation_config, tokenizer, settings)
        self.model = model
        self.grammars = Grammars(tokenizer, self.vocabulary, self._closing)
        self.generation_config = greedy_config(model)
        self._decoder_start = decoder_start(model)
        self.bank = AdapterBank(model, settings.max_adapters)
        self._scorer = Scorer(model, self.bank, self.paused)

    @classmethod
    def load(cls, artefact: Artefact, settings: Settings) -> LocalGenerator:
        """Loads model, tokenizer and adapters; StartupError says what the artefact lacks."""
        tokenizer = loading.load_tokenizer(artefact, settings)
        engine = cls.build(loading.load_model(artefact, settings), tokenizer, settings)
        engine.load_all(artefact.adapters)
        return engine

    @classmethod
    def build(cls, model: Any, tokenizer: Any, settings: Settings) -> LocalGenerator:
        """The engine of a loaded model."""
        return cls(model, tokenizer, settings)

    @abstractmethod
    def run_tokens(
        self, prompt: list[int], choice: Choice, *, incremental: bool, adapter: str | None
    ) -> AsyncGenerator[TokenChunk]:
        """Yields chunks, as they come if `incremental`, until the end of sequence or the limit."""

    def prefix_length(self, prompt: int) -> int:
        """See TextGenerator: an encoder-decoder's answer has a start of its own."""
        return prompt if self._decoder_start is None else len(self._decoder_start)

    def processors(self, prompt: list[int], sampling: Sampling) -> Any:
        """What else the checkpoint wants done to logits, where that is the choice's business."""
        return None

    async def answer(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> AsyncGenerator[TokenChunk]:
        """See TextGenerator."""
        with contextlib.ExitStack() as kept:
            kept.enter_context(self.bank.using(request.adapter))
            matcher = None
            if sampling.constraint is not None:
                matcher = await self.grammars.matcher(sampling.constraint)
                kept.callback(matcher.close)
            choice = Choice(
                sampling,
                prompt if self._decoder_start is None else self._decoder_start,
                self.ends(sampling),
                matcher,
                self.processors(prompt, sampling),
            )
            chunks = self.run_tokens(
                prompt,
                choice,
                incremental=request.stream or bool(sampling.stop),
                adapter=request.adapter,
            )
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    if choice.failure is TOO_COMPLEX and sampling.constraint is not None:
                        raise refused(sampling.constraint, TOO_COMPLEX)
                    if choice.failure is not None:
                        raise EngineError(choice.failure)
                    if request.adapter is not None and self.bank.spoilt(request.adapter):
                        raise EngineError(SPOILT)
                    yield chunk

    async def score(self, prompt: list[int], count: int, adapter: str | None) -> list[TokenLogprob]:
        """See TextGenerator."""
        if self.model.config.is_encoder_decoder:
            raise BadRequest("this model encodes its prompt: it has no log probabilities of it")
        with self.bank.using(adapter):
            return await self._scorer.score(prompt, count, adapter)
