"""The report of a comparison: what differs, whether it is chance, and which rows changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sm_launch.evaluation.comparison import SIGNIFICANT, Comparison
from sm_launch.evaluation.report.intervals import interval_chart, scaled
from sm_launch.evaluation.report.quality import shorten, shown
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.scales import LOWER_IS_BETTER, UNBOUNDED
from sm_launch.redaction import redact_value
from sm_launch.report.html import Markup, el, figure, page, section, table
from sm_launch.report.numbers import decimal, equals, p_value

ROWS_SHOWN = 20


def write_comparison(comparison: Comparison, directory: Path, *, sources: tuple[str, str]) -> Path:
    """Writes comparison.json and comparison.html; returns the page's path.

    `sources` are the reports or endpoints that were compared.
    """
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        redact_value(comparison.to_dict() | {"sources": sources}), indent=2, ensure_ascii=False
    )
    (directory / "comparison.json").write_text(text + "\n", encoding="utf-8")
    path = directory / "comparison.html"
    path.write_text(render_comparison(comparison, sources), encoding="utf-8")
    return path


def render_comparison(comparison: Comparison, sources: tuple[str, str]) -> str:
    """The comparison as an HTML document."""
    title = f"{comparison.first} against {comparison.second}"
    answered = f"{comparison.rows:,} rows that both answered"
    return page(
        title,
        el(
            "header",
            el("h1", title),
            el("p", f"{comparison.task}, {answered}.", class_="sub"),
            *(el("p", line, class_="sub") for line in comparison.left_out()),
            el("p", verdict(comparison)),
        ),
        _differences(comparison),
        _mcnemar(comparison),
        _rows(f"Lost: right in {comparison.first} alone", comparison.lost),
        _rows(f"Won: right in {comparison.second} alone", comparison.won),
        section(
            "Where this comes from",
            el("dl", *(el("dt", "First"), el("dd", sources[0])),
               *(el("dt", "Second"), el("dd", sources[1]))),
        ),
    )  # fmt: skip


def verdict(comparison: Comparison) -> str:
    """One sentence on what is significant."""
    clear = [m for m in comparison.metrics if m.significant]
    if not clear:
        return "No metric differs significantly: the two may be equally good."
    better = [m.metric for m in clear if m.improved]
    worse = [m.metric for m in clear if not m.improved]
    parts = [f"better in {', '.join(better)}"] if better else []
    parts += [f"worse in {', '.join(worse)}"] if worse else []
    corrected = f"p below {SIGNIFICANT}, corrected for {len(comparison.metrics)} metrics"
    return f"{comparison.second} is significantly {' and '.join(parts)} ({corrected})."


def _differences(comparison: Comparison) -> Markup:
    bars = [
        scaled(m.metric, m.difference, m.interval.low, m.interval.high)
        for m in comparison.metrics
        if m.metric not in UNBOUNDED
    ]
    rows = [
        [
            m.metric,
            decimal(m.first),
            decimal(m.second),
            decimal(m.difference, sign=True),
            p_value(m.p_value),
            p_value(m.p_adjusted),
        ]
        for m in comparison.metrics
    ]
    named = [m.metric for m in comparison.metrics if m.metric in LOWER_IS_BETTER]
    lower = f" Lower is better: {', '.join(named)}." if named else ""
    head = ["Metric", comparison.first, comparison.second, "Difference", "p", "p (Holm)"]
    chart = figure(f"{comparison.second} minus {comparison.first}", interval_chart(bars, zero=True))
    return section(
        "Differences",
        el("div", chart, class_="charts"),
        table(head, rows, numeric=range(1, 6)),  # below: names of models are long
        note="95 % intervals. P-values by exchanging the two answers of a row at random, for "
        "shares of rows McNemar's; the last column is corrected for all metrics that are compared "
        f"at once, and decides what is significant.{lower}",
    )


def _mcnemar(comparison: Comparison) -> Markup:
    test = comparison.mcnemar
    head = ["", f"{comparison.second} right", f"{comparison.second} wrong"]
    rows = [
        [f"{comparison.first} right", f"{test.both:,}", f"{test.only_first:,}"],
        [f"{comparison.first} wrong", f"{test.only_second:,}", f"{test.neither:,}"],
    ]
    return section(
        "Right and wrong answers",
        table(head, rows, numeric=(1, 2)),
        note="McNemar's exact test on the rows that one alone got right: p "
        f"{equals(test.p_value)}.",
    )


def _rows(title: str, pairs: Sequence[tuple[Prediction, Prediction]]) -> Markup | None:
    if not pairs:
        return None
    rows = [
        [
            str(a.index),
            shorten(a.text),
            shown(a, a.gold),
            shown(a, a.predicted),
            shown(b, b.predicted),
        ]
        for a, b in pairs[:ROWS_SHOWN]
    ]
    return section(
        title,
        table(["Row", "Input", "Expected", "First", "Second"], rows, numeric=(0,)),
        note=f"{min(len(pairs), ROWS_SHOWN)} of {len(pairs):,} rows.",
    )
