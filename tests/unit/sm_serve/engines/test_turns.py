"""Turns of a language model's places: lists share them, and a lone request finds its own."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_serve.engines.background import SLICE, gather
from sm_serve.engines.turns import OWNER, Turns


@settings(max_examples=30)
@given(st.integers(0, 10), st.lists(st.integers(1, 30), min_size=1, max_size=6), st.data())
def test_extras_stay_within_the_capacity_are_dealt_alike_and_all_end(capacity, lists, data):
    costs = [[data.draw(st.integers(1, 4)) for _ in range(size)] for size in lists]
    running, extra = Counter(), []

    async def run():
        turns = Turns(capacity)

        async def one(owner, cost):
            async with turns.turn(cost):
                running[owner] += 1
                extra.append(turns._extra)
                await asyncio.sleep(0)
                running[owner] -= 1

        async def every(owner):
            OWNER.set(owner)
            await gather(one(owner, cost) for cost in costs[owner - 1])

        await asyncio.gather(*(every(owner) for owner in range(1, len(lists) + 1)))
        assert turns._extra == 0
        assert not turns._waiting
        assert not +turns._running

    asyncio.run(run())
    assert max(extra) <= capacity + 4 * len(lists)  # of each list one passes in any case


def test_a_lone_request_passes_where_lists_hold_all_that_they_may():
    async def run():
        turns, hold = Turns(3), asyncio.Event()

        async def one():
            async with turns.turn():
                await hold.wait()

        async def every():
            OWNER.set(1)
            await asyncio.gather(*(one() for _ in range(50)))

        async def lone():
            OWNER.set(2)
            async with turns.turn():
                return "passed"

        listed = asyncio.create_task(every())
        await asyncio.sleep(0.01)
        assert await asyncio.wait_for(lone(), 1) == "passed"
        hold.set()
        await listed

    asyncio.run(run())


def test_who_is_cancelled_while_waiting_or_at_the_moment_of_entry_leaves_no_trace():
    async def run():
        turns = Turns(1)

        async def one(hold):
            async with turns.turn():
                await hold

        OWNER.set(1)
        loop = asyncio.get_running_loop()
        holds = [loop.create_future() for _ in range(5)]
        tasks = [asyncio.create_task(one(hold)) for hold in holds]
        await asyncio.sleep(0)
        tasks[3].cancel()
        holds[0].set_result(None)
        holds[1].set_result(None)
        await asyncio.sleep(0)
        tasks[2].cancel()
        holds[4].set_result(None)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 2)
        assert turns._extra == 0
        assert not +turns._running
        assert not turns._waiting

    asyncio.run(run())


@settings(max_examples=30)
@given(st.integers(0, 3), st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), max_size=40))
def test_lists_whose_clients_leave_at_any_time_leave_no_trace(capacity, asked):
    """As when a request of many is cancelled: all of its tasks in one turn of the loop."""

    async def run():
        turns = Turns(capacity)

        async def one(owner, turns_of_loop):
            OWNER.set(owner)
            async with turns.turn():
                for _ in range(turns_of_loop):
                    await asyncio.sleep(0)

        tasks = [asyncio.create_task(one(*each)) for each in asked]
        await asyncio.sleep(0)
        for (owner, _), task in zip(asked, tasks, strict=True):
            if owner == 1:
                task.cancel()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert all(each is None or isinstance(each, asyncio.CancelledError) for each in results)
        assert turns._extra == 0
        assert not +turns._running
        assert not turns._waiting

    asyncio.run(run())


def test_gather_begins_a_slice_at_a_time_keeps_order_and_stops_at_a_failure():
    begun, most = Counter(), []

    async def one(number, bad=None):
        begun["now"] += 1
        begun["all"] += 1
        most.append(begun["now"])
        await asyncio.sleep(0)
        begun["now"] -= 1
        if number == bad:
            raise ValueError(number)
        return number

    assert asyncio.run(gather(one(n) for n in range(1000))) == list(range(1000))
    assert max(most) == SLICE
    assert asyncio.run(gather(iter([]))) == []
    begun.clear()
    with pytest.raises(ValueError, match="70"):
        asyncio.run(gather(one(n, 70) for n in range(1000)))
    assert begun["all"] < 300
