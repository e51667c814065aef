"""The load test's part of the report: throughput at a limit of latency, and what a million cost."""

from __future__ import annotations

from sm_launch.evaluation.result import LoadTest
from sm_launch.report import charts
from sm_launch.report.html import Markup, el, figure, section, table


def load_section(test: LoadTest | None) -> Markup | None:
    """None where no load was tested."""
    if test is None:
        return None
    best = test.best
    said = (
        f"Within a p99 of {test.p99_ms:g} ms the endpoint answers {best.requests_per_s:,.1f} "
        f"requests/s: {best.concurrency} clients at a time, p50 {best.p50_ms:,.1f} ms, p99 "
        f"{best.p99_ms:,.1f} ms."
        if best
        else f"No number of clients kept a p99 of {test.p99_ms:g} ms."
    )
    return section(
        "Load",
        el("p", said),
        _steps(test),
        _costs(test) if test.costs else None,
        el("div", _chart(test), class_="charts"),
        note="Clients at a time, one row a request, each its next one when the last is answered.",
    )


def _steps(test: LoadTest) -> Markup:
    kept = test.within
    rows = [
        [
            f"{step.concurrency}",
            f"{step.requests:,}",
            f"{step.requests_per_s:,.1f}",
            f"{step.p50_ms:,.1f}",
            f"{step.p99_ms:,.1f}",
            f"{step.failed_share:.1%}",
            "yes" if step in kept else "no",
        ]
        for step in test.steps
    ]
    head = ["Clients", "Requests", "Requests/s", "p50 ms", "p99 ms", "Failed", "Within"]
    return table(head, rows, numeric=range(6))


def _costs(test: LoadTest) -> Markup:
    rows = [
        [
            f"{each.instances} x {each.type}",
            f"${each.dollars_an_hour:,.3f}",
            f"${each.dollars:,.2f}",
            "measured on it" if each.measured else "if it answered as many",
        ]
        for each in test.costs
    ]
    caption = f"A million requests at that rate, all hours full; list prices of {test.prices}"
    return table(
        ["Instances", "An hour", "A million", "Rate"], rows, numeric=(1, 2), caption=caption
    )


def _chart(test: LoadTest) -> Markup:
    points = [(float(step.concurrency), step.requests_per_s) for step in test.steps]
    line = charts.Series("requests/s", points)
    return figure(
        "Throughput by clients",
        charts.line_chart([line], x_label="clients at a time", y_label="requests/s"),
    )
