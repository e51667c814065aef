"""What a model thinks before it answers: the text in `<think>`, told apart from the answer.

Tags may come in pieces, and the chat template may have opened the first one in the prompt already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OPENING, CLOSING = "<think>", "</think>"


def knows_thoughts(chat_template: str, tokenizer: Any) -> bool:
    """Whether a model thinks in these tags, by its chat template or a token of its own."""
    return any(tag in chat_template for tag in (OPENING, CLOSING)) or (
        OPENING in tokenizer.get_added_vocab()
    )


def special_tags(tokenizer: Any) -> dict[int, str]:
    """The tags that are special tokens of a tokenizer: decoding leaves them out, by their ids."""
    special = {*tokenizer.all_special_ids}
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = {tokenizer.get_added_vocab().get(tag): tag for tag in (OPENING, CLOSING)}
    return {token: tag for token, tag in ids.items() if token in special}


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends within a thought."""
    return prompt.rstrip().endswith(OPENING)


def is_open(text: str) -> bool:
    """Whether a text breaks off within a thought."""
    return text.rfind(OPENING) > text.rfind(CLOSING)


def breaks_off(answer: str) -> bool:
    """Whether an answer, its opening tag included, is a thought without an end."""
    return answer.lstrip().startswith(OPENING) and CLOSING not in answer


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` with which `mark` begins."""
    return next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)


class ThoughtReader:
    """Reads one answer piece by piece. Blanks around a thought belong to neither part."""

    def __init__(self, *, inside: bool) -> None:
        self._step: Callable[[bool], bool] = self._begin
        self._next = self._think if inside else self._say
        self._buffer = ""
        self._thought = self._text = self._blank = ""
        self._told = False

    @property
    def thinking(self) -> bool:
        """Whether the answer has not begun."""
        return self._think in (self._step, self._next if self._step == self._begin else None)

    def push(self, text: str, *, last: bool = False) -> tuple[str, str]:
        """What new text adds to the thought and to the answer."""
        self._thought = self._text = ""
        self._buffer += text
        while self._buffer and self._step(last):
            pass
        return self._thought, self._text

    def _begin(self, last: bool) -> bool:
        """Before it is known whether the answer begins with a thought, maybe an opened one."""
        start = self._buffer.lstrip()
        if start.startswith(OPENING):
            self._buffer = start[len(OPENING) :]
            self._step = self._think
            return True
        if OPENING.startswith(start) and not last:
            return False
        self._step = self._next
        return True

    def _think(self, last: bool) -> bool:
        place = self._buffer.find(CLOSING)
        keep = 0 if last else overlap(self._buffer, CLOSING)
        end = place if place >= 0 else len(self._buffer) - keep
        thought = self._blank + self._buffer[:end]
        if not self._told:
            thought = thought.lstrip()
        shown = thought.rstrip()
        self._told = self._told or bool(shown)
        # Blanks at the end are held back: there may be nothing more.
        self._thought, self._blank = shown, thought[len(shown) :] if self._told else ""
        self._buffer = self._buffer[end:]
        if place < 0:
            return False
        self._buffer = self._buffer[len(CLOSING) :]
        self._step = self._pause
        return True

    def _pause(self, last: bool) -> bool:
        """Between thought and answer."""
        self._buffer = self._buffer.lstrip()
        if self._buffer:
            self._step = self._say
        return bool(self._buffer)

    def _say(self, last: bool) -> bool:
        self._text += self._buffer
        self._buffer = ""
        return False
