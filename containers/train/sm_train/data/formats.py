"""TRL's data formats, checked: text or messages as prompt, completion, chosen, rejected."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sm_train.data.messages import conversation, looks_like_messages, parsed, tool_schemas
from sm_train.data.mixing import by_data_set
from sm_train.data.public_formats import (
    common_length,
    openai_preference,
    split_dialogues,
    stated_answer,
    stated_prompt,
)
from sm_train.errors import UserError
from sm_train.rows import SPLITS

if TYPE_CHECKING:
    from sm_train.rows import Data
    from sm_train.settings.settings import Config

# What goes along with a conversation, as TRL's "Dataset formats" documents it.
LEARN = "learn"  # of each turn of a cleaned row, whether it is learnt, where it says so itself
_KWARGS = "chat_template_kwargs"
_COMPANIONS = ("tools", _KWARGS)
# What people call the columns that TRL wants, to say how to rename them.
_OTHER_NAMES = {
    "prompt": ("question", "instruction", "query", "input", "problem"),
    "completion": ("answer", "response", "output", "solution"),
    "messages": ("conversation", "dialogue", "dialog", "chat"),
    "text": ("content", "document", "body"),
    "chosen": ("preferred", "accepted", "response_chosen"),
    "rejected": ("dispreferred", "response_rejected"),
    "label": ("labels", "class", "category", "rating", "thumbs_up"),
    "answers": ("answer",),
    "context": ("passage", "document", "text"),
    "tokens": ("words",),
    "tags": ("ner_tags", "pos_tags", "labels"),
}


def turn(value: Any, column: str) -> Any:
    """A text, or a list of messages (maybe as JSON). Raises ValueError for anything else."""
    if isinstance(value, list | dict) or looks_like_messages(value):
        return conversation(value, column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in column {column}")
    return value


def companions(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that may stand beside a conversation, where they are set."""
    columns: dict[str, Any] = {}
    for name in ("tools", "functions"):  # OpenAI's former name
        if row.get(name) and "tools" not in columns:
            columns["tools"] = tool_schemas(row[name], name)
    if row.get(_KWARGS):
        columns[_KWARGS] = parsed(row[_KWARGS], _KWARGS, "a JSON object")
        if not isinstance(columns[_KWARGS], dict):
            raise ValueError(f"{_KWARGS} is not a JSON object")
    return {name: value for name, value in columns.items() if value}


def prompted(prompt: Any, answers: dict[str, Any]) -> dict[str, Any]:
    """`prompt` (where there is one) and the answers, all text or all messages.

    Text beside messages becomes a message, and answers that repeat the prompt lose it:
    UltraFeedback and its like hold a text prompt beside whole conversations.
    """
    turns = {name: turn(value, name) for name, value in answers.items()}
    prompt = None if prompt is None else turn(prompt, "prompt")
    chats = [v for v in (prompt, *turns.values()) if isinstance(v, list)]
    if isinstance(prompt, list):
        check_asks(prompt)
    if not chats:
        return turns if prompt is None else {"prompt": prompt, **turns}
    for name, value in turns.items():
        if isinstance(value, str):
            turns[name] = [{"role": "assistant", "content": value}]
    if prompt is None:
        return turns
    prompt = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if all(value[: len(prompt)] == prompt and len(value) > len(prompt) for value in turns.values()):
        return {"prompt": prompt, **{n: v[len(prompt) :] for n, v in turns.items()}}
    if all(value[0]["role"] in ("system", "developer", "user") for value in turns.values()):
        return turns  # whole conversations: their common beginning is the prompt
    return {"prompt": prompt, **turns}


def check_asks(messages: list[dict[str, Any]]) -> None:
    """Raise ValueError when the messages before an answer say nothing."""
    if not any(m["role"] != "assistant" and _says(m["content"]) for m in messages):
        raise ValueError("the prompt is empty")


def _says(content: Any) -> bool:
    """Whether a message holds an image or a text that is not blank."""
    return isinstance(content, list) or bool(content.strip())


def answered(row: dict[str, Any], config: Config) -> dict[str, Any]:
    """`prompt` and `completion`. Raises ValueError where the completion is to another prompt."""
    turns = prompted(stated_prompt(row, config), {"completion": stated_answer(row)})
    if "prompt" not in turns:
        raise ValueError("no text in column prompt, or completion does not begin with it")
    return turns


def preference_row(row: dict[str, Any], config: Config) -> dict[str, Any]:
    """`chosen` and `rejected`, with the prompt apart or inside both. Raises ValueError."""
    converted = openai_preference(row)
    if converted is not None:
        return {**_differing(converted), **companions({**converted, _KWARGS: row.get(_KWARGS)})}
    answers = {"chosen": row.get("chosen"), "rejected": row.get("rejected")}
    turns = _differing(prompted(stated_prompt(row, config, ("question", "input")), answers))
    if "prompt" not in turns:
        turns = _with_common_prompt(turns, config)
    return {**turns, **companions(row)}


