"""How probable the model finds a text that is given: the log probability of each prompt token.

Prompts that wait at the same time share forward passes. Those run between two steps of generation,
a piece of the prompts at a time, so that neither a long prompt nor a large vocabulary holds
everything up or takes much memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sm_serve.engines.adapters.lora import LoraAdapters
from sm_serve.engines.devices import on_device
from sm_serve.engines.failures import engine_failure, lost_device
from sm_serve.engines.generators.sampling import LEAST_LOGPROB, NOT_NUMBERS
from sm_serve.engines.turns import OWNER
from sm_serve.errors import EngineError, NotReady, ServeError
from sm_serve.protocol import TokenLogprob

logger = logging.getLogger(__name__)

LOGITS = {"cpu": 2**25, "cuda": 2**27}
"""Most values that the logits of one forward pass may have, by device."""
PIECE_TOKENS = 512
"""Most tokens of one prompt in a forward pass."""
MAX_ROWS = 16
LENGTH_RATIO = 2
"""Prompts in one batch are at most this much longer than one another."""


@dataclass(eq=False, slots=True)
class _Item:
    """A prompt that waits for its log probabilities, those of its first tokens already found."""

    prompt: Sequence[int]
    count: int
    adapter: str | None
    owner: int
    future: asyncio.Future[list[TokenLogprob]]
    logprobs: list[TokenLogprob] = field(default_factory=list)


class Scorer:
    """Log probabilities of prompts under one model of this process."""

    def __init__(
        self, model: Any, lora: LoraAdapters, paused: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self._model = model
        self._lora = lora
        self._paused = paused
        self._waiting: list[_Item] = []
        self._turn = 0
        self._worker: asyncio.Task[None] | None = None

    async def score(
        self, prompt: Sequence[int], count: int, adapter: str | None
    ) -> list[TokenLogprob]:
        """One entry for each token, with the `count` most probable ones in its place.

        The first token has nothing before it, and so no log probability.
        """
        future: asyncio.Future[list[TokenLogprob]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Item(prompt, count, adapter, OWNER.get(), future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while batch := self._take():
            await self._answer(batch)

    def _take(self) -> list[_Item]:
        """A prompt and company of its length and adapter: one of the owner that has the fewest, and
        every second time the one that has waited longest."""
        self._waiting = [item for item in self._waiting if not item.future.done()]
        if not self._waiting:
            return []
        self._turn += 1
        owners = Counter(item.owner for item in self._waiting)
        first = self._waiting[0]
        if self._turn % 2:
            first = min(self._waiting, key=lambda item: owners[item.owner])
        shortest, longest = len(first.prompt) / LENGTH_RATIO**0.5, len(first.prompt)
        longest = int(longest * LENGTH_RATIO**0.5)
        company = (
            item
            for item in self._waiting
            if item is not first
            and item.adapter == first.adapter
            and shortest <= len(item.prompt) <= longest
        )
        batch = [first, *itertools.islice(company, MAX_ROWS - 1)]
        self._waiting = [item for item in self._waiting if item not in batch]
        return batch

    async def _answer(self, batch: list[_Item]) -> None:
        """Settles the futures; a batch that fails is halved, as memory may not do for all."""
        error: Exception
        try:
            await asyncio.to_thread(self._run, batch)
        except ServeError as refusal:
            error = refusal
        except Exception as failure:
            logger.error("scoring of %d prompts failed", len(batch), exc_info=failure)
            if len(batch) > 1 and not lost_device(failure):
                await self._answer(batch[: len(batch) // 2])
                await self._answer(batch[len(batch) // 2 :])
                return
            error = engine_failure(failure, "the model failed on this prompt")
        else:
            for item in batch:
                if not item.future.done():
                    item.future.set_result(item.logprobs)
            return
        for item in batch:
            if not item.future.done():
                item.future.set_exception(error)

    def _run(self, batch: list[_Item]) -> None:
        import torch
        from transformers import DynamicCache

        longest = max(len(item.prompt) for item in batch)
        device = self._model.device
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, item in enumerate(batch):
            item.logprobs = [TokenLogprob(item.prompt[0], None)]
            ids[row, : len(item.prompt)] = torch.tensor(item.prompt)
        lengths = torch.tensor([len(item.prompt) for item in batch])
        known = (torch.arange(longest) < lengths[:, None]).long().to(device)
        ids = ids.to(device)
        width = self._width(len(batch), longest)
        cache = DynamicCache(config=self._model.config) if width < longest else None
        for start in range(0, longest, width):
            end = min(start + width, longest)
            with self._between_steps(batch[0].adapter), torch.inference_mode():
                output = self._model(
                    input_ids=ids[:, start:end],
                    attention_mask=None if bool(known.all()) else known[:, :end],
                    past_key_values=cache,
                    use_cache=cache is not None,
                )
                for row, item in enumerate(batch):
                    read(output.logits[row], item, start)

    def _width(self, rows: int, longest: int) -> int:
        """Tokens of each prompt in one forward pass."""
        if getattr(self._model, "_is_stateful", False):  # its state is no cache of keys and values
            return longest
        values = LOGITS["cpu" if self._model.device.type == "cpu" else "cuda"]
        vocabulary = int(self._model.config.get_text_config().vocab_size)
        return max(min(values // (vocabulary * rows), PIECE_TOKENS, longest), 1)

    @contextlib.contextmanager
    def _between_steps(self, adapter: str | None) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._paused())
            except RuntimeError as error:
                raise NotReady("the model does not answer: its loop is not running") from error
            stack.enter_context(self._lora.all_through(adapter))
            stack.enter_context(on_device(self._model.device))
            yield


def read(logits: Any, item: _Item, start: int) -> None:
    """Adds the log probabilities that one row's logits of the positions from `start` tell."""
    import torch

    targets = list(item.prompt[start + 1 : start + 1 + logits.shape[0]])
    if not targets:
        return
    values = logits[: len(targets)].float().log_softmax(-1).clamp(min=LEAST_LOGPROB)
    own = values.gather(1, torch.tensor(targets, device=values.device).unsqueeze(1))
    best = values.topk(min(item.count, values.shape[-1]))
    rows = zip(
        targets, own.squeeze(1).tolist(), best.indices.tolist(), best.values.tolist(), strict=True
    )
    if bool(own.isnan().any()):
        raise EngineError(NOT_NUMBERS)
    for token, logprob, others, theirs in rows:
        top = tuple(map(TokenLogprob, others, theirs))
        item.logprobs.append(TokenLogprob(token, logprob, top=top))
