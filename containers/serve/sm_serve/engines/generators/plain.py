"""`model.generate` for models without paged attention: one request after the other, or in batches.

Of an encoder-decoder all answers begin at the same place, so that requests with equal parameters
can be answered together, and each as if alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

from sm_serve.config import Settings
from sm_serve.engines.devices import on_device
from sm_serve.engines.failures import engine_failure
from sm_serve.engines.generators.local import LocalGenerator
from sm_serve.engines.generators.sampling import Choice, choose
from sm_serve.engines.generators.search import Search, SearchCancelledError
from sm_serve.engines.generators.writing import TokenChunk
from sm_serve.engines.turns import EXTRA_SHARE, Turns
from sm_serve.errors import DeviceError, EngineError, NotReady
from sm_serve.protocol import Sampling

logger = logging.getLogger(__name__)

BATCHED = frozenset({
    *("bart", "blenderbot", "blenderbot-small", "m2m_100", "marian", "mbart", "mt5", "pegasus"),
    *("plbart", "t5", "umt5"),
})  # fmt: skip
"""Model types whose encoders heed the mask alone: padding changes no answer. Others may attend in
blocks, or share experts among the rows of a batch."""


class PlainGenerator(LocalGenerator):
    """A thread that takes one request after the other, with those behind it that are alike."""

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model, tokenizer, settings)
        self._most = settings.batch_size if model.config.model_type in BATCHED else 1
        # An owner has one in the queue, and lists share a part of the next batch.
        self._places = Turns(int(self._most * EXTRA_SHARE))
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._last_token = time.monotonic()
        self._busy = False
        self._running = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="sm-serve-generate", daemon=True)
        self._thread.start()

    def paused(self) -> AbstractContextManager[Any]:
        """See LocalGenerator: between two requests."""
        return self._running

    def trouble(self) -> str | None:
        """See TextGenerator."""
        if not self._thread.is_alive():
            return "the generation thread is not running"
        if self._busy and time.monotonic() - self._last_token > self.settings.stall_timeout:
            return f"no token for over {self.settings.stall_timeout:g} s"
        return None

    def close(self) -> None:
        """See the protocol."""
        self.grammars.close()
        with self._wake:
            self._closed = True
            self._wake.notify()

    async def run_tokens(
        self, prompt: list[int], choice: Choice, *, incremental: bool, adapter: str | None
    ) -> AsyncGenerator[TokenChunk]:
        """Queues the request and yields its tokens one by one."""
        reason = self.trouble()
        if reason is not None:
            raise NotReady(f"the model does not answer: {reason}")
        job = _Job(prompt, choice, adapter, self.ends(choice.sampling, adapter))
        told = 0
        self._queue(job)
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
        job = _Job(search.prompt, Choice(Sampling()), search.adapter, search=search)
        self._queue(job)
        outcome = await job.output.get()
        if isinstance(outcome, Exception):
            raise outcome
        return cast("list[list[int]]", outcome)

    def _queue(self, job: _Job) -> None:
        with self._wake:
            self._jobs.append(job)
            self._wake.notify()

    def _take(self) -> list[_Job]:
        """The job that has waited longest, and those alike that fit beside it; none at the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._jobs or self._closed)
            waiting = [job for job in self._jobs if not job.gone]
            batch, longest = waiting[: 0 if self._closed else 1], 0
            for job in waiting[1:] if batch else ():
                longest = max(longest, len(batch[0].prompt), len(job.prompt))
                if len(batch) == self._most or not batch[0].alike(job):
                    continue
                if (len(batch) + 1) * longest <= self.settings.batch_tokens:
                    batch.append(job)
            self._jobs = deque(job for job in waiting if job not in batch)
        return batch

    def _work(self) -> None:
        while not self._closed:
            jobs = self._take()
            if not jobs:
                continue
            self._busy, self._last_token = True, time.monotonic()
            try:
                with self._running, on_device(self.model.device):
                    self.lora.route_all(jobs[0].adapter)
                    search = jobs[0].search
                    self._find(jobs[0], search) if search else self._answer(jobs)
            except SearchCancelledError:
                logger.debug("a search was given up")
            except Exception as error:
                _end(jobs, _failure(error, len(jobs)))
            finally:
                self._busy = False
        for job in self._jobs:
            job.send(NotReady("the model does not answer: the server is stopping"))

    def _answer(self, jobs: Sequence[_Job]) -> None:
        """Halves a failed batch (too little memory, one poisonous prompt), fails a lone request.

        Each half goes on behind the tokens that its requests have been told.
        """
        failure: EngineError | None = None
        try:
            self._run(jobs)
        except Exception as error:  # its frames hold what the batch took: go on without them
            failure = _failure(error, len(jobs))
        if failure is None or len(jobs) == 1 or isinstance(failure, DeviceError):
            _end(jobs, failure)
            return
        left = [job for job in jobs if not (job.ended or job.gone)]
        _end([job for job in jobs if job not in left], None)
        middle = len(left) // 2
        for half in (left[:middle], left[middle:]):
            if half:
                self._answer(half)

    def _run(self, jobs: Sequence[_Job]) -> None:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        first = jobs[0].choice
        told = len(jobs[0].told)
        sizes = [len(job.prompt) for job in jobs]
        rows = [[*job.prompt, *[self.padding] * (max(sizes) - len(job.prompt))] for job in jobs]
        ids = torch.tensor(rows, device=self.model.device)
        places = torch.arange(max(sizes), device=ids.device)
        with torch.inference_mode():
            self.model.generate(
                ids,
                attention_mask=(places < torch.tensor(sizes, device=ids.device)[:, None]).long(),
                streamer=_Streamer(jobs, self),
                stopping_criteria=StoppingCriteriaList([_Cancelled(jobs)]),
                pad_token_id=self.padding,
                max_new_tokens=jobs[0].left,
                generation_config=self.generation_config,
                logits_processor=LogitsProcessorList([_choosing(jobs)]),
                eos_token_id=sorted(jobs[0].ends) or -1,
                **first.options,
                **(self._behind(jobs, told) if told else {}),
            )

    def _behind(self, jobs: Sequence[_Job], told: int) -> dict[str, Any]:
        """Options of `generate` to go on with the answers of an encoder-decoder."""
        import torch

        start = self._decoder_start or []
        answers = torch.tensor([[*start, *job.told] for job in jobs], device=self.model.device)
        least = self.generation_config.min_new_tokens
        return {
            "decoder_input_ids": answers,
            # Both are counted from where `generate` begins.
            "min_new_tokens": max(least - told, 0) if least else None,
            "begin_suppress_tokens": None,
        }

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
        ends: frozenset[int] = frozenset(),
        search: Search | None = None,
    ) -> None:
        self.prompt = prompt
        self.choice = choice
        self.adapter = adapter
        self.ends = ends
        self.search = search
        self.told: list[int] = []
        self.cancelled = self.ended = False
        self.output: asyncio.Queue[Any] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    @property
    def left(self) -> int:
        """How many tokens of its answer may still come."""
        return (self.choice.sampling.max_new_tokens or 0) - len(self.told)

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it."""
        return self.cancelled or (self.search is not None and self.search.cancelled)

    def alike(self, other: _Job) -> bool:
        """Whether one call of `generate` can answer both; each row has a choice of its own."""
        if self.search or other.search:
            return False
        mine, its = self.choice, other.choice
        return (
            (self.adapter, self.ends, mine.options) == (other.adapter, other.ends, its.options)
            # Some models force how an answer of full length ends.
            and mine.sampling.max_new_tokens == its.sampling.max_new_tokens
        )

    def send(self, item: Any) -> None:
        """Hands a token, what a search has found, an error or the end to the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self.output.put_nowait, item)


