"""Continuous batching of generation with transformers' paged attention.

Requests join and leave the running batch at every step. What transformers leaves open is closed
here: requests that can never fit are refused instead of killing the loop, sampling is each
request's own, a dead or stuck loop is noticed, cancelled requests are forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines.adapters import trial
from sm_serve.engines.background import in_thread
from sm_serve.engines.failures import engine_failure
from sm_serve.engines.generators import paged_attention
from sm_serve.engines.generators.defaults import build_processors
from sm_serve.engines.generators.local import LocalGenerator
from sm_serve.engines.generators.plain import PlainGenerator
from sm_serve.engines.generators.prompts import context_length
from sm_serve.engines.generators.sampling import REQUEST_CHOICE, Choice, build_processor
from sm_serve.engines.generators.search import BEAMS, Search, SearchCancelledError
from sm_serve.engines.generators.writing import TokenChunk
from sm_serve.engines.process.revival import Revival
from sm_serve.engines.turns import EXTRA_SHARE, Turns
from sm_serve.errors import BadPrompt, EngineError, NotReady, ServeError, StartupError
from sm_serve.protocol import GenerationRequest, Sampling

logger = logging.getLogger(__name__)

PAGE_TOKENS = 32
CPU_CACHE_TOKENS = (8_192, 16_384)
"""Least and most on CPU: the cache is taken at once, a smaller one is faster, RAM is shared."""
CPU_BATCH_TOKENS = 512
STOP_SECONDS = 10.0
LOOKS, LOOK_SECONDS = 5, 0.02
"""How often to look whether the loop has died with a request."""
OWN_CACHE = "adapter-"
"""Requests so named share no cached prefixes: keys and values differ from adapter to adapter."""


class ContinuousGenerator(LocalGenerator):
    """A decoder under transformers' continuous batching manager."""

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model, tokenizer, settings)
        self._own = build_processors(model, self.generation_config)
        self._any_own = bool(self._own(1, 1, {}))
        self._between = threading.Lock()
        self._searching = asyncio.Lock()
        self._searchers = Turns(0)
        self._searches = 0
        self._step_began: float | None = None
        self._ids = itertools.count()
        self._progress = (-1, time.monotonic())
        self._revival = Revival("the generation loop", self._start_again)
        self._manager = self._start(settings)
        self.context = min(self.context, self._cache_tokens())
        # A list must not fill the cache: who comes after would wait for its whole answers.
        self._room = Turns(int(self._all_cache_tokens() * EXTRA_SHARE))

    @classmethod
    def build(cls, model: Any, tokenizer: Any, settings: Settings) -> LocalGenerator:
        """A continuous batch, or plain `generate` for a model that answers otherwise in one."""
        attention = model.config._attn_implementation
        engine = None
        try:
            trials = trial.prepare(model, context_length(model.config, tokenizer))
            engine = cls(model, tokenizer, settings)
            if trial.run(trials, engine._try):
                return engine
            reason = "it answers otherwise than generate"
        except Exception as error:
            logger.debug("the trial of continuous batching failed", exc_info=True)
            reason = str(error).strip().split("\n")[0] or type(error).__name__
        if engine is not None:
            engine.close()
        model.set_attn_implementation(attention)
        kind = type(model).__name__
        if settings.engine == "continuous":
            raise StartupError(
                f"SM_SERVE_ENGINE=continuous is not for {kind} ({reason}): leave it out"
            )
        logger.warning("continuous batching is not for %s (%s): one request is answered after the"
                       " other", kind, reason)  # fmt: skip
        return PlainGenerator(model, tokenizer, settings)

    def _try(self, prompt: list[int]) -> AsyncGenerator[TokenChunk]:
        """The answer to a trial's prompt."""
        sampling = Sampling(max_new_tokens=trial.ANSWER_TOKENS)
        return self.answer(prompt, sampling, GenerationRequest(prompt, sampling))

    def _start(self, settings: Settings) -> Any:
        from transformers import ContinuousBatchingConfig, GenerationConfig
        from transformers.generation.logits_process import LogitsProcessorList

        cpu = self.model.device.type == "cpu"
        least, most = CPU_CACHE_TOKENS
        tokens = settings.kv_cache_tokens
        if cpu and not tokens:
            tokens = min(max(least, self.context), most)
        config = ContinuousBatchingConfig(
            page_size=PAGE_TOKENS if cpu else 256,
            num_blocks=-(-tokens // (PAGE_TOKENS if cpu else 256)) if tokens else None,
            max_batch_tokens=CPU_BATCH_TOKENS if cpu else None,
            max_requests_per_batch=settings.max_in_flight,
            # Rows and their requests must be known when logits are processed: no double buffering,
            # no captured graphs.
            use_async_batching=False,
            use_cuda_graph=False,
            per_request_processors=True,
        )
        # Our processor chooses; what is left to transformers is to take the most probable token.
        base = GenerationConfig(
            do_sample=False,
            eos_token_id=sorted(self.eos) or [-1],
            pad_token_id=self.padding,
        )
        manager = self.model.init_continuous_batching(
            generation_config=base, continuous_batching_config=config
        )
        if cpu and self.model.config._attn_implementation == paged_attention.USUAL:
            paged_attention.attend_by_request(self.model)
        processors = manager.logit_processor
        processors.logits_processor = LogitsProcessorList([build_processor()])
        processors.tensors_required = 1
        processors.do_processing = True
        processors._retrieve_processors_kwargs()
        manager.warmup()
        keep_prefixes_apart(manager.batch_processor.cache)
        self._hooks = [
            self.model.register_forward_pre_hook(lambda *_: self._route(manager)),
            self.model.register_forward_pre_hook(paged_attention.before_pass, with_kwargs=True),
        ]
        manager.start()
        return manager

    def _route(self, manager: Any) -> None:
        """Before a forward pass: which of its tokens go through which adapter."""
        if self.lora.empty:
            return
        routed = []
        for request in manager.batch_processor.inputs_and_outputs.requests_in_batch:
            choice = request.state.logit_processor_kwargs.get(REQUEST_CHOICE)
            routed.append((choice.adapter if choice else None, request.query_length))
        self.lora.route(routed)

    def processors(self, prompt: list[int], sampling: Sampling, options: Mapping[str, Any]) -> Any:
        """See LocalGenerator."""
        if not self._any_own and not options:
            return None
        return self._own(len(prompt), sampling.max_new_tokens or 0, options)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """See LocalGenerator: between two steps, one thread at a time."""
        with self._between, self._manager.pause():
            yield

    async def run_search(self, search: Search) -> list[list[int]]:
        """See LocalGenerator: one after the other, each owner in turn."""
        beams = search.options[BEAMS]
        cost = (len(search.prompt) + search.options["max_new_tokens"]) * beams
        if cost > (most := self._all_cache_tokens()):
            raise BadPrompt(
                f"num_beams={beams} with prompt and answer takes {cost} tokens of memory, and there"
                f" are {most}: ask for fewer beams or tokens, or raise SM_SERVE_KV_CACHE_TOKENS",
                code="context_length_exceeded",
            )
        self._searches += 1
        try:
            async with self._searchers.turn(), self._searching:
                return await asyncio.to_thread(self._find, search)
        finally:
            self._searches -= 1

    def _find(self, search: Search) -> list[list[int]]:
        try:
            return search.run(self.model, lambda: self._step_of(search))
        except (ServeError, SearchCancelledError):
            raise
        except Exception as error:
            logger.exception("a search failed")
            raise engine_failure(error, "generation failed") from error

    @contextlib.contextmanager
    def _step_of(self, search: Search) -> Iterator[None]:
        """Between two steps of the batch."""
        try:
            with self.paused(), self.lora.all_through(search.adapter):
                self._step_began = time.monotonic()
                yield
        finally:
            self._step_began = None

    def _cache_tokens(self) -> int:
        """Tokens that one request can have in an otherwise empty cache."""
        from transformers.generation.continuous_batching import model_runner

        cache = self._manager.batch_processor.cache
        return int(model_runner.infer_max_single_request_tokens(cache))

    def _all_cache_tokens(self) -> int:
        return int(self._manager.batch_processor.cache.max_tokens_read)

    async def run_tokens(
        self, prompt: list[int], choice: Choice, *, incremental: bool, adapter: str | None
    ) -> AsyncGenerator[TokenChunk]:
        """Adds the request to the running batch and yields what is new at each step."""
        manager, sampling = self._manager, choice.sampling
        choice.adapter = adapter
        name = f"{OWN_CACHE if adapter else ''}r{next(self._ids)}"
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        manager.register_result_handler(name, outputs.put_nowait)
        finished = False
        try:
            added = manager.add_request(
                prompt,
                request_id=name,
                max_new_tokens=sampling.max_new_tokens,
                streaming=incremental,
                eos_token_id=sorted(self.ends(sampling, adapter)) or -1,
                **{REQUEST_CHOICE: choice},
            )
            if added is None:
                raise NotReady(f"the model does not answer: {self.trouble() or 'it is stopping'}")
            sent = 0
            while not finished:
                output = await outputs.get()
                finished = output.is_finished()
                if output.error:
                    logger.error("generation failed: %s", output.error)
                    raise await self._why_failed()
                tokens = output.generated_tokens
                yield TokenChunk(tuple(tokens[sent:]), tuple(choice.logprobs[sent : len(tokens)]))
                sent = len(tokens)
        finally:
            if not finished:
                manager.cancel_request(name)
                manager.output_router.result_handlers.pop(name, None)

    async def _why_failed(self) -> ServeError:
        """The error of a failed request: a loop that dies fails its requests, and then says so."""
        for _ in range(LOOKS):
            if (reason := self.trouble()) is not None:
                return NotReady(f"the model does not answer: {reason}")
            await asyncio.sleep(LOOK_SECONDS)
        return EngineError("the engine failed on this request")

    def trouble(self) -> str | None:
        """See TextGenerator: the loop has died, until it runs again, or makes no step while
        requests wait. A loop that is stuck cannot be ended: the server starts anew."""
        if self._revival.lost is not None:
            return self._revival.lost
        manager = self._manager
        fatal = manager.background_thread_status.fatal_error
        if fatal is not None or not manager.is_running():
            reason = f"died ({type(fatal).__name__})" if fatal else "is not running"
            self._revival.begin(f"the generation loop {reason}")
            return self._revival.lost
        step, since = self._progress
        current = getattr(manager, "current_batch", 0)
        now = time.monotonic()
        began = self._step_began
        if began is not None and now - began > self.settings.stall_timeout:
            return f"a search has been in one step for over {self.settings.stall_timeout:g} s"
        if self._active <= self._searches or current != step:
            self._progress = (current, now)
        elif now - since > self.settings.stall_timeout:
            return f"no step of the generation loop for over {self.settings.stall_timeout:g} s"
        return None

    @property
    def mending(self) -> bool:
        """See Engine."""
        return self._revival.mending

    async def _start_again(self) -> None:
        """A new loop over the same model, with a new cache; adapters stay as they are. It must
        answer: one that starts and dies of its first request is as broken as the one before."""
        await in_thread(self._renew)
        await self._answer_own()

    def _renew(self) -> None:
        # The old cache must be gone before there is memory for a new one.
        self._end()
        self._manager.batch_processor = None
        self._progress = (-1, time.monotonic())
        self._manager = self._start(self.settings)

    def stats(self) -> dict[str, float]:
        """See the protocol."""
        manager = self._manager
        return {
            **super().stats(),
            "queue_items": manager.input_queue.qsize(),
            "batches_total": getattr(manager, "current_batch", 0),
        }

    def close(self) -> None:
        """See the protocol."""
        self._revival.close()
        self.grammars.close()
        self._end()

    def _end(self) -> None:
        """Ends the loop, and leaves the model as it was before."""
        for hook in self._hooks:
            hook.remove()
        self._manager.stop(block=True, timeout=STOP_SECONDS, hard_stop=True)
        paged_attention.attend_as_before(self.model)


def keep_prefixes_apart(cache: Any) -> None:
    """Requests with an adapter neither use nor leave cached prefixes: theirs are other values."""
    search, mark = cache.search_prefix_match, cache.mark_complete_blocks

    def search_own(request_id: str, prompt_ids: list[int]) -> int:
        return 0 if request_id.startswith(OWN_CACHE) else int(search(request_id, prompt_ids))

    def mark_shared(state: Any, complete_blocks: dict[str, int]) -> None:
        if not state.request_id.startswith(OWN_CACHE):
            mark(state, complete_blocks)

    cache.search_prefix_match, cache.mark_complete_blocks = search_own, mark_shared


def supported(artefact: Artefact) -> bool:
    """Whether the architecture has the attention layers alone that paged caches can hold."""
    import transformers

    if artefact.encoder_decoder:
        return False
    config = transformers.AutoConfig.from_pretrained(artefact.base, local_files_only=True)
    model = transformers.AutoModelForCausalLM._model_mapping.get(type(config), None)
    return bool(
        model is not None
        and getattr(model, "_supports_sdpa", False)
        and getattr(model, "_can_compile_fullgraph", True)
        and not getattr(model, "_is_stateful", False)
    )
