"""Progress of anything that lasts: a live bar on a terminal and in a notebook, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, TextIO

from sm_launch.notebook import Display, in_notebook

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LOG_LINES = 5.0


class ProgressBar:
    """A bar that nobody watches; those that are shown have an `update` of their own."""

    def advance(self, amount: float = 1) -> None:
        """Count `amount` more units as done."""
        self.update(advance=amount)

    def update(
        self,
        *,
        description: str | None = None,
        completed: float | None = None,
        total: float | None = None,
        advance: float | None = None,
    ) -> None:
        """Change the words, the position or the goal, or advance the position."""


StartProgress = Callable[[str, float | None], AbstractContextManager[ProgressBar]]
"""`progress`, or anything that is called like it."""


class _TerminalBar(ProgressBar):
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, **changes: Any) -> None:
        self._progress.update(self._task, **changes)


class _CountedBar(ProgressBar):
    """One that knows where it is; `show` is called after each change."""

    def __init__(self, description: str, total: float | None) -> None:
        self._description = description
        self._total = total
        self._completed = 0.0
        self._started = time.monotonic()

    def update(
        self,
        *,
        description: str | None = None,
        completed: float | None = None,
        total: float | None = None,
        advance: float | None = None,
    ) -> None:
        self._description = description or self._description
        self._completed = (self._completed if completed is None else completed) + (advance or 0)
        self._total = total or self._total
        self.show()

    def show(self) -> None:
        """Tell where it is."""


class _NotebookBar(_CountedBar):
    """An element of HTML's own, without widgets."""

    def __init__(self, description: str, total: float | None, display: Display) -> None:
        super().__init__(description, total)
        self._display = display
        self.show()

    def show(self) -> None:
        part = f' value="{self._completed:g}" max="{self._total:g}"' if self._total else ""
        done = f" {self._completed:.0f}/{self._total:.0f}" if self._total else ""
        elapsed = time.monotonic() - self._started
        self._display.show(
            f"{escape(self._description)} <progress{part}></progress>{done} {elapsed:.0f} s"
        )

    def finish(self) -> None:
        """Leave no bar that seems to wait for something."""
        if not self._total:
            elapsed = time.monotonic() - self._started
            self._display.show(f"{escape(self._description)}: {elapsed:.0f} s")


class _LogBar(_CountedBar):
    """A line every few seconds, so that a CI log shows life without being flooded."""

    def __init__(self, description: str, total: float | None, stream: TextIO) -> None:
        super().__init__(description, total)
        self._stream = stream
        self._printed = self._started

    def show(self) -> None:
        now = time.monotonic()
        if now - self._printed >= SECONDS_BETWEEN_LOG_LINES:
            self._printed = now
            self._print(now)

    def _print(self, now: float) -> None:
        done = f" {self._completed:.0f}/{self._total:.0f}" if self._total else ""
        elapsed = now - self._started
        print(f"{self._description}{done} [{elapsed:.0f} s]", file=self._stream, flush=True)


@contextmanager
def no_progress(description: str, total: float | None) -> Iterator[ProgressBar]:
    """Show nothing; in place of `progress`."""
    yield ProgressBar()


@contextmanager
def progress(
    description: str, total: float | None = None, *, stream: TextIO | None = None
) -> Iterator[ProgressBar]:
    """Show that something is going on.

    Args:
        description: what is being done, in a word or three.
        total: units of work; None where nobody knows, which shows a pulse.
        stream: where to write; standard error by default, so that results can be piped.
    """
    if stream is None and in_notebook():
        cell = Display()
        bar = _NotebookBar(description, total, cell)
        yield bar
        bar.finish()
        cell.end()
        return
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _LogBar(description, total, stream)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%" if total else ""),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as display:
        yield _TerminalBar(display, display.add_task(description, total=total))
