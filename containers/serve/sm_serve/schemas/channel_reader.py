"""What is in an answer in channels (see sm_serve.schemas.harmony), piece by piece as it comes."""

from __future__ import annotations

import re
from collections.abc import Callable

from sm_serve.schemas.harmony import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    MARKS,
    MESSAGE,
    MESSAGE_END,
    RETURN,
    START,
    TURN_END,
    is_thought,
    recipient,
)
from sm_serve.schemas.thoughts import overlap
from sm_serve.schemas.tool_calls import Parsed

_MARK = re.compile("|".join(map(re.escape, MARKS)))
_ENDS = (END, CALL, RETURN, MESSAGE_END, TURN_END)
_HEADER_END = re.compile("|".join(map(re.escape, (MESSAGE, *_ENDS))))
_HEADER_NAMES = ("assistant", "analysis", "commentary", "final", "json", "code")
"""Of headers, beside recipients."""
_HEADER_SIZE = 300
"""Most characters of a header; OpenAI's names of functions have 64."""
_LONGEST = max(map(len, MARKS))
_SURELY = 3
"""Characters of a mark's beginning that are no text, where the answer is cut within the mark."""


class ChannelReader:
    """Reads one answer, `opened` by the prompt. Calls are those of functions of these `names`.

    A message to another function is text. Marks are never told, nor are headers.
    """

    def __init__(self, opened: str, names: frozenset[str], *, single: bool) -> None:
        self._names = names
        self._single = single
        self._step: Callable[[bool], bool] = self._open
        self._tell: Callable[[str], None] = self._say
        self._buffer = ""
        self._parsed = Parsed()
        self._fresh = True
        self._said: set[str] = set()
        self._named = self._to = ""
        self.count = 0
        self.push(opened)
        if self._step == self._header and CHANNEL not in opened and "to=" not in opened:
            # Behind a role that the prompt gave, the model may go on with a header or a text.
            self._step, self._buffer = self._open, ""
        self._said.clear()

    @property
    def thinking(self) -> bool:
        """Whether the answer has not begun."""
        nothing = not (self.count or "text" in self._said)
        return nothing and (self._tell == self._think or self._step == self._header)

    def push(self, text: str, *, last: bool = False) -> Parsed:
        """What new text adds to the thought, the text and the calls."""
        self._parsed = Parsed()
        self._buffer += text
        while self._buffer and self._step(last):
            pass
        if last:
            self._end_call()
        return self._parsed

    def _open(self, last: bool) -> bool:
        """Where a message begins, or a text without a header."""
        start = self._buffer.lstrip()
        if start.startswith((*MARKS, "to=")):
            self._buffer, self._step = start, self._header
            return True
        if not last and any(mark.startswith(start) for mark in (*MARKS, "to=")):
            return False
        self._begin("")
        return True

    def _between(self, last: bool) -> bool:
        """Between messages, where blanks are nobody's."""
        self._buffer = self._buffer.lstrip()
        if self._buffer:
            self._step = self._open
        return bool(self._buffer)

    def _header(self, last: bool) -> bool:
        """Within a header, up to the message."""
        end = _HEADER_END.search(self._buffer, 0, _HEADER_SIZE + _LONGEST)
        if end is not None and end.start() <= _HEADER_SIZE:
            head, self._buffer = self._buffer[: end.start()], self._buffer[end.end() :]
            if end[0] == MESSAGE:
                self._begin(head.rpartition(START)[2])
            else:
                self._step = self._between
            return True
        if len(self._buffer) < _HEADER_SIZE + _LONGEST:
            if not last:
                return False
            if _is_header(self._buffer):
                self._buffer = ""
                return False
        self._buffer = _MARK.sub("", self._buffer, count=1)
        self._begin("")
        return True

    def _begin(self, head: str) -> None:
        """A message by its header: a thought, a call, or text."""
        self._step, self._fresh = self._body, True
        to = recipient(head)
        name = to.removeprefix("functions.")
        self._named = name if name in self._names else ""
        if self._named:
            self._to, self._tell = to, self._call
        elif is_thought(head):
            self._tell = self._think
        else:
            self._tell = self._say
            if to not in ("", "assistant", "user", "all"):
                self._say(f"{to} ")

    def _body(self, last: bool) -> bool:
        """Within a message, up to the next mark."""
        mark = _MARK.search(self._buffer)
        if mark is None:
            kept = _unfinished(self._buffer)
            end = len(self._buffer) - (kept if not last or kept >= _SURELY else 0)
            if end:
                self._tell(self._buffer[:end])
            self._buffer = "" if last else self._buffer[end:]
            return False
        if mark.start():
            self._tell(self._buffer[: mark.start()])
        self._buffer = self._buffer[mark.end() :]
        if mark[0] not in (MESSAGE, CONSTRAIN):
            self._end_call()
        if mark[0] in (START, CHANNEL):
            self._buffer, self._step = mark[0] + self._buffer, self._header
        elif mark[0] in _ENDS:
            self._step = self._between
        return True

    def _gap(self, kind: str, text: str) -> str:
        """With a blank line before it where messages of a kind follow each other."""
        gap = "\n\n" if self._fresh and kind in self._said else ""
        self._fresh = False
        self._said.add(kind)
        return gap + text

    def _say(self, text: str) -> None:
        self._parsed.text += self._gap("text", text)

    def _think(self, text: str) -> None:
        self._parsed.thought += self._gap("thought", text)

    def _call(self, text: str) -> None:
        """A call's first text: arguments in another form than JSON are text."""
        text = text.lstrip()
        if text.startswith("{"):
            self._end_call()
            self._tell(text)
        elif text:
            self._named, self._tell = "", self._say
            self._say(f"{self._to} {text}")

    def _end_call(self) -> None:
        """Begins the call that has no arguments yet."""
        if not self._named:
            return
        self._tell = self._skip if self._single and self.count else self._argue
        if self._tell == self._argue:
            self._parsed.begin_call(self.count, self._named)
            self.count += 1
        self._named = ""

    def _argue(self, text: str) -> None:
        self._parsed.add_arguments(self.count - 1, text)

    def _skip(self, text: str) -> None:
        """A call beyond the one that was asked for."""


def _unfinished(text: str) -> int:
    """How many characters at a text's end may be a mark's beginning."""
    return max(overlap(text, mark) for mark in MARKS)


def _is_header(text: str) -> bool:
    """Whether a text is nothing but a header that breaks off."""
    *whole, last = _MARK.sub(" ", text[: len(text) - _unfinished(text)]).split() or [""]
    return all(word in _HEADER_NAMES or word.startswith("to=") for word in whole) and (
        last.startswith("to=") or any(word.startswith(last) for word in (*_HEADER_NAMES, "to="))
    )
