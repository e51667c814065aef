"""Notebooks: whether this is one, and what is shown in it and then replaced in place."""

from __future__ import annotations

import io
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 100
"""Characters of a line: a cell's width on a laptop."""
_SECONDS_BETWEEN_CHANGES = 0.2
_PRE = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:1.25;'
    "font-family:Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace\">{code}</pre>"
)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this: Jupyter, SageMaker Studio, VS Code."""
    ipython = sys.modules.get("IPython")  # who has not imported it is in none
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


class Display:
    """An output of the running cell whose content is replaced, a few times a second at most."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._changed = 0.0
        self._waiting: str | None = None

    def show(self, html: str) -> None:
        """Show this from now on; what comes too soon waits for the next or for `end`."""
        self._waiting = html
        if time.monotonic() - self._changed >= _SECONDS_BETWEEN_CHANGES:
            self.end()

    def end(self) -> None:
        """Show what still waits."""
        from IPython.display import HTML, display

        if self._waiting is None:
            return
        content, self._waiting = HTML(self._waiting), None
        self._changed = time.monotonic()
        if self._handle is None:
            self._handle = display(content, display_id=True)
        else:
            self._handle.update(content)


def rendered(part: RenderableType) -> str:
    """What the terminal shows, as HTML."""
    from rich.console import Console

    console = Console(file=io.StringIO(), record=True, width=WIDTH, force_jupyter=False)
    console.print(part)
    return console.export_html(inline_styles=True, code_format=_PRE)
