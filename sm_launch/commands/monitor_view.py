"""The monitor's table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sm_launch.monitoring.series import VariantSeries

if TYPE_CHECKING:
    from rich.console import RenderableType

SPARK_WIDTH = 30
_BARS = "▁▂▃▄▅▆▇█"


def view(endpoint: str, series: Sequence[VariantSeries]) -> RenderableType:
    """A table of every variant: last value, mean, maximum, and the course."""
    from rich.console import Group
    from rich.table import Table

    tables: list[RenderableType] = []
    for each in series:
        table = Table(title=f"{endpoint} / {each.variant}", title_justify="left")
        table.add_column("metric")
        for column in ("last", "mean", "max", "sum"):
            table.add_column(column, justify="right")
        table.add_column("course")
        summary = each.summary()
        for metric, points in each.rows():
            values = summary[metric.key]
            shown = [
                f"{values[name]:,.1f}".removesuffix(".0") if name in values else ""
                for name in ("last", "mean", "max", "sum")
            ]
            unit = f" {metric.unit}" if metric.unit else ""
            table.add_row(metric.label + unit, *shown, sparkline([value for _, value in points]))
        if not each.rows():
            table.add_row("no metrics yet")
        tables.append(table)
    return Group(*tables)


def sparkline(values: Sequence[float]) -> str:
    """The last values as bars, the highest one as tall as a line."""
    shown = values[-SPARK_WIDTH:]
    top = max(shown, default=0.0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[min(int(value / top * len(_BARS)), len(_BARS) - 1)] for value in shown)
