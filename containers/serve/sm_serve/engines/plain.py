"""`model.generate`, one request after the other: for models without paged attention."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

from sm_serve.config import Settings
from sm_serve.engines.devices import on_device
from sm_serve.engines.local import LocalGenerator
from sm_serve.engines.protocol import Sampling
from sm_serve.engines.sampling import Choice, choose
from sm_serve.engines.search import Search, SearchCancelledError
from sm_serve.engines.turns import Turns
from sm_serve.engines.writing import TokenChunk
from sm_serve.errors import EngineError, NotReady

logger = logging.getLogger(__name__)


class PlainGenerator(LocalGenerator):
    """A thread that takes one request after the other."""

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model, tokenizer, settings)
        self._places = Turns(0)  # one after the other: an owner has one in the queue
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._last_token = time.monotonic()
        self._busy = False
        self._running = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="sm-serve-generate", daemon=True)
        self._thread.start()

    def paused(self) -> AbstractContextManager[Any]:
        """See LocalGenerator: between two requests."""
        return self._running

    def health(self) -> str | None:
        """See the protocol."""
        if not self._thread.is_alive():
            return "the generation thread is not running"
        if self._busy and time.monotonic() - self._last_token > self.settings.stall_timeout:
            return f"no token for over {self.settings.stall_timeout:g} s"
        return None

    def close(self) -> None:
        """See the protocol."""
        self.grammars.close()
        self._jobs.put(None)

    async def run_tokens(
        self, prompt: list[int], choice: Choice, *, incremental: bool, adapter: str | None
    ) -> AsyncGenerator[TokenChunk]:
        """Queues the request and yields its tokens one by one."""
        reason = self.health()
        if reason is not None:
            raise NotReady(f"the model does not answer: {reason}")
        job = _Job(prompt, choice, adapter)
        told = 0
        self._jobs.put(job)
        try:
            while True:
                item = await job.output.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    return
                yield TokenChunk((item,), tuple(choice.logprobs[told : told + 1]))
                told += 1
        finally:
            job.cancelled = True

    async def run_search(self, search: Search) -> list[list[int]]:
        """See LocalGenerator."""
        job = _Job(search.prompt, Choice(Sampling()), search.adapter, search)
        self._jobs.put(job)
        found = await job.output.get()
        if isinstance(found, Exception):
            raise found
        return cast("list[list[int]]", found)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.gone:
                continue
            self._busy, self._last_token = True, time.monotonic()
            try:
                with self._running, on_device(self.model.device):
                    self.bank.route_all(job.adapter)
                    self._find(job, job.search) if job.search else self._run(job)
                job.send(None)
            except SearchCancelledError:
                logger.debug("a search was given up")
            except EngineError as error:
                job.send(error)
            except Exception as error:
                logger.exception("generation failed")
                job.send(EngineError(f"generation failed ({type(error).__name__})"))
            finally:
                self._busy = False

    def _run(self, job: _Job) -> None:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        sampling = job.choice.sampling
        ids = torch.tensor([job.prompt], device=self.model.device)
        with torch.inference_mode():
            self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                streamer=_Streamer(job, self),
                stopping_criteria=StoppingCriteriaList([_Cancelled(job)]),
                pad_token_id=self.padding,
                max_new_tokens=sampling.max_new_tokens,
                generation_config=self.generation_config,
                logits_processor=LogitsProcessorList([_choosing(job.choice)]),
                eos_token_id=sorted(self.ends(sampling)) or -1,
                **job.choice.options,
            )

    def _find(self, job: _Job, search: Search) -> None:
        @contextlib.contextmanager
        def step() -> Iterator[None]:
            yield
            self.heard()

        job.send(search.run(self.model, step))

    def heard(self) -> None:
        """A token came: the thread is alive."""
        self._last_token = time.monotonic()


class _Job:
    """One request of the generation thread."""

    def __init__(
        self,
        prompt: list[int],
        choice: Choice,
        adapter: str | None,
        search: Search | None = None,
    ) -> None:
        self.prompt = prompt
        self.choice = choice
        self.adapter = adapter
        self.search = search
        self.cancelled = False
        self.output: asyncio.Queue[Any] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it."""
        return self.cancelled or (self.search is not None and self.search.cancelled)

    def send(self, item: Any) -> None:
        """Hands a token, what a search has found, an error or the end to the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self.output.put_nowait, item)


def _choosing(choice: Choice) -> Any:
    """The choice as a logits processor of `generate`, after those that the model's config adds."""
    from transformers import LogitsProcessor

    class Choosing(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            return choose(scores, [choice])

    return Choosing()


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
