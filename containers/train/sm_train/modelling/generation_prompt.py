"""What stands before an answer when a model is served: that which stood there in training.

A chat template may begin the answer otherwise than it shows one: DeepSeek's opens a thought, which
rows without thoughts never had; gpt-oss leaves it to the model to name the channel of its answer.
A model that was trained on such rows would think its whole answer, or begin it with marks. Where
all answers began alike, the artefact's template begins them so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from sm_train.data.messages import text_in, text_like
from sm_train.modelling.chat_templates import conversations, template_options
from sm_train.modelling.sequences import marked_template

if TYPE_CHECKING:
    from sm_train.job import Job

# These learn the answers of the rows; the others answer by the prompt that is served.
_LOOKED_AT = 1000  # rows, evenly over all
_ANSWER = "An answer to look for."
_CLOSED = "</think>"
_BEFORE, _AFTER = "{% set as_made %}", "{% endset %}{% set opening = "
_CHANGED = re.compile(
    f"{re.escape(_BEFORE)}(?P<own>.*){re.escape(_AFTER)}"
    r'"(?:[^"\\]|\\.)*" %}{% if add_generation_prompt and as_made.*{% endif %}(?P<end>\n?)',
    re.DOTALL,
)


@dataclass(frozen=True)
class Opening:
    """How a template begins an answer, and what stood there in training."""

    made: str
    trained: str


def learns_answers(job: Job) -> bool:
    """Whether a method learns answers that the rows give; others answer the prompt as served."""
    return job.config.method.answers in ("taught", "compared", "judged")


def as_made(template: Any) -> Any:
    """A template as its makers had it, where an earlier job has changed its generation prompt."""
    match = _CHANGED.fullmatch(template) if isinstance(template, str) else None
    return match["own"] + match["end"] if match else template


def settle_generation_prompt(job: Job, tokenizer: Any) -> None:
    """Let the tokenizer's template, which is to be exported, begin answers as training did."""
    template = tokenizer.chat_template
    if not learns_answers(job) or not isinstance(template, str):
        return
    openings = _openings(job, tokenizer)
    opening = openings.pop() if len(openings) == 1 else None
    # Blanks are left to the model: they may be one token with what comes after them.
    if opening is None or opening.made.strip() == opening.trained.strip():
        return
    tokenizer.chat_template = with_opening(template, opening)
    from sm_train.log import print_line

    print_line(
        f"chat template: answers begin after {opening.trained!r}, as in the rows of training, "
        f"instead of {opening.made!r}"
    )


def with_opening(template: str, opening: Opening) -> str:
    """The template, but for the end of what it writes before an answer."""
    end = "\n" if template.endswith("\n") else ""
    kept = f"as_made[:(as_made | length) - {len(opening.made)}]"
    return (
        f"{_BEFORE}{template.removesuffix(end)}{_AFTER}{_literal(opening.made)} %}}"
        f"{{% if add_generation_prompt and as_made.endswith(opening) %}}"
        f"{{{{ {kept} + {_literal(opening.trained)} }}}}"
        f"{{% else %}}{{{{ as_made }}}}{{% endif %}}{end}"
    )


def _literal(text: str) -> str:
    """A text as Jinja writes it."""
    for sign, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.replace(sign, written)
    return f'"{text}"'


def _openings(job: Job, tokenizer: Any) -> set[Opening | None]:
    """How the answers of the rows begin, until two of them differ. None: one is not to be seen."""
    rows, chosen = job.data.train, None
    if job.config.training.get("assistant_only_loss"):
        chosen = marked_template(tokenizer)  # what TRL renders such rows by
    openings: set[Opening | None] = set()
    for row in islice(rows, 0, None, max(len(rows) // _LOOKED_AT, 1)):
        for messages in conversations(row):
            if messages and messages[-1]["role"] == "assistant":
                openings.add(_opening(tokenizer, messages, row, chosen))
        if len(openings) > 1:
            break
    return openings


def _opening(
    tokenizer: Any, messages: list[dict[str, Any]], row: dict[str, Any], rendered_by: str | None
) -> Opening | None:
    """Of one answer; None where a template hides it, or where it might as well have been a call."""
    from jinja2 import TemplateError

    thought, closed, _ = text_in(messages[-1]["content"]).rpartition(_CLOSED)
    answer = text_like(messages[-1], f"{thought}{closed}{_ANSWER}")
    known = {**messages[-1], "content": answer}
    try:
        before, made, whole = (
            tokenizer.apply_chat_template(
                turns,
                chat_template=chosen,
                tokenize=False,
                add_generation_prompt=prompt,
                **template_options(row),
            )
            for turns, prompt, chosen in (
                (messages[:-1], False, None),
                (messages[:-1], True, None),
                ([*messages[:-1], known], False, rendered_by),
            )
        )
    except (TemplateError, TypeError, ValueError, KeyError, IndexError):
        return None
    shown = whole[: max(whole.rfind(_ANSWER), 0)]
    if not shown.startswith(before) or not made.startswith(before):
        return None
    opening = Opening(made[len(before) :], shown[len(before) :])
    calls = row.get("tools") or any(message.get("tool_calls") for message in messages)
    return None if calls and not opening.made.startswith(opening.trained) else opening
