"""Copies of a model: work is spread, health is the worst one's, adapters are in all or none."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.config import Settings
from sm_serve.engines.registry import choose_devices
from sm_serve.engines.replicas import GeneratorReplicas, PredictorReplicas, by_turns, deal
from sm_serve.errors import BadInput, BadRequest
from sm_serve.protocol import Delta, GenerationRequest, Task


class Copy:
    """A small engine of both kinds that remembers how many requests it had at once."""

    task = Task.TEXT_GENERATION

    def __init__(self):
        self.running = self.most = self.served = 0
        self.problem = None
        self.loaded = set()
        self.refuses = False

    async def predict(self, inputs, parameters):
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        self.served += 1
        return list(inputs)

    async def _deltas(self):
        await self.predict([], {})
        yield Delta("x", finish_reason="stop")

    def generate(self, request):
        return self._deltas()

    def health(self):
        return self.problem

    def stats(self):
        return {"served": self.served}

    def close(self):
        self.problem = "closed"

    def adapters(self):
        return sorted(self.loaded)

    async def load_adapter(self, name, path):
        if self.refuses:
            raise BadRequest("no")
        self.loaded.add(name)

    async def unload_adapter(self, name):
        self.loaded.discard(name)


def test_requests_go_to_the_least_busy_copy():
    async def run():
        copies = [Copy(), Copy(), Copy()]
        engine = PredictorReplicas(copies)
        answers = await asyncio.gather(*(engine.predict([n], {}) for n in range(9)))
        assert answers == [[n] for n in range(9)]
        assert [copy.most for copy in copies] == [3, 3, 3]
        assert engine.stats() == {"replicas": 3, "served": 9}
        assert engine.task is Task.TEXT_GENERATION

    asyncio.run(run())


@given(st.integers(0, 300), st.lists(st.integers(0, 100), min_size=1, max_size=9))
def test_inputs_are_dealt_so_that_all_are_busy_alike(count, loads):
    shares = deal(count, loads)
    assert sum(shares) == count
    assert min(shares) >= 0
    after = [load + share for load, share in zip(loads, shares, strict=True)]
    served = [level for level, share in zip(after, shares, strict=True) if share]
    assert all(level <= min(after) + 1 for level in served)
    dealt = by_turns(shares)
    assert sorted(itertools.chain(*dealt)) == list(range(count))
    assert [len(places) for places in dealt] == shares
    if len(set(shares)) == 1:  # a list from short to long is as much work to each
        assert all(
            abs(one - other) < len(shares)
            for rows in zip(*dealt, strict=True)
            for one, other in itertools.pairwise(rows)
        )


def test_a_list_is_all_copies_work_and_its_answers_come_in_order():
    async def run():
        copies = [Copy(), Copy(), Copy()]
        engine = PredictorReplicas(copies)
        long, lone = await asyncio.gather(engine.predict(range(10), {}), engine.predict(["a"], {}))
        assert (long, lone) == (list(range(10)), ["a"])
        assert sum(copy.served for copy in copies) == 4
        assert await engine.predict([], {}) == []

    asyncio.run(run())


def test_a_bad_input_of_a_copys_part_has_its_place_in_the_whole():
    class Picky(Copy):
        async def predict(self, inputs, parameters):
            if "bad" in inputs:
                raise BadInput(inputs.index("bad"), " is bad")
            return await super().predict(inputs, parameters)

    async def run():
        engine = PredictorReplicas([Picky(), Picky()])
        with pytest.raises(BadInput, match=r"inputs\[7\] is bad"):
            await engine.predict([*"abcdefg", "bad", "i"], {})
        assert engine._running == [0, 0]

    asyncio.run(run())


def test_a_streamed_answer_keeps_its_copy_busy():
    async def run():
        copies = [Copy(), Copy()]
        engine = GeneratorReplicas(copies)

        async def ask():
            return [d.text async for d in engine.generate(GenerationRequest("a"))]

        assert await asyncio.gather(ask(), ask()) == [["x"], ["x"]]
        assert [copy.served for copy in copies] == [1, 1]

    asyncio.run(run())


def test_health_is_that_of_the_worst_copy():
    copies = [Copy(), Copy()]
    engine = PredictorReplicas(copies)
    assert engine.health() is None
    copies[1].problem = "no step"
    assert engine.health() == "replica 1: no step"
    engine.close()
    assert copies[0].problem == "closed"


def test_an_adapter_is_in_all_copies_or_in_none(tmp_path):
    async def run():
        copies = [Copy(), Copy()]
        engine = GeneratorReplicas(copies)
        await engine.load_adapter("a", tmp_path)
        assert engine.adapters() == ["a"]
        copies[1].refuses = True
        with pytest.raises(BadRequest):
            await engine.load_adapter("b", tmp_path)
        assert [copy.adapters() for copy in copies] == [["a"], ["a"]]
        await engine.unload_adapter("a")
        assert engine.adapters() == []

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpus", "settings", "expected"),
    [
        (0, {}, [""]),
        (1, {}, [""]),
        (2, {}, ["cuda:0", "cuda:1"]),
        (4, {"replicas": 2}, ["cuda:0", "cuda:1"]),
        (4, {"device": "cuda:3"}, ["cuda:3"]),
        (0, {"replicas": 2, "device": "cpu"}, ["cpu", "cpu"]),
    ],
)
def test_every_gpu_gets_a_copy(monkeypatch, gpus, settings, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert choose_devices(Settings(**settings)) == expected
