"""Generation by a model in this process: adapters and the choice of tokens are ours."""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines import loading
from sm_serve.engines.adapters.host import LoraHost
from sm_serve.engines.adapters.lora import SPOILT, LoraAdapters
from sm_serve.engines.encoders.long_text import tokenize_heads
from sm_serve.engines.generators.adapter_settings import read_settings
from sm_serve.engines.generators.base import TextGenerator
from sm_serve.engines.generators.defaults import answer_tokens, decoder_start, greedy_config
from sm_serve.engines.generators.grammar import TOO_COMPLEX, Grammars, refused
from sm_serve.engines.generators.languages import SOURCE, TARGET
from sm_serve.engines.generators.pipeline_task import PipelineTask, task_parameters
from sm_serve.engines.generators.sampling import Choice
from sm_serve.engines.generators.scoring import Scorer
from sm_serve.engines.generators.search import ALONE, BEAMS, Search, check_search, choosing_options
from sm_serve.engines.generators.writing import TokenChunk
from sm_serve.errors import BadRequest, EngineError
from sm_serve.protocol import GenerationRequest, Sampling, TokenLogprob


class LocalGenerator(LoraHost, TextGenerator):
    """A model of transformers. Subclasses run its tokens, and its searches."""

    searches = True

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model.config, model.generation_config, tokenizer, settings)
        self.model = model
        self.grammars = Grammars(tokenizer, self.vocabulary, self._closing)
        self.generation_config = greedy_config(model)
        self.pipe = PipelineTask(tokenizer)
        self._own_beams = int(model.generation_config.num_beams or 1)
        self._decoder_start = decoder_start(model)
        if self._decoder_start is not None:
            own = answer_tokens(model.generation_config, len(self._decoder_start))
            self.answer_tokens = own or self.answer_tokens
        self.lora = LoraAdapters(model, settings.max_adapters)
        self._scorer = Scorer(model, self.lora, self.paused)

    @classmethod
    def load(cls, artefact: Artefact, settings: Settings) -> LocalGenerator:
        """Loads model, tokenizer and adapters; StartupError says what the artefact lacks."""
        tokenizer = loading.load_tokenizer(artefact, settings)
        model = loading.load_model(artefact, settings)
        prefix, parameters = task_parameters(artefact.config, settings.task)
        model.generation_config.update(**parameters)
        engine = cls.build(model, tokenizer, settings)
        engine.pipe = PipelineTask(tokenizer, settings.task or "", prefix)
        engine.load_all(artefact.adapters)
        return engine

    @classmethod
    def build(cls, model: Any, tokenizer: Any, settings: Settings) -> LocalGenerator:
        """The engine of a loaded model."""
        return cls(model, tokenizer, settings)

    def _load(self, name: str, path: Path) -> None:
        start = None if self._decoder_start is None else len(self._decoder_start)
        told = (name, path, self.model.generation_config, self.chat_template, start)
        settings = read_settings(*told)
        super()._load(name, path)
        self.adapter_settings[name] = settings

    def _remove(self, name: str) -> None:
        super()._remove(name)
        self.adapter_settings.pop(name, None)

    @abstractmethod
    def run_tokens(
        self, prompt: list[int], choice: Choice, *, incremental: bool, adapter: str | None
    ) -> AsyncGenerator[TokenChunk]:
        """Yields chunks, as they come if `incremental`, until the end of sequence or the limit."""

    @abstractmethod
    async def run_search(self, search: Search) -> list[list[int]]:
        """The new tokens of the best answers; the search's `cancelled` ends it early."""

    def check_beams(self, request: GenerationRequest) -> GenerationRequest:
        """See TextGenerator: with the number of beams, and the languages of a translation."""
        if request.cut and self._decoder_start is None:
            return super().check_beams(request)
        beams = self.pipe.choose_languages(request.beams, as_pipeline=request.as_pipeline)
        own = request.as_pipeline and not request.stream
        usual = self.settings_of(request.adapter).beams or self._own_beams
        beams.setdefault(BEAMS, usual if own else 1)
        request = replace(request, beams=beams)
        check_search(request)
        return request

    def prefix_length(self, prompt: int) -> int:
        """See TextGenerator: an encoder-decoder's answer has a start of its own."""
        return prompt if self._decoder_start is None else len(self._decoder_start)

    def room(self, prompt: int) -> int:
        """See TextGenerator: of an encoder-decoder prompt and answer have each a context."""
        if self._decoder_start is None or prompt > self.context:
            return super().room(prompt)
        return self.context - len(self._decoder_start)

    def encode_text(self, text: str, request: GenerationRequest) -> list[int]:
        """See TextGenerator: as the pipeline of the task reads it, where that is asked for."""
        if request.as_pipeline:
            text = self.pipe.prefix + text
        learnt = self.settings_of(request.adapter).prompt_tokens
        longest: Any = min(self.context, learnt or self.tokenizer.model_max_length)
        if SOURCE in request.beams:
            cut = {"truncation": True, "max_length": longest} if request.cut else {}
            languages = request.beams[SOURCE], request.beams[TARGET]
            return self.pipe.languages.encode(text, *languages, **cut)
        if request.cut:
            ids: list[int] = tokenize_heads(self.tokenizer, [text], longest)["input_ids"][0]
            return ids
        return super().encode_text(text, request)

    def own_options(self, beams: Mapping[str, Any], adapter: str | None) -> dict[str, Any]:
        """What a request and its adapter say otherwise than the checkpoint, as keywords of
        `generate`."""
        options = dict(self.settings_of(adapter).options)
        if "no_repeat_ngram_size" in beams:
            options["no_repeat_ngram_size"] = beams["no_repeat_ngram_size"]
        if "min_length" in beams:  # said by Sampling
            options["min_length"] = 0
        if TARGET in beams:
            options["forced_bos_token_id"] = self.pipe.languages.tokens[beams[TARGET]]
        return options

    def processors(self, prompt: list[int], sampling: Sampling, options: Mapping[str, Any]) -> Any:
        """What else the checkpoint and the request want done to logits, where that is the choice's
        business."""
        return None

    async def answer(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> AsyncGenerator[TokenChunk]:
        """See TextGenerator."""
        with contextlib.ExitStack() as kept:
            kept.enter_context(self.lora.using(request.adapter))
            matcher = None
            if sampling.constraint is not None:
                matcher = await self.grammars.matcher(sampling.constraint)
                kept.callback(matcher.close)
            options = self.own_options(request.beams, request.adapter)
            choice = Choice(
                sampling,
                prompt if self._decoder_start is None else self._decoder_start,
                self.ends(sampling, request.adapter),
                matcher,
                self.processors(prompt, sampling, options),
            )
            choice.options = options
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
                    self._check_adapter(request.adapter)
                    yield chunk

    def _check_adapter(self, adapter: str | None) -> None:
        if adapter is not None and self.lora.spoilt(adapter):
            raise EngineError(SPOILT)

    async def search(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> list[list[int]]:
        """See TextGenerator."""
        beams = request.beams
        options = {
            **choosing_options(sampling),
            **self.own_options(beams, request.adapter),
            **self.settings_of(request.adapter).search,
            **{name: beams[name] for name in (BEAMS, *ALONE) if name in beams},
            "num_return_sequences": request.sequences,
            "eos_token_id": sorted(self.ends(sampling, request.adapter)) or -1,
            "pad_token_id": self.padding,
        }
        search = Search(prompt, options, request.adapter)
        with self.lora.using(request.adapter):
            try:
                outcome = await self.run_search(search)
            except asyncio.CancelledError:
                search.cancelled = True
                raise
            self._check_adapter(request.adapter)
        return outcome

    @property
    def padding(self) -> int:
        """The token that fills a batch up."""
        return int(self.tokenizer.pad_token_id or min(self.eos, default=0))

    async def score(self, prompt: list[int], count: int, adapter: str | None) -> list[TokenLogprob]:
        """See TextGenerator."""
        if self.model.config.is_encoder_decoder:
            raise BadRequest("this model encodes its prompt: it has no log probabilities of it")
        with self.lora.using(adapter):
            return await self._scorer.score(prompt, count, adapter)
