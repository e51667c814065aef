"""Two distributions over the same bins, a pair of bars each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sm_launch.report.charts import WIDTH
from sm_launch.report.html import Markup, el, join
from sm_launch.report.names import fitting

_ROW, _LEFT, _RIGHT, _BAR = 36.0, 132.0, 52.0, 14.0
_NAME_COLUMNS = 16


def pair_chart(
    titles: tuple[str, str], first: Mapping[str, float], second: Mapping[str, float]
) -> Markup:
    """Shares of both sides, bin by bin in the order of the first.

    Args:
        titles: names of the two sides.
        first: bin to share, 0 to 1.
        second: likewise; bins that it lacks have none.
    """
    top = max([*first.values(), *second.values(), 1e-12])
    parts: list[Markup] = []
    labels = fitting(list(first), _NAME_COLUMNS)
    for row, (name, label) in enumerate(zip(first, labels, strict=True)):
        y = row * _ROW + 3
        parts.append(el("text", label, x=_LEFT - 8, y=y + 19, text_anchor="end", class_="strong"))
        for side, shares in enumerate((first, second)):
            share = shares.get(name, 0.0)
            length = max((WIDTH - _LEFT - _RIGHT) * share / top, 1.0)
            at = y + side * (_BAR + 1)
            parts += [
                el("rect", x=_LEFT, y=at, width=length, height=_BAR, class_=f"bar c{side + 1}"),
                el("text", f"{share:.1%}", x=_LEFT + length + 5, y=at + 11),
            ]
    height = len(first) * _ROW + 4
    told = "; ".join(f"{name} {first[name]:.1%}, {second.get(name, 0.0):.1%}" for name in first)
    label = f"Shares of {titles[0]} and {titles[1]}. {told}"
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    return join(_legend(titles), el("svg", parts, viewBox=box, role="img", aria_label=label))


def _legend(titles: Sequence[str]) -> Markup:
    def key(side: int) -> Markup:
        part = el("rect", x=1, y=0, width=14, height=10, class_=f"bar c{side + 1}")
        sample = el("svg", part, viewBox="0 0 26 10", aria_hidden="true")
        return el("li", sample, titles[side])

    return el("ul", (key(side) for side in range(len(titles))), class_="legend")