def _failure(error: Exception, rows: int) -> EngineError:
    """What the clients of a failed batch are told; the log has the rest."""
    if not isinstance(error, EngineError):
        logger.error("generation failed for a batch of %d", rows, exc_info=error)
    return engine_failure(error, "generation failed")


def _end(jobs: Sequence[_Job], end: EngineError | None) -> None:
    for job in jobs:
        job.send(end)


def _choosing(jobs: Sequence[_Job]) -> Any:
    """Each row's choice, as a logits processor of `generate` after those of the model's config."""
    from transformers import LogitsProcessor

    class Choosing(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            over = Choice(Sampling())
            return choose(scores, [over if j.ended or j.gone else j.choice for j in jobs])

    return Choosing()


class _Streamer:
    """transformers' streamer interface: first the prompt, then every new token."""

    def __init__(self, jobs: Sequence[_Job], engine: PlainGenerator) -> None:
        self._jobs = jobs
        self._engine = engine
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        self._engine.heard()
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for job, token in zip(self._jobs, value.flatten().tolist(), strict=True):
            if not job.ended:
                job.told.append(token)
                job.send(token)
                job.ended = not job.left or token in job.ends

    def end(self) -> None:
        """Nothing to flush: tokens are sent as they come."""


class _Cancelled:
    """A stopping criterion that ends requests whose clients have gone."""

    def __init__(self, jobs: Sequence[_Job]) -> None:
        self._jobs = jobs

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        import torch

        return torch.tensor([job.cancelled for job in self._jobs], device=input_ids.device)
