"""The most requests a second within a limit of latency: searched as on servers that we know."""

from __future__ import annotations

import math
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_launch.evaluation import InvokeReply, LoadPlan
from sm_launch.evaluation.client import Sender, Sent
from sm_launch.evaluation.job.costs import Hosts, priced
from sm_launch.evaluation.load import measure_with, search, summary
from sm_launch.evaluation.result import LoadStep, LoadTest
from sm_launch.job.instances import bundled_prices
from sm_launch.job.million import Rate, million_lines


def server(workers: int, service_ms: float, sick_from: int = 10**9) -> tuple[list[int], object]:
    """So many requests at a time, each as long; the others wait. More than `sick_from` fail."""
    asked: list[int] = []

    def measure(clients: int) -> LoadStep:
        asked.append(clients)
        waited = service_ms * max(1.0, clients / workers)
        failed = 0.5 if clients >= sick_from else 0.0
        rate = (1 - failed) * clients * 1000 / waited
        return LoadStep(clients, 1000, failed, rate, waited, waited)

    return asked, measure


@given(
    st.integers(1, 64),
    st.floats(0.5, 500),
    st.floats(1, 5000),
    st.integers(1, 512),
    st.integers(2, 600),
)
def test_the_best_within_the_limit_is_near_to_what_the_server_can(
    workers: int, service_ms: float, limit: float, most: int, sick_from: int
) -> None:
    asked, measure = server(workers, service_ms, sick_from)
    test = search(measure, LoadPlan(limit, most))  # type: ignore[arg-type]
    assert len(asked) == len(set(asked)) <= 2 + 2 * math.ceil(math.log2(most + 1))
    assert [step.concurrency for step in test.steps] == sorted(asked)
    assert max(asked) <= most
    able = [
        step.requests_per_s
        for step in map(measure, range(1, most + 1))  # type: ignore[arg-type]
        if step.p99_ms <= limit and step.failed_share <= 0.01
    ]
    if not able:
        assert test.best is None
        return
    assert test.best is not None
    assert test.best.p99_ms <= limit
    assert test.best.requests_per_s >= 0.8 * max(able)


def test_more_clients_are_not_asked_for_where_nothing_is_gained() -> None:
    asked, measure = server(workers=4, service_ms=10)
    test = search(measure, LoadPlan(10_000, 256))  # type: ignore[arg-type]
    assert asked == [1, 2, 4, 8]
    assert test.best
    assert test.best.concurrency == 4  # eight are answered as fast, and wait


def reply(begin: float, took: float, status: int | None = 200) -> Sent:
    answer = InvokeReply(status, b"", "") if status else None
    return Sent(answer, begin, begin + took, 0)


def test_failures_count_against_a_load_and_the_warm_up_does_not() -> None:
    warm = [reply(0.1, 9.0)]
    sent = [*warm, *(reply(1 + i / 10, 0.1) for i in range(8)), reply(1.8, 0.1, 503),
            reply(1.9, 0.1, None)]  # fmt: skip
    step = summary(3, sent, begin=1.0)
    assert (step.requests, step.failed_share, step.concurrency) == (10, pytest.approx(0.2), 3)
    assert step.p99_ms == pytest.approx(100)
    assert step.requests_per_s == pytest.approx(8)
    dead = summary(1, [reply(1.0, 0.1, None)], begin=0.0)
    assert LoadTest(1e9, (dead,)).best is None
    assert LoadTest(1e9, ()).best is None


class OneRow:
    """Of a task, what the measurement uses."""

    def encode(self, examples: list[int]) -> bytes:
        return str(examples[0]).encode()


@pytest.mark.slow  # requests for a second
def test_so_many_clients_ask_at_a_time_and_every_row_has_its_turn() -> None:
    lock, under_way, most = threading.Lock(), 0, 0
    bodies: list[bytes] = []

    def invoke(body: bytes, _content_type: str, _accept: str) -> InvokeReply:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            bodies.append(body)
        time.sleep(0.01)
        with lock:
            under_way -= 1
        return InvokeReply(200, b"", "")

    sender = Sender(invoke, "", "")
    step = measure_with(sender, OneRow(), [1, 2, 3], 0.4)(5)  # type: ignore[arg-type]
    assert most == 5
    assert step.failed_share == 0
    assert step.requests >= 100 or step.requests >= 5
    counts = [bodies.count(str(row).encode()) for row in (1, 2, 3)]
    assert max(counts) - min(counts) <= 1


def loaded(rate: float) -> LoadTest:
    return LoadTest(100, (LoadStep(4, 500, 0.0, rate, 10, 20),))


def test_a_million_is_priced_where_it_was_measured_and_where_it_is_asked_for() -> None:
    prices = bundled_prices()
    hosts = [Hosts("ml.m5.large", 3)]
    types = ["ml.m5.large", "ml.c5.xlarge", "ml.none.large"]
    test, notes = priced(loaded(50), hosts, types, prices)
    here, other = test.costs
    assert (here.type, here.instances, here.measured) == ("ml.m5.large", 3, True)
    # 20,000 seconds at 50 requests a second.
    assert here.dollars == pytest.approx(3 * 0.115 * 20_000 / 3600)
    assert (other.measured, other.instances) == (False, 1)
    assert other.dollars == pytest.approx(0.204 * 20_000 / 3600)
    assert len(notes) == 1
    assert "ml.none.large" in notes[0]
    lines = million_lines(Rate(50, "endpoint m"), ["ml.c5.xlarge"], prices)
    assert f"${other.dollars:.2f}" in lines[0]
    assert "no price is known" in million_lines(Rate(1, "m"), ["ml.none.large"], prices)[0]
    assert "evaluate --load" in million_lines(None, ["ml.c5.xlarge"], prices)[0]


def test_without_a_rate_nothing_is_priced() -> None:
    never = LoadTest(1, (LoadStep(1, 10, 0.0, 5, 10, 20),))
    assert priced(never, [], ["ml.m5.large"], bundled_prices()) == (never, [])