def _differing(turns: dict[str, Any]) -> dict[str, Any]:
    if turns["chosen"] == turns["rejected"]:
        raise ValueError("chosen and rejected are the same")
    return turns


def _with_common_prompt(turns: dict[str, Any], config: Config) -> dict[str, Any]:
    """What both answers begin with is the prompt; only a reward model can do without one."""
    chosen, rejected = turns["chosen"], turns["rejected"]
    if isinstance(chosen, str):
        if dialogues := split_dialogues(chosen, rejected):
            return dialogues
        if (
            config.method.answers != "scored"
            and not chosen[: common_length(chosen, rejected)].strip()
        ):
            raise ValueError("the prompt is empty: there is no column prompt, and chosen and "
                             "rejected do not begin with the same text")  # fmt: skip
        return turns
    if chosen[0] != rejected[0]:
        raise ValueError("chosen and rejected do not begin with the same prompt")
    check_asks([message for message in chosen if message in rejected])
    return turns


def preference_columns(_config: Config) -> list[tuple[str, ...]]:
    """What every preference row needs."""
    return [("chosen", "preferred_output"), ("rejected", "non_preferred_output")]


def prompt_row(row: dict[str, Any], config: Config) -> dict[str, Any]:
    """`prompt`, and every other column as it is: reward functions get them by name."""
    asked = prompted(stated_prompt(row, config), {})
    if "prompt" not in asked:
        raise ValueError("no text in column prompt")
    return {**row, **companions(row), **asked}


def reads_prompt(_config: Config, name: str) -> bool:
    """Of an online method's columns these alone are text for sure; rewards get the others."""
    return name in ("prompt", *_COMPANIONS)


def prompt_columns(_config: Config) -> list[tuple[str, ...]]:
    """What every row of an online method needs."""
    return [("prompt",)]


_TURNS = ("prompt", "completion", "chosen", "rejected")


def check_one_format(_config: Config, data: Data) -> None:
    """All rows are of one format: TRL decides by the first how all are read."""
    _refuse_several(_formats(data, _TURNS))


def check_formats_apart(_config: Config, data: Data) -> None:
    """Each data set is of one format, whichever the others have.

    For methods whose rows become tokens here, each by itself.
    """
    for name, rows in by_data_set(data).items():
        counts = Counter(_format(row, _TURNS) for row in rows)
        _refuse_several(counts, f"data set {name}" if name else "channels")


def check_settings_with_images(config: Config, *switches: str) -> None:
    """Raise UserError for settings that TRL's trainers refuse where rows have images."""
    by_length = ("group_by_length", "batch_rebalance")
    refused = {"truncation_mode": ("keep_end",), "train_sampling_strategy": by_length}
    for name, values in {**dict.fromkeys(switches, (True,)), **refused}.items():
        value = config.training.get(name)
        if value in values:
            raise UserError(
                "cannot be done with rows that have images",
                field=name,
                value=value,
                fix="remove the setting",
            )


def check_prompts(_config: Config, data: Data) -> None:
    """Prompts are all text or all messages; other columns are the rewards' business."""
    _refuse_several(_formats(data, ("prompt",)))


def _formats(data: Data, names: tuple[str, ...]) -> Counter[str]:
    return Counter(_format(row, names) for split in SPLITS for row in data.split(split) or ())


def _refuse_several(formats: Counter[str], field: str = "channels") -> None:
    if len(formats) > 1:
        kinds = ", ".join(f"{count} rows with {name}" for name, count in formats.most_common())
        raise UserError(
            f"mix formats: {kinds}",
            field=field,
            fix="use the same columns, and text or messages, in every row of every channel",
        )


def _format(row: dict[str, Any], names: tuple[str, ...]) -> str:
    parts = [
        f"{name} ({'text' if isinstance(row[name], str) else 'messages'})"
        for name in names
        if name in row
    ]
    return " + ".join(parts or sorted(row.keys() - {*_COMPANIONS, LEARN, "images"}))


def is_conversational(row: dict[str, Any]) -> bool:
    """Whether a cleaned row needs a chat template."""
    names = ("messages", "prompt", "chosen")
    return any(isinstance(row.get(name), list) for name in names)


def renaming(wanted: tuple[str, ...], seen: set[str]) -> dict[str, str]:
    """The `columns` setting that would give the data one of the wanted columns, if one is near."""
    for name in wanted:
        near = next((other for other in _OTHER_NAMES.get(name, ()) if other in seen), None)
        if near:
            return {near: name}
    return {}
