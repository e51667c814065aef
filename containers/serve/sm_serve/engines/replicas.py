"""Several copies of a model behind one engine: one a GPU, or on CPU several over the same weights.

The least busy one answers. An encoder's inputs are dealt out, so that a list is all copies' work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from sm_serve.errors import first_of, placing
from sm_serve.protocol import (
    AdapterHost,
    Delta,
    Engine,
    GenerationRequest,
    Generator,
    Predictor,
    Sampling,
    Task,
    TokenReader,
    is_mending,
)

E = TypeVar("E", bound=Engine)


class Replicas(Generic[E]):
    """What copies of any kind have in common; an adapter is loaded into all or into none."""

    def __init__(self, engines: Sequence[E]) -> None:
        self.engines = list(engines)
        self._running = [0] * len(self.engines)

    @property
    def task(self) -> Task:
        """See the protocol."""
        return self.engines[0].task

    @contextlib.contextmanager
    def working(self, index: int, work: int = 1) -> Iterator[E]:
        """A copy that has so much to do inside."""
        self._running[index] += work
        try:
            yield self.engines[index]
        finally:
            self._running[index] -= work

    def least_busy(self) -> AbstractContextManager[E]:
        """The copy with the fewest requests, for one of them."""
        return self.working(min(range(len(self.engines)), key=self._running.__getitem__))

    def health(self) -> str | None:
        """Broken when one copy is: its share of the requests would fail."""
        for index, engine in enumerate(self.engines):
            if (reason := engine.health()) is not None:
                return f"replica {index}: {reason}"
        return None

    @property
    def mending(self) -> bool:
        """See Engine."""
        broken = [engine for engine in self.engines if engine.health() is not None]
        return all(is_mending(engine) for engine in broken)

    def stats(self) -> Mapping[str, float]:
        """Sums over the copies."""
        total: dict[str, float] = {"replicas": len(self.engines)}
        for engine in self.engines:
            for name, value in engine.stats().items():
                total[name] = total.get(name, 0) + value
        return total

    def close(self) -> None:
        """See the protocol."""
        for engine in self.engines:
            engine.close()

    def _hosts(self) -> list[AdapterHost]:
        engines: Sequence[Engine] = self.engines
        return [engine for engine in engines if isinstance(engine, AdapterHost)]

    def adapters(self) -> list[str]:
        """See AdapterHost."""
        shared = set.intersection(*(set(host.adapters()) for host in self._hosts()))
        return sorted(shared)

    async def load_adapter(self, name: str, path: Path) -> None:
        """See AdapterHost."""
        loaded: list[AdapterHost] = []
        try:
            for host in self._hosts():
                await host.load_adapter(name, path)
                loaded.append(host)
        except BaseException:
            for host in loaded:
                await host.unload_adapter(name)
            raise

    async def unload_adapter(self, name: str) -> None:
        """See AdapterHost."""
        for host in self._hosts():
            await host.unload_adapter(name)


class PredictorReplicas(Replicas[Predictor]):
    """Copies of an encoder."""

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """See Predictor."""
        shares = deal(len(inputs), self._running)
        if max(shares) == len(inputs):
            with self.working(shares.index(len(inputs)), len(inputs)) as engine:
                return await engine.predict(inputs, parameters)
        dealt = {index: places for index, places in enumerate(by_turns(shares)) if places}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    index: group.create_task(self._part(index, inputs, places, parameters))
                    for index, places in dealt.items()
                }
        except ExceptionGroup as failures:
            raise first_of(failures) from None
        results: list[Any] = [None] * len(inputs)
        for index, places in dealt.items():
            for place, result in zip(places, tasks[index].result(), strict=True):
                results[place] = result
        return results

    async def _part(
        self,
        index: int,
        inputs: Sequence[Any],
        places: Sequence[int],
        parameters: Mapping[str, Any],
    ) -> list[Any]:
        """The results of some of the inputs, by one copy."""
        mine = [inputs[place] for place in places]
        with self.working(index, len(mine)) as engine, placing(lambda at: (places[at], "")):
            return await engine.predict(mine, parameters)


def deal(count: int, loads: Sequence[int]) -> list[int]:
    """How many of `count` inputs each gets that has so much to do, to be busy alike in the end."""
    order = sorted(range(len(loads)), key=loads.__getitem__)
    level = 0
    while order:
        level = (count + sum(loads[index] for index in order)) // len(order)
        if level >= loads[order[-1]]:
            break
        order.pop()  # it has more to do than the others will have
    shares = [0] * len(loads)
    for index in order:
        shares[index] = level - loads[index]
    for index in order[: count - sum(shares)]:
        shares[index] += 1
    return shares


def by_turns(shares: Sequence[int]) -> list[list[int]]:
    """The places of the inputs that each gets. A list may be sorted: none gets its long end."""
    turns = sorted(
        ((turn + 0.5) / share, index) for index, share in enumerate(shares) for turn in range(share)
    )
    dealt: list[list[int]] = [[] for _ in shares]
    for place, (_, index) in enumerate(turns):
        dealt[index].append(place)
    return dealt


class GeneratorReplicas(Replicas[Generator]):
    """Copies of a language model."""

    @property
    def chat_template(self) -> str:
        """See Generator."""
        return self.engines[0].chat_template

    @property
    def defaults(self) -> Sampling:
        """See Generator."""
        return self.engines[0].defaults

    def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """See Generator."""
        return self._generate(request)

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[Delta]:
        with self.least_busy() as engine:
            async for delta in engine.generate(request):
                yield delta

    @property
    def context(self) -> int:
        """See TokenReader."""
        return self._reader().context

    async def tokens(self, request: GenerationRequest) -> list[int]:
        """See TokenReader."""
        return await self._reader().tokens(request)

    def token_text(self, token: int) -> str:
        """See TokenReader."""
        return self._reader().token_text(token)

    def text_of(self, tokens: Sequence[Any]) -> str:
        """See TokenReader."""
        return self._reader().text_of(tokens)

    def _reader(self) -> TokenReader:
        return cast(TokenReader, self.engines[0])
