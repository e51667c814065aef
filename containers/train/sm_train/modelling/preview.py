"""A few rows as the model sees them: special tokens, the template, and what is learnt, marked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

from sm_train.data.mixing import rows_apart
from sm_train.job import Job
from sm_train.modelling.images import image_token_ids
from sm_train.modelling.sequences import row_tokens
from sm_train.rows import SPLITS, Data, Tokens

OPEN, CLOSE = "⟦", "⟧"
LEGEND = f"what the model sees; what it learns stands between {OPEN} and {CLOSE}"
ROWS = 3
_SHOWN = 300  # characters of a stretch; of a longer one its beginning and its end
_STRETCHES = 24  # learnt and other stretches of one sequence


def preview(config: Any, tokenizer: Any, data: Data, rows: int = ROWS) -> Iterator[str]:
    """Lines that show the first rows of each channel. `config` is the job's Config."""
    if line := unframed(tokenizer, data):
        yield line
    yield LEGEND
    for split in SPLITS:
        split_rows = data.split(split) or []
        for name, places in sorted(rows_apart(data, split).items()):
            channel = f"{split}-{name}" if name else split
            for number, place in enumerate(places[:rows], 1):
                for line in row_lines(config, tokenizer, split_rows[place]):
                    yield f"{channel} {number}{line}"


def unframed(tokenizer: Any, data: Data) -> str:
    """Says that prompts are texts beside a chat template; empty where that is not so."""
    rows = data.train or data.validation or ()
    texts = sum(isinstance(row.get("prompt"), str) for row in rows)
    if not texts or not getattr(tokenizer, "chat_template", None):
        return ""
    return (
        f"warning: the prompts of {texts} rows are texts, learnt without the base model's chat "
        "template, by which a chat asks the model; as messages (data.conversational of job.yaml "
        "makes them) they are learnt with it"
    )


def row_lines(config: Any, tokenizer: Any, row: dict[str, Any]) -> list[str]:
    """One line for each sequence of a row: what stands behind the row's number."""
    try:
        sequences = row_tokens(row, config, tokenizer)
    except ValueError as error:
        return [f": cannot be learnt from: {error}"]
    return [_line(tokens, tokenizer) for tokens in sequences]


def _line(tokens: Tokens, tokenizer: Any) -> str:
    name = f" {tokens.name}" if tokens.name else ""
    learnt = f", {tokens.learnt_count} learnt" if tokens.learnt_count else ""
    cut = f", {tokens.cut} more cut off by max_length" if tokens.cut else ""
    note = f" → {_escaped(tokens.note)}" if tokens.note else ""
    return f"{name} ({len(tokens.ids)} tokens{learnt}{cut}): {marked_text(tokens, tokenizer)}{note}"


def marked_text(tokens: Tokens, tokenizer: Any) -> str:
    """The decoded tokens with the learnt ones between marks, long stretches shortened."""
    stretches = []
    pairs = zip(tokens.learnt, tokens.ids, strict=True)
    for learnt, group in groupby(pairs, key=lambda pair: pair[0]):
        text = _shortened(_escaped(_decoded([token for _, token in group], tokenizer)))
        stretches.append(f"{OPEN}{text}{CLOSE}" if learnt else text)
    if len(stretches) > _STRETCHES:
        half = _STRETCHES // 2
        stretches = [*stretches[:half], " … ", *stretches[-half:]]
    return "".join(stretches)


def _decoded(ids: list[int], tokenizer: Any) -> str:
    """The text of tokens; those of an image, which is the same one many times, stand once."""
    if not hasattr(tokenizer, "image_processor"):
        return str(tokenizer.decode(ids))
    of_images, text = image_token_ids(tokenizer), ""
    for token, group in groupby(ids, key=lambda number: number if number in of_images else None):
        same = list(group)
        if token is None or len(same) == 1:
            text += tokenizer.decode(same)
        else:
            text += f"{tokenizer.decode([token])}(x{len(same)})"
    return text


def _escaped(text: str) -> str:
    """On one line, with nothing that would steer a terminal."""
    text = text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _shortened(text: str) -> str:
    half = _SHOWN // 2
    return text if len(text) <= _SHOWN else f"{text[:half]} … {text[-half:]}"


def print_preview(job: Job, tokenizer: Any) -> None:
    """The first rows of the train channel into the job's log."""
    from sm_train.log import print_line

    if not job.is_main or not job.config.method.trains:
        return
    shown = replace(job.data, validation=None, test=None)
    for line in preview(job.config, tokenizer, shown):
        print_line(line)
