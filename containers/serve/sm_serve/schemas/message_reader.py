"""What is in an answer to messages: a thought, text, tool calls, piece by piece as they come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sm_serve.protocol import Delta
from sm_serve.schemas.thoughts import ThoughtReader
from sm_serve.schemas.tool_calls import CallReader
from sm_serve.schemas.tools import ToolFormat, ToolUse


@dataclass(frozen=True, slots=True)
class Piece:
    """What a delta brings. `calls` are parts of calls as deltas of OpenAI's chat have them.

    `reason` says why the answer has ended: `tool_calls` where it called, else as in Delta.
    """

    thought: str = ""
    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None


class MessageReader:
    """Reads one answer."""

    def __init__(self, tools: ToolUse | None, form: ToolFormat | None) -> None:
        self._calls: CallReader | None = None
        if tools is not None and form is not None:
            self._calls = CallReader(
                form, tools.names, forced=bool(tools.forced), single=not tools.parallel
            )
        self._thoughts: ThoughtReader | None = None
        self._begun = False

    @property
    def thinking(self) -> bool:
        """Whether the answer is still a thought."""
        return self._thoughts is not None and self._thoughts.thinking

    def read(self, delta: Delta) -> Piece:
        """What a delta adds."""
        if not self._begun and delta.inside is not None:
            self._thoughts = ThoughtReader(inside=delta.inside)
        self._begun = True
        last = delta.finish_reason is not None
        thought, text = "", delta.text
        if self._thoughts is not None:
            thought, text = self._thoughts.push(delta.text, last=last)
        if self._calls is None:
            return Piece(thought, text, [], delta.finish_reason)
        found = self._calls.push(text, last=last)
        called = self._calls.count and delta.finish_reason == "stop"
        return Piece(
            thought, found.text, found.calls, "tool_calls" if called else delta.finish_reason
        )
