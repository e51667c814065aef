"""What is in an answer to messages: a thought, text, tool calls, piece by piece as they come."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sm_serve.protocol import Delta
from sm_serve.schemas.channel_reader import ChannelReader
from sm_serve.schemas.harmony import START
from sm_serve.schemas.thoughts import Tags, ThoughtReader
from sm_serve.schemas.tool_calls import CallReader, Parsed
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

    def __init__(self, tools: ToolUse | None = None, form: ToolFormat | None = None) -> None:
        self._tools = tools
        self._calls: CallReader | None = None
        if tools is not None and form is not None:
            self._calls = CallReader(
                form, tools.names, forced=bool(tools.forced), single=not tools.parallel
            )
        self._thoughts: ThoughtReader | None = None
        self._channels: ChannelReader | None = None
        self._begun = False

    @property
    def thinking(self) -> bool:
        """Whether the answer is still a thought."""
        reader = self._thoughts or self._channels
        return reader is not None and reader.thinking

    def read(self, delta: Delta) -> Piece:
        """What a delta adds."""
        if not self._begun and delta.opened is not None:
            self._begin(delta.opened, delta.tags)
        self._begun = True
        parsed, count = self._find(delta.text, last=delta.finish_reason is not None)
        called = count and delta.finish_reason == "stop"
        reason = "tool_calls" if called else delta.finish_reason
        return Piece(parsed.thought, parsed.text, parsed.calls, reason)

    def _begin(self, opened: str, tags: tuple[str, str]) -> None:
        """The reader of an answer whose beginning stands in the prompt."""
        if opened.startswith(START):
            names = self._tools.names if self._tools else frozenset()
            single = self._tools is not None and not self._tools.parallel
            self._channels = ChannelReader(opened, names, single=single)
        else:
            self._thoughts = ThoughtReader(Tags(*tags), inside=bool(opened))

    def _find(self, text: str, *, last: bool) -> tuple[Parsed, int]:
        """What new text adds, and how many calls there are by now."""
        if self._channels is not None:
            return self._channels.push(text, last=last), self._channels.count
        thought = ""
        if self._thoughts is not None:
            thought, text = self._thoughts.push(text, last=last)
        if self._calls is None:
            return Parsed(text, thought=thought), 0
        parsed = self._calls.push(text, last=last)
        parsed.thought = thought
        return parsed, self._calls.count


class AnswerReader:
    """Reads answers for formats that have no place for thoughts and calls.

    Of an answer in channels it leaves the text alone; thoughts in tags stay where they are.
    """

    def __init__(self) -> None:
        self._readers: dict[int, MessageReader] = {}

    def read(self, delta: Delta) -> Delta:
        """The delta with the text that is told."""
        if delta.opened is None or not delta.opened.startswith(START):
            return delta
        reader = self._readers.setdefault(delta.index, MessageReader())
        return replace(delta, text=reader.read(delta).text)
