"""How a model's answers to chats tell thoughts from the rest: in `<think>`, or in channels.

Which of them a model has is read off what is loaded with it, its chat template and tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sm_serve.protocol import GenerationRequest, Sampling
from sm_serve.schemas import harmony, thoughts

THINK, HARMONY, AUTO = "think", "harmony", "auto"
THINK_TOKENS = 32
"""Of a prompt, enough to hold the tag that opens a thought."""


class AnswerForm(Protocol):
    """What a form asks of generation."""

    pair: tuple[str, str]
    """The tags around a thought, empty where it has none."""
    tags: Mapping[int, str]
    """Its marks that are special tokens: they are a part of the text nevertheless."""
    ends: frozenset[int]
    """Tokens that end an answer, beside the model's own."""
    stops: tuple[str, ...]
    """Marks that end an answer and are no tokens."""
    unfinished: str
    """What is missing in an answer that is thoughts alone, for the log."""

    def opened(self, prompt: Sequence[int], request: GenerationRequest) -> str | None:
        """How the prompt begins the answer, see Delta; None where the answer has no thoughts."""
        ...

    def breaks_off(self, answer: str) -> bool:
        """Whether an answer, what the prompt has of it included, is thoughts alone."""
        ...

    def prefix(self, prompt: str, request: GenerationRequest) -> str:
        """What stands behind the prompt of an answer that is held to a constraint."""
        ...

    def messages(self, messages: Any) -> Any:
        """Messages as the chat template takes their thoughts."""
        ...


def choose_form(setting: str, chat_template: str, tokenizer: Any) -> AnswerForm | None:
    """The form of a model's answers, by SM_SERVE_REASONING_PARSER and what is loaded."""
    if setting == HARMONY or (setting == AUTO and harmony.knows_channels(chat_template, tokenizer)):
        return ChannelForm(tokenizer, chat_template)
    tags = thoughts.find_tags(chat_template, tokenizer)
    if setting == THINK:
        tags = tags or thoughts.THINK
    return ThinkForm(tokenizer, tags) if tags is not None and setting in (AUTO, THINK) else None


class ThinkForm:
    """A thought in tags, and the answer."""

    ends: frozenset[int] = frozenset()
    stops: tuple[str, ...] = ()

    def __init__(self, tokenizer: Any, pair: thoughts.Tags) -> None:
        self.pair: tuple[str, str] = pair
        self._pair, self.unfinished = pair, pair.closing
        self.tags: Mapping[int, str] = thoughts.special_tags(tokenizer, pair.marks)
        self._decode: Callable[[Sequence[int]], Any] = tokenizer.decode

    def opened(self, prompt: Sequence[int], request: GenerationRequest) -> str | None:
        """See AnswerForm. What is held to a constraint is the answer alone."""
        if request.sampling.constraint is not None:
            return None
        if request.continue_final_message:
            inside = thoughts.is_open(str(request.prompt[-1].get("content")), self._pair)  # type: ignore[union-attr]
        else:
            inside = thoughts.opens_thought(str(self._decode(prompt[-THINK_TOKENS:])), self._pair)
        return self._pair.opening if inside else ""

    def breaks_off(self, answer: str) -> bool:
        """See AnswerForm."""
        return thoughts.breaks_off(answer, self._pair)

    def prefix(self, prompt: str, request: GenerationRequest) -> str:
        """See AnswerForm."""
        return request.answer_prefix

    def messages(self, messages: Any) -> Any:
        """See AnswerForm."""
        return messages


class ChannelForm:
    """Messages in channels, see sm_serve.schemas.harmony."""

    pair = ("", "")

    def __init__(self, tokenizer: Any, chat_template: str) -> None:
        self.tags: Mapping[int, str] = thoughts.special_tags(tokenizer, harmony.MARKS)
        self.ends = frozenset(i for i, mark in self.tags.items() if mark in harmony.LAST)
        told = (harmony.CALL, harmony.RETURN)
        self.stops: tuple[str, ...] = tuple(
            mark
            for mark in harmony.LAST
            if mark not in self.tags.values() and (mark in told or mark in chat_template)
        )
        self._template = chat_template
        named = harmony.names_channels(chat_template, tokenizer)
        self._final = harmony.FINAL if named else harmony.TO_USER
        self.unfinished = self._final
        self._decode: Callable[[Sequence[int]], Any] = tokenizer.decode

    def opened(self, prompt: Sequence[int], request: GenerationRequest) -> str | None:
        """See AnswerForm. What is held to a constraint is the answer alone."""
        if request.sampling.constraint is not None:
            return None
        return harmony.opened_message(str(self._decode(prompt[-harmony.TAIL_TOKENS :])))

    def breaks_off(self, answer: str) -> bool:
        """See AnswerForm."""
        return harmony.breaks_off(answer)

    def prefix(self, prompt: str, request: GenerationRequest) -> str:
        """See AnswerForm: the header of a call, or of the last message."""
        if harmony.MESSAGE in harmony.opened_message(prompt):
            return ""
        return request.answer_prefix or self._final

    def messages(self, messages: Any) -> Any:
        """See AnswerForm."""
        return harmony.with_thinking(messages, self._template)


def stopping(sampling: Sampling, form: AnswerForm) -> tuple[str, ...]:
    """The stop strings of an answer in a form."""
    return sampling.stop if sampling.ignore_eos else (*sampling.stop, *form.stops)
