"""The batcher without any model: grouping, fairness, failures, cancellation, the watchdog."""

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_serve.engines.encoders.batching import Batcher
from sm_serve.engines.encoders.flows import BatchLimits
from sm_serve.engines.turns import OWNER
from sm_serve.errors import BadInput, BadRequest, DeviceError, EngineError, NotReady


class Recorder:
    """A model that upper-cases texts and remembers its batches."""

    def __init__(self, **limits):
        self.batches = []
        self.prepared = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.batcher = Batcher(self.prepare, self.forward, BatchLimits(**limits))

    def prepare(self, inputs, parameters):
        self.prepared.append(list(inputs))
        if "bad" in inputs:
            raise BadRequest("bad input")
        return [(len(text), text) for text in inputs]

    def forward(self, items):
        self.may_run.wait(5)
        self.batches.append(items)
        if "poison" in items:
            raise RuntimeError("boom")
        if "assert" in items:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return [text.upper() for text in items]


@pytest.fixture
def recorder():
    recorders = []

    def make(**limits):
        recorders.append(Recorder(**limits))
        return recorders[-1]

    yield make
    for made in recorders:
        made.may_run.set()
        made.batcher.close()


async def hold_and_submit(model, calls):
    """Submits all calls while the worker is held in a first batch."""
    model.may_run.clear()
    first = asyncio.create_task(model.batcher.submit(["first"], {}))
    while not model.batcher._busy_since:
        await asyncio.sleep(0.001)
    tasks = [asyncio.create_task(model.batcher.submit(call, {})) for call in calls]
    await asyncio.sleep(0.01)
    return first, tasks


def test_what_waits_shares_the_next_batch_and_each_call_gets_its_own_results(recorder):
    model = recorder()

    async def run():
        first, tasks = await hold_and_submit(model, [["a", "b"], ["c"], ["d", "e", "f"]])
        model.may_run.set()
        return await asyncio.gather(first, *tasks)

    assert asyncio.run(run()) == [["FIRST"], ["A", "B"], ["C"], ["D", "E", "F"]]
    assert [len(batch) for batch in model.batches] == [1, 6]
    assert model.prepared == [["first"], ["a", "b", "c", "d", "e", "f"]]


LONG, SHORT = "x" * 500, "y" * 5


def batches_of_mixed_lengths(model):
    """The batches that a model makes of a long text, five short ones and a long one."""

    async def run():
        first, tasks = await hold_and_submit(model, [[LONG], *([[SHORT]] * 5), [LONG]])
        model.may_run.set()
        await asyncio.gather(first, *tasks)

    asyncio.run(run())
    return model.batches[1:]


def test_without_padding_length_does_not_part_what_waits(recorder):
    batches = batches_of_mixed_lengths(recorder(items=8, tokens=520, padded=False))
    # 520 tokens take the oldest and the shorts that fit beside it.
    assert [sorted(len(text) for text in batch) for batch in batches] == [
        [5, 5, 5, 5, 500],
        [5, 500],
    ]


def test_batches_hold_items_of_like_length_and_the_oldest_goes_first(recorder):
    batches = batches_of_mixed_lengths(recorder(items=8))
    assert batches == [[LONG, LONG], [SHORT] * 5]


def test_a_batch_is_of_one_adapter_and_a_rare_one_is_not_starved(recorder):
    model = recorder(items=4)
    names = ["often"] * 6 + ["rare"] + [None, "often"] * 10

    async def run():
        first, _ = await hold_and_submit(model, [])
        tasks = [
            asyncio.create_task(model.batcher.submit([f"{name}"], {"adapter_id": name}))
            for name in names
        ]
        await asyncio.sleep(0.01)
        model.may_run.set()
        return await asyncio.gather(first, *tasks)

    assert asyncio.run(run())[1:] == [[str(name).upper()] for name in names]
    waiting = model.batches[1:]
    assert all(len(set(batch)) == 1 for batch in waiting)
    assert [batch[0] for batch in waiting].index("rare") == 2
    assert len(waiting) == 4 + 1 + 3  # as full as they can be


LISTS = st.lists(st.lists(st.integers(1, 60), min_size=5, max_size=200), min_size=1, max_size=12)


@pytest.mark.slow
@settings(max_examples=15)
@given(LISTS, st.integers(1, 60), st.booleans(), st.booleans())
def test_a_lone_input_waits_for_one_batch_of_others_and_every_list_ends(
    lists, length, padded, lines
):
    """Whatever lists are there, in one call or in one call a line."""
    model = Recorder(items=8, tokens=200, padded=padded)

    async def submit(owner, texts):
        OWNER.set(owner)
        calls = [[text] for text in texts] if lines else [texts]
        answers = await asyncio.gather(*(model.batcher.submit(call, {}) for call in calls))
        return [answer for each in answers for answer in each]

    async def run():
        first, _ = await hold_and_submit(model, [])
        asked = [["x" * n for n in each] for each in lists]
        tasks = [asyncio.create_task(submit(n, each)) for n, each in enumerate(asked, start=1)]
        await asyncio.sleep(0.01)
        lone = asyncio.create_task(submit(100, ["L" * length]))
        await asyncio.sleep(0.01)
        model.may_run.set()
        await asyncio.gather(first, lone)
        assert await asyncio.gather(*tasks) == [[t.upper() for t in each] for each in asked]

    try:
        asyncio.run(run())
    finally:
        model.may_run.set()
        model.batcher.close()
    assert any("L" * length in batch for batch in model.batches[1:3])
    largest = max(map(len, model.prepared))
    assert largest <= 8 * 2  # never a whole list at once


