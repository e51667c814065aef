"""What a task's file declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "text", "label", "labels", "messages", "turn", "list", "number", "match", "answers", "value"
]
"""text: cleaned; label: of a class; labels: a list of them; messages: a conversation that ends by
its answer; turn: a text or messages; list: maybe as JSON; number: maybe as text; match: 0 or 1;
answers: texts, or objects with one; value: whatever it is, unchanged."""

ENCODER, DECODER = "distilbert-base-uncased", "Qwen/Qwen3-0.6B"
SENTENCES = "sentence-transformers/all-MiniLM-L6-v2"
ENCODER_DECODER = "google-t5/t5-small"
COMPANIONS = ("tools", "chat_template_kwargs", "system")
"""What may stand beside a conversation."""


@dataclass(frozen=True)
class Shape:
    """One form that the rows of a task may have."""

    required: dict[str, Kind]
    """Keys of `columns` without which there is no row; together they say whether rows are equal."""
    optional: tuple[str, ...] = ()
    """Read where the file has them, unchanged but for `prompt`, `score` and `label`."""
    open: bool = False
    """All other columns go along: reward functions read them by their names."""


ANSWERED = Shape({"prompt": "turn", "completion": "turn"}, COMPANIONS)
MESSAGES = Shape({"messages": "messages"}, COMPANIONS)
TEXT = Shape({"text": "text"})
PREFERENCE = Shape({"chosen": "turn", "rejected": "turn"}, ("prompt", "margin", *COMPANIONS))
PROMPT = Shape({"prompt": "turn"}, open=True)


@dataclass(frozen=True)
class Declaration:
    """What the launcher knows of a task; its name is its file's.

    Attributes:
        rows: tasks whose rows are of one kind suit each other's methods.
        shapes: the forms that its rows may have, the preferred one first.
        evaluation: what a model that was trained for it is asked.
        base: a base model for a first try.
        one_text: rows are texts as they stand, which lose line breaks and length and stay true.
        trial: inputs that a model of this task can be asked, to see whether it answers.
        trial_parameters: that make its answer a readable one.
        group: rows that have the same there stay in one split.
        problem_type: of the method text-classification, by which it learns such rows.
    """

    rows: str
    shapes: tuple[Shape, ...]
    evaluation: str = "text-generation"
    base: str = DECODER
    one_text: bool = False
    problem_type: str | None = None
    trial: str | Mapping[str, str] = "I loved it."
    trial_parameters: Mapping[str, Any] | None = None
    group: str | None = None

    @property
    def encoder(self) -> bool:
        """Whether an encoder is trained: small, and for several epochs."""
        return self.base != DECODER
