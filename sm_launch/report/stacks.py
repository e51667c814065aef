"""Shares of a whole, one bar a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sm_launch.report.charts import WIDTH
from sm_launch.report.html import Markup, el, join

COLOURS = 4
TOLD_APART = 8
"""So many parts look different; one more is drawn in grey, for the rest."""
_ROW, _LEFT = 34.0, 92.0


@dataclass(frozen=True)
class Stack:
    """A bar and its parts, in the order of the legend."""

    name: str
    counts: Sequence[int]


def share_chart(names: Sequence[str], stacks: Sequence[Stack]) -> Markup:
    """Bars of equal length whose parts are the shares; the largest parts bear their share.

    At most eight parts and a ninth, which stands for all others.
    """
    parts: list[Markup] = []
    for row, stack in enumerate(stacks):
        total = sum(stack.counts) or 1
        x, y, room = _LEFT, row * _ROW + 4, WIDTH - _LEFT - 4
        parts.append(
            el("text", stack.name, x=_LEFT - 8, y=y + 17, text_anchor="end", class_="strong")
        )
        for at, count in enumerate(stack.counts):
            width = room * count / total
            parts.append(_part(at, x, y, max(width - 1, 0.5), _ROW - 10))
            if width > 34:
                parts.append(
                    el("text", f"{count / total:.0%}", x=x + width / 2, y=y + 16,
                       text_anchor="middle", class_="on-bar")
                )  # fmt: skip
            x += width
    height = len(stacks) * _ROW + 4
    label = "; ".join(
        f"{s.name}: " + ", ".join(f"{n} {c}" for n, c in zip(names, s.counts, strict=True))
        for s in stacks
    )
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    drawing = el("svg", parts, viewBox=box, role="img", aria_label=f"Shares. {label}")
    return join(_legend(names), drawing)


def _legend(names: Sequence[str]) -> Markup:
    def key(at: int) -> Markup:
        part = _part(at, 1, 0, 14, 10)
        sample = el("svg", part, viewBox="0 0 26 10", aria_hidden="true")
        return el("li", sample, names[at])

    return el("ul", (key(at) for at in range(len(names))), class_="legend")


def _part(at: int, x: float, y: float, width: float, height: float) -> Markup:
    opacity = 1.0 - 0.35 * (at // COLOURS) if at < TOLD_APART else 1.0
    look = f"bar c{at % COLOURS + 1}" if at < TOLD_APART else "bar rest"
    return el("rect", x=x, y=y, width=width, height=height, class_=look, opacity=opacity)
