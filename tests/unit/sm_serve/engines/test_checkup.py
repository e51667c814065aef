"""Whose fault failures are: requests' own, the engine's, the device's."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.engines import failures
from sm_serve.engines.failures import Checkup, engine_failure, lost_device
from sm_serve.errors import DeviceError, EngineError


class AcceleratorError(RuntimeError):
    """As torch has it."""


def caused(error):
    try:
        raise ValueError("the script's own") from error
    except ValueError as outer:
        return outer


LOST = [
    AcceleratorError("CUDA error: an illegal memory access was encountered"),
    AcceleratorError("HIP error: unspecified launch failure"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    caused(AcceleratorError("CUDA error: misaligned address")),
]
NOT_LOST = [
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: invalid configuration argument"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    ValueError("CUDA error: device-side assert triggered"),
    MemoryError(),
]


@pytest.mark.parametrize("error", LOST, ids=str)
def test_a_lost_device_is_told_at_once_and_for_good(error):
    assert lost_device(error)
    assert isinstance(engine_failure(error, "generation failed"), DeviceError)

    async def run():
        checkup = Checkup(nothing)
        checkup.failed(error)
        assert "the device has failed" in checkup.reason
        checkup.succeeded()  # begun before
        assert checkup.reason is not None

    asyncio.run(run())


@pytest.mark.parametrize("error", NOT_LOST, ids=str)
def test_a_device_that_goes_on_is_not_lost(error):
    assert not lost_device(error)
    assert type(engine_failure(error, "generation failed")) is EngineError


async def nothing():
    """An engine that answers."""


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.slow
@given(st.lists(st.booleans(), max_size=20))
def test_clients_alone_cannot_make_a_sound_engine_unhealthy(outcomes):
    asked = 0

    async def ask():
        nonlocal asked
        asked += 1

    async def run():
        checkup = Checkup(ask)
        row = expected = 0
        for good in outcomes:
            checkup.succeeded() if good else checkup.failed(EngineError("mine"))
            await settle()
            row = 0 if good else row + 1
            if row == failures.MAX_CONSECUTIVE_FAILURES:
                row, expected = 0, expected + 1
            assert checkup.reason is None
        assert asked == expected

    asyncio.run(run())


@pytest.mark.parametrize("by", ["its own trial", "a request that was under way"])
def test_an_engine_that_fails_its_own_trial_is_broken_until_it_answers(monkeypatch, by):
    monkeypatch.setattr(failures, "TRIAL_SECONDS", 0.001)
    sound = False

    async def ask():
        if not sound:
            raise EngineError("nothing at all")

    async def run():
        nonlocal sound
        checkup = Checkup(ask)
        for _ in range(3):
            assert checkup.reason is None
            checkup.failed(EngineError("a request"))
        await settle()
        assert "3 requests failed in a row" in checkup.reason
        sound = by == "its own trial"
        if not sound:
            checkup.succeeded()
            assert checkup.reason is None
            return
        async with asyncio.timeout(2):
            while checkup.reason is not None:
                await asyncio.sleep(0.001)

    asyncio.run(run())
