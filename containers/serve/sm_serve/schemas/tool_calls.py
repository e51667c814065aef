"""Finding tool calls in an answer, piece by piece as it comes.

What is no call stays text. A call's name is told once it is known, its arguments as they come.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sm_serve.schemas.thoughts import overlap
from sm_serve.schemas.tools import ToolFormat

HEADER = re.compile(
    r'\s*\{\s*"name"\s*:\s*"(?P<name>[^"\\]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
MARKS = ("<|python_tag|>", "[TOOL_CALLS]")
"""What models write before a call that is their whole answer, where it is not hidden anyway."""
BETWEEN = " \t\r\n}],;"
"""What may stand after a call's arguments, up to the next call."""


@dataclass(slots=True)
class Parsed:
    """What a piece of the answer holds: text, and parts of calls as OpenAI's deltas."""

    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    thought: str = ""

    def begin_call(self, index: int, name: str) -> None:
        """A call whose arguments are to come."""
        function = {"name": name, "arguments": ""}
        self.calls.append(
            {
                "index": index,
                "id": f"call_{uuid.uuid4().hex[:24]}",
                "type": "function",
                "function": function,
            }
        )

    def add_arguments(self, index: int, text: str) -> None:
        """More of the arguments of the last call."""
        if not text:
            return
        if not self.calls:
            self.calls.append({"index": index, "function": {"arguments": ""}})
        self.calls[-1]["function"]["arguments"] += text


class CallReader:
    """Reads one answer. A `forced` one is nothing but a call; `single` drops all calls but one."""

    def __init__(
        self, form: ToolFormat, names: frozenset[str], *, forced: bool, single: bool
    ) -> None:
        self._form = form
        self._names = names
        self._forced = forced
        self._single = single or forced
        self._step: Callable[[bool], bool] = self._call if forced else self._begin
        self._buffer = ""
        self._blank = ""
        self._scan = _Braces()
        self._parsed = Parsed()
        self.count = 0

    def push(self, text: str, *, last: bool = False) -> Parsed:
        """What the new text brings; with `last` everything that was held back."""
        self._parsed = Parsed()
        self._buffer += text
        while self._buffer and self._step(last):
            pass
        if last and not self.count:
            # An opening with which the answer ends was taken for that of a call.
            ended = self._step == self._call and not self._forced
            self._parsed.text += self._blank + (self._form.opening if ended else "") + self._buffer
            self._blank = self._buffer = ""
        return self._parsed

    def _say(self, text: str) -> None:
        """Text, whose blanks at the end are held back: before a call they are no content."""
        text = self._blank + text
        shown = text.rstrip()
        self._blank = text[len(shown) :]
        self._parsed.text += shown

    def _begin(self, last: bool) -> bool:
        """Before anything is known of the answer."""
        if self._form.opening:
            self._step = self._text
            return True
        start = self._buffer.lstrip()
        for mark in MARKS:
            if start.startswith(mark):
                self._buffer = start[len(mark) :]
                return True
            if mark.startswith(start) and not last:
                return False
        if not start:
            return False
        self._step = self._call if start[0] in "{[" else self._plain
        return True

    def _plain(self, last: bool) -> bool:
        """Text to the end."""
        self._say(self._buffer)
        self._buffer = ""
        return False

    def _text(self, last: bool) -> bool:
        """Text up to the next opening."""
        opening = self._form.opening
        place = self._buffer.find(opening)
        if place >= 0:
            self._say(self._buffer[:place])
            self._buffer = self._buffer[place + len(opening) :]
            self._step = self._call
            return True
        keep = 0 if last else overlap(self._buffer, opening)
        self._say(self._buffer[: len(self._buffer) - keep])
        self._buffer = self._buffer[len(self._buffer) - keep :]
        return False

    def _call(self, last: bool) -> bool:
        """Inside of a call whose arguments have not begun."""
        listed = self._buffer if self._form.opening else self._buffer.lstrip(" \t\r\n[")
        if not self._form.opening and listed and listed[0] != "{":
            self._step = self._plain
            return True
        match = HEADER.match(listed)
        if match is not None and match["name"] in self._names:
            self._start(match["name"])
            self._buffer = listed[match.end() :]
            self._scan = _Braces()
            self._step = self._arguments
            return True
        end = self._end_of_call(listed)
        if end is None and not last and match is None:
            return False
        call = None if end is None else _load(listed[:end])
        if call is not None and call[0] in self._names and end is not None:
            self._start(call[0])
            self._argue(call[1])
            self._buffer = listed[end:]
            self._step = self._after
            return True
        self._say("" if self._forced else self._form.opening)
        self._step = self._text if self._form.opening else self._plain
        return True

    def _end_of_call(self, text: str) -> int | None:
        if self._form.closing:
            place = text.find(self._form.closing)
            return place if place >= 0 else None
        return _Braces().end(text)

    def _arguments(self, last: bool) -> bool:
        """Inside of a call's arguments."""
        end = self._scan.end(self._buffer)
        size = len(self._buffer) if end is None else end
        self._argue(self._buffer[:size])
        self._buffer = self._buffer[size:]
        if end is None:
            return False
        self._step = self._after
        return True

    def _after(self, last: bool) -> bool:
        """Between a call's arguments and what comes next."""
        if self._single:
            self._buffer = ""
            return False
        rest, closing = self._buffer.lstrip(BETWEEN), self._form.closing
        if not rest or (closing.startswith(rest) and closing != rest):
            return False
        self._blank = ""
        if closing:
            self._buffer = rest.removeprefix(closing)
            self._step = self._text
        else:
            self._buffer = rest
            self._step = self._call if rest[0] == "{" else self._plain
        return True

    def _start(self, name: str) -> None:
        self._blank = ""
        self._parsed.begin_call(self.count, name)
        self.count += 1

    def _argue(self, text: str) -> None:
        self._parsed.add_arguments(self.count - 1, text)


class _Braces:
    """Finds where a JSON object ends, however its text is cut."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """The place behind the brace that closes the object, None while there is none."""
        for place, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped = character == "\\"
                self._quoted = character != '"'
            elif character == '"':
                self._quoted = True
            elif character in "{}":
                self._depth += 1 if character == "{" else -1
                if self._depth == 0:
                    return place + 1
        return None


def _load(text: str) -> tuple[str, str] | None:
    """Name and arguments of a complete call, in whatever order they stand."""
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        return call["name"], arguments
    return call["name"], json.dumps(arguments, ensure_ascii=False)
