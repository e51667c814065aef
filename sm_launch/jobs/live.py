"""Following a training job in one view: transitions, progress, loss curve, the end of the log."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from sm_launch import notebook
from sm_launch.jobs import training
from sm_launch.jobs.training import Observation
from sm_launch.redaction import redact
from sm_launch.report.charts import Series, line_chart
from sm_launch.report.html import image
from sm_launch.report.numbers import decimal
from sm_launch.report.terminal_chart import Point, braille_chart
from sm_launch.sessions.protocol import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

LOG_LINES = 6
CHART_HEIGHT = 7
SECONDS_BETWEEN_LOG_LINES = 5.0
# The training container's lines: `progress 37% step 120/320 … eta 1m45s`, and `… loss=0.5 …`.
_PROGRESS = re.compile(r"^(?:\[[^\]]+\] )?progress \d+% step (\d+)/(\d+)(?:.* eta (\S+))?")
_NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"
_STEP = re.compile(rf"(?:^|\s)step={_NUMBER}")
_LOSS = re.compile(rf"(?:^|\s)loss={_NUMBER}")
_EVAL_LOSS = re.compile(rf"(?:^|\s)eval_loss={_NUMBER}")
_RUN = re.compile(r"^(?:\[[^\]]+\] )?(mlflow run: .+)")


class TrainingView:
    """What is known of a job so far; `feed` it with observations and draw it.

    Args:
        name: of the training job.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.step: tuple[int, int] | None = None
        self.eta = ""
        self.loss: list[Point] = []
        self.eval_loss: list[Point] = []
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.run = ""  # where MLflow shows it
        self.transitions: list[dict[str, Any]] = []

    def feed(self, seen: Observation) -> list[dict[str, Any]]:
        """Take in one look at the job.

        Returns:
            The status transitions that are new.
        """
        for line in seen.lines:
            self._read(redact(line))
        before = len(self.transitions)
        self.transitions = seen.description.get("SecondaryStatusTransitions", [])
        return self.transitions[before:]

    def _read(self, line: str) -> None:
        if match := _PROGRESS.match(line):
            self.step, self.eta = (int(match[1]), int(match[2])), match[3] or ""
            return
        if match := _RUN.match(line):
            self.run = match[1]
        at = _STEP.search(line)
        for pattern, points in ((_LOSS, self.loss), (_EVAL_LOSS, self.eval_loss)):
            if value := pattern.search(line):
                points.append((float(at[1]) if at else float(len(points)), float(value[1])))
                if at and self.step and float(at[1]) > self.step[0]:
                    self.step = (int(float(at[1])), self.step[1])
        if line.strip():
            self.log.append(line)

    def html(self) -> str:
        """The whole view for a notebook: its fonts seldom have Braille dots of a letter's width."""
        points = self.loss or self.eval_loss
        curve = line_chart([Series("loss", points)], x_label="optimizer step", y_label="loss")
        drawn = image(curve) if len(points) > 1 else ""
        return notebook.rendered(self.render(notebook.WIDTH, curve=False)) + drawn

    def render(self, width: int = 80, *, curve: bool = True) -> RenderableType:
        """The whole view; without the curve where that is drawn otherwise."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        parts: list[RenderableType] = [Text(self._chain(), style="bold")]
        if self.step:
            parts.append(self._bar(width))
        named = {"loss": self.loss, "eval loss": self.eval_loss}
        last = [f"{name} {decimal(points[-1][1])}" for name, points in named.items() if points]
        if last:
            parts.append(Text("   ".join(last), style="cyan"))
        if curve:
            points = self.loss or self.eval_loss
            drawn = braille_chart(points, max(width - 16, 10), CHART_HEIGHT)
            parts += [Text(line) for line in drawn]
        # Text, never markup: a log may hold square brackets.
        parts += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self.log]
        return Panel(Group(*parts), title=self.name, title_align="left", width=width)

    def _bar(self, width: int) -> RenderableType:
        from rich.text import Text

        assert self.step is not None
        done, total = self.step
        room = max(width - 44, 8)
        filled = round(room * min(done / max(total, 1), 1.0))
        bar = "━" * filled + "╌" * (room - filled)
        eta = f"  eta {self.eta}" if self.eta and done < total else ""
        return Text(f"{bar} {100 * done // max(total, 1):>3}%  step {done}/{total}{eta}")

    def _chain(self) -> str:
        """`Starting 12s › Downloading 40s › Training 3m10s`."""
        return " › ".join(f"{each['Status']} {_lasted(each)}" for each in self.transitions[-4:])


def _lasted(transition: dict[str, Any]) -> str:
    end = transition.get("EndTime") or datetime.now(UTC)
    minutes, seconds = divmod(max(round((end - transition["StartTime"]).total_seconds()), 0), 60)
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


@contextmanager
def follow_view(name: str, stream: TextIO | None = None) -> Iterator[Callable[[Observation], None]]:
    """A function that shows observations: live on a terminal or in a notebook, else lines.

    Args:
        name: of the training job.
        stream: where to write; standard error by default, so that results can be piped.
    """
    view = TrainingView(name)
    if stream is None and notebook.in_notebook():
        display = notebook.Display()

        def replace(seen: Observation) -> None:
            view.feed(seen)
            display.show(view.html())

        yield replace
        display.end()
        return
    stream = stream or sys.stderr
    if not stream.isatty():
        plain = _Plain(view, stream)
        yield plain.show
        plain.end()
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream)
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def show(seen: Observation) -> None:
            view.feed(seen)
            live.update(view.render(min(console.width, 110)))

        yield show
    if view.run:
        print(view.run, file=stream, flush=True)


def wait(session: Session, name: str) -> dict[str, Any]:
    """Follow a job and return its last description; a notebook's cell shows it meanwhile.

    Raises:
        LaunchError: the job failed; the message holds the container's own words.
    """
    if not notebook.in_notebook():
        return training.wait(session, name)
    with follow_view(name) as show:
        return training.wait(session, name, show)


class _Plain:
    """For CI logs: every transition, and the progress every few seconds, each step once."""

    def __init__(self, view: TrainingView, stream: TextIO) -> None:
        self._view = view
        self._stream = stream
        self._printed = time.monotonic()
        self._step: tuple[int, int] | None = None

    def show(self, seen: Observation) -> None:
        for new in self._view.feed(seen):
            message = new.get("StatusMessage") or ""
            self._print(f"{new['StartTime']:%H:%M:%S} {new['Status']}: {redact(message)}")
        if time.monotonic() - self._printed >= SECONDS_BETWEEN_LOG_LINES:
            self._print_step()

    def end(self) -> None:
        """The last step, however soon it came after the one before; where its run is."""
        self._print_step()
        if self._view.run:
            self._print(self._view.run)

    def _print_step(self) -> None:
        step = self._view.step
        # While a job evaluates or saves, it stays at a step and logs on.
        if step is None or step == self._step:
            return
        self._printed, self._step = time.monotonic(), step
        loss = f" loss {decimal(self._view.loss[-1][1])}" if self._view.loss else ""
        eta = f" eta {self._view.eta}" if self._view.eta and step[0] < step[1] else ""
        self._print(f"step {step[0]}/{step[1]}{loss}{eta}")

    def _print(self, text: str) -> None:
        print(text.rstrip(": "), file=self._stream, flush=True)