def test_a_bad_input_of_a_long_list_is_named_by_its_place(recorder):
    class Picky(Recorder):
        def prepare(self, inputs, parameters):
            for index, text in enumerate(inputs):
                if text == "worse":
                    raise BadInput(index, " is worse")
            return super().prepare(inputs, parameters)

    model = Picky(items=4)
    try:
        with pytest.raises(BadRequest, match=r"inputs\[37\] is worse"):
            asyncio.run(model.batcher.submit(["a"] * 37 + ["worse"] + ["b"] * 9, {}))
        assert asyncio.run(model.batcher.submit(["c"], {})) == ["C"]
    finally:
        model.batcher.close()


def test_padded_tokens_bound_a_batch(recorder):
    model = recorder(tokens=100)

    async def run():
        first, tasks = await hold_and_submit(model, [["z" * 40] * 5])
        model.may_run.set()
        await asyncio.gather(first, *tasks)

    asyncio.run(run())
    assert [len(batch) for batch in model.batches] == [1, 2, 2, 1]


def test_a_bad_input_and_a_poisonous_one_fail_their_own_calls_only(recorder):
    model = recorder()

    async def run():
        first, tasks = await hold_and_submit(model, [["a"], ["bad"], ["poison"], ["b"]])
        model.may_run.set()
        return await asyncio.gather(first, *tasks, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert outcomes[1] == ["A"]
    assert isinstance(outcomes[2], BadRequest)
    assert isinstance(outcomes[3], EngineError)
    assert outcomes[4] == ["B"]
    assert model.batcher.health() is None


def test_cancelled_calls_are_dropped_before_they_are_computed(recorder):
    model = recorder()

    async def run():
        first, tasks = await hold_and_submit(model, [["gone"], ["kept"]])
        tasks[0].cancel()
        await asyncio.sleep(0)
        model.may_run.set()
        await asyncio.gather(first, tasks[1])

    asyncio.run(run())
    assert model.batches == [["first"], ["kept"]]


def test_a_stuck_batch_and_failures_in_a_row_are_unhealthy(recorder):
    stuck = recorder(stall=0.05)

    async def stall():
        first, _ = await hold_and_submit(stuck, [])
        await asyncio.sleep(0.1)
        reason = stuck.batcher.health()
        with pytest.raises(NotReady, match="busy"):
            await stuck.batcher.submit(["late"], {})
        stuck.may_run.set()
        await first
        return reason

    assert "busy with one batch" in asyncio.run(stall())
    failing = recorder()

    async def fail():
        for _ in range(3):
            with pytest.raises(EngineError):
                await failing.batcher.submit(["poison"], {})

    asyncio.run(fail())
    assert "3 batches failed" in failing.batcher.health()


def test_a_lost_gpu_makes_it_unhealthy_at_once(recorder):
    model = recorder()

    async def run():
        first, tasks = await hold_and_submit(model, [["assert"], ["a"]])
        model.may_run.set()
        return await asyncio.gather(first, *tasks, return_exceptions=True)

    first, *others = asyncio.run(run())
    assert first == ["FIRST"]
    assert all(isinstance(each, DeviceError) for each in others)
    assert len(model.batches) == 2  # halves would have failed alike
    assert "the device has failed" in model.batcher.health()


@pytest.mark.slow
def test_a_worker_that_dies_is_noticed_and_answers_those_who_wait(recorder):
    model = recorder()

    def die(items):
        raise SystemExit

    async def run():
        model.batcher._forward = die
        with pytest.raises((NotReady, asyncio.TimeoutError)):
            await asyncio.wait_for(model.batcher.submit(["a"], {}), 2)

    asyncio.run(run())
    assert "died" in model.batcher.health()


def test_closing_answers_those_who_wait(recorder):
    model = recorder()

    async def run():
        first, tasks = await hold_and_submit(model, [["a"]])
        threading.Timer(0.05, model.may_run.set).start()
        await asyncio.to_thread(model.batcher.close)
        return await asyncio.gather(first, *tasks, return_exceptions=True)

    first, waiting = asyncio.run(run())
    assert first == ["FIRST"]
    assert isinstance(waiting, NotReady)


def test_a_lone_client_does_not_wait_for_company(recorder):
    model = recorder(delay=0.5)

    async def run():
        began = time.monotonic()
        for _ in range(3):
            await model.batcher.submit(["a"], {})
        return time.monotonic() - began

    assert asyncio.run(run()) < 0.4
