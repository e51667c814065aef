"""What a model thinks before it answers: the text in `<think>`, told apart from the answer.

Tags may come in pieces, and the chat template may have opened the first one in the prompt already.
Families of models have tags of their own: which of them one uses is read off what is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Tags(NamedTuple):
    """What stands around a thought."""

    opening: str
    closing: str

    @property
    def marks(self) -> tuple[str, str]:
        """The parts that may be tokens: a word behind the opening one is text."""
        end = max(self.opening.rfind(sign) for sign in ">]▷")
        return self.opening[: end + 1], self.closing


THINK = Tags("<think>", "</think>")
KNOWN = (
    THINK,
    Tags("[THINK]", "[/THINK]"),  # Mistral
    Tags("<|channel>thought", "<channel|>"),  # Gemma 4
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    Tags("<seed:think>", "</seed:think>"),  # Seed-OSS
    Tags("◁think▷", "◁/think▷"),  # Kimi
)


def find_tags(chat_template: str, tokenizer: Any) -> Tags | None:
    """The tags in which a model thinks, by its chat template or else a token of its own."""
    in_template = (tags for tags in KNOWN if any(mark in chat_template for mark in tags.marks))
    own = tokenizer.get_added_vocab()
    return next(in_template, None) or next((tags for tags in KNOWN if tags.marks[0] in own), None)


def special_tags(tokenizer: Any, tags: Sequence[str]) -> dict[int, str]:
    """The tags that are special tokens of a tokenizer: decoding leaves them out, by their ids."""
    special = {*tokenizer.all_special_ids}
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    known = tokenizer.get_added_vocab()
    ids = {known.get(tag): tag for tag in tags}
    return {token: tag for token, tag in ids.items() if token in special}


def opens_thought(prompt: str, tags: Tags = THINK) -> bool:
    """Whether a prompt ends within a thought."""
    return prompt.rstrip().endswith(tags.opening)


def is_open(text: str, tags: Tags = THINK) -> bool:
    """Whether a text breaks off within a thought."""
    return text.rfind(tags.opening) > text.rfind(tags.closing)


def breaks_off(answer: str, tags: Tags = THINK) -> bool:
    """Whether an answer, its opening tag included, is a thought without an end."""
    return answer.lstrip().startswith(tags.opening) and tags.closing not in answer


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` with which `mark` begins."""
    return next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)


class ThoughtReader:
    """Reads one answer piece by piece. Blanks around a thought belong to neither part."""

    def __init__(self, tags: Tags = THINK, *, inside: bool) -> None:
        self._opening, self._closing = tags
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
        if start.startswith(self._opening):
            self._buffer = start[len(self._opening) :]
            self._step = self._think
            return True
        if self._opening.startswith(start) and not last:
            return False
        self._step = self._next
        return True

    def _think(self, last: bool) -> bool:
        place = self._buffer.find(self._closing)
        keep = 0 if last else overlap(self._buffer, self._closing)
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
        self._buffer = self._buffer[len(self._closing) :]
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
