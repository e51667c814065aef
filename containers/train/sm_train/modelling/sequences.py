"""Rows as the model gets them: token ids, which of them it learns, and what was cut off.

The rules are TRL's own (a test compares with what its trainers make of the same rows). They stand
here as functions of one row, so that rows can be counted and shown before a model is loaded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sm_train.data.public_formats import common_length
from sm_train.modelling.chat_templates import conversations
from sm_train.modelling.tool_templates import check_tools_shown
from sm_train.rows import Tokens

if TYPE_CHECKING:
    from sm_train.settings.settings import Config

_SPLITTING = ("bfd_split", "wrapped")  # packing strategies that cut long rows in pieces


def row_tokens(row: dict[str, Any], config: Config, tokenizer: Any) -> list[Tokens]:
    """A cleaned row as its method's model gets it. Raises ValueError where it cannot learn it."""
    from jinja2 import TemplateError

    present = {name: value for name, value in row.items() if value is not None}
    try:
        check_row_tools(present, tokenizer)
        tokens = config.method.tokens(present, config, tokenizer)
    except (TemplateError, TypeError, KeyError) as error:
        raise ValueError(f"the chat template refuses it: {error}") from error
    return tokens


def check_row_tools(row: dict[str, Any], tokenizer: Any) -> None:
    """Raise ValueError for a row with tools that the chat template leaves out."""
    for messages in conversations(row):
        options = row.get("chat_template_kwargs") or {}
        check_tools_shown(tokenizer, messages, row.get("tools"), options)


def setting(config: Config, name: str) -> Any:
    """A field of the training config: as given, else the library's default."""
    from sm_train.settings.schema_files import load_schema

    default = load_schema(config.method.name)["properties"].get(name, {}).get("default")
    return config.training.get(name, default)


def sft_tokens(row: dict[str, Any], config: Config, tokenizer: Any) -> list[Tokens]:
    """The sequence of an SFT row, after max_length. Raises ValueError where it cannot be made."""
    if "input_ids" in row:
        whole = _given_tokens(row, config)
    elif row.get("learn"):
        whole = _marked_turns(row, config, tokenizer)
    elif "messages" in row:
        whole = _conversation(row, config, tokenizer)
    elif "prompt" in row:
        whole = _completion(row, config, tokenizer)
    else:
        text = row[str(setting(config, "dataset_text_field"))]
        ids = tokenizer(ended(text, tokenizer))["input_ids"]
        whole = Tokens(ids, [True] * len(ids))
    split = config.training.get("packing") and setting(config, "packing_strategy") in _SPLITTING
    return [whole if split else shortened(whole, config)]


def shortened(tokens: Tokens, config: Config) -> Tokens:
    """A sequence without what max_length takes off."""
    limit = setting(config, "max_length")
    if limit is None or len(tokens.ids) <= limit:
        return tokens
    at_end = setting(config, "truncation_mode") == "keep_end"
    kept = slice(-limit, None) if at_end else slice(limit)
    cut = len(tokens.ids) - limit
    uncut = tuple(tokens.ids)
    return replace(tokens, ids=tokens.ids[kept], learnt=tokens.learnt[kept], cut=cut, uncut=uncut)


def _given_tokens(row: dict[str, Any], config: Config) -> Tokens:
    """A row that is tokenised already; a mask that comes with it is honoured."""
    ids = row["input_ids"]
    if row.get("labels") is not None:
        return Tokens(ids, [label != -100 for label in row["labels"]])
    masks = [row["assistant_masks"]] if row.get("assistant_masks") is not None else []
    if row.get("completion_mask") is not None and setting(config, "completion_only_loss") != 0:
        masks.append(row["completion_mask"])
    return Tokens(ids, [all(mask[i] for mask in masks) for i in range(len(ids))])


def _conversation(row: dict[str, Any], config: Config, tokenizer: Any) -> Tokens:
    """All tokens of a conversation, or the assistant's alone."""
    if not setting(config, "assistant_only_loss"):
        ids = _rendered(tokenizer, row["messages"], row)["input_ids"]
        return Tokens(ids, [True] * len(ids))
    rendered = _rendered(tokenizer, row["messages"], row, masks=True)
    return Tokens(rendered["input_ids"], [bool(mark) for mark in rendered["assistant_masks"]])


def _completion(row: dict[str, Any], config: Config, tokenizer: Any) -> Tokens:
    """Prompt and completion; by default the completion alone is learnt."""
    chat = isinstance(row["prompt"], list)
    by_assistant = chat and bool(setting(config, "assistant_only_loss"))
    completion = row["completion"] if chat else ended(row["completion"], tokenizer)
    before = _token_ids(tokenizer, row["prompt"], row, training=by_assistant, prompt=True)
    whole = row["prompt"] + completion
    if by_assistant:
        rendered = _rendered(tokenizer, whole, row, masks=True)
        ids, learnt = rendered["input_ids"], [bool(mark) for mark in rendered["assistant_masks"]]
    else:
        ids = _token_ids(tokenizer, whole, row)
        learnt = [True] * len(ids)
    differs = False
    if setting(config, "completion_only_loss") in (None, True):
        start = common_length(before, ids)
        differs = start < len(before)
        learnt = [place >= start and mark for place, mark in enumerate(learnt)]
    return Tokens(ids, learnt, differs=differs)


def asked(row: dict[str, Any], tokenizer: Any) -> tuple[list[int], str] | None:
    """The tokens by which a server would ask for the last answer of an SFT row, and that answer.

    None for a row without a prompt: text, and tokens.
    """
    prompt, answer = row.get("prompt"), row.get("completion")
    if "messages" in row:
        prompt, answer = [], row["messages"]
    if isinstance(answer, list):
        places = [i for i, turn in enumerate(answer) if turn["role"] == "assistant"]
        if not places:
            return None
        prompt = [*(prompt or []), *answer[: places[-1]]]
        answer = answer[places[-1]]["content"]
    if not prompt or not isinstance(answer, str):
        return None
    return _token_ids(tokenizer, prompt, row, prompt=True), answer.strip()


def preference_tokens(row: dict[str, Any], config: Config, tokenizer: Any) -> list[Tokens]:
    """The chosen and the rejected sequence of a pair, or a single judged answer."""
    names = ("chosen", "rejected") if "chosen" in row else ("completion",)
    prompt = row.get("prompt")
    if prompt is None:
        prompt, row = _without_common_prompt(row)
    before = _token_ids(tokenizer, prompt, row, prompt=True)
    sequences = []
    for name in names:
        answer = row[name] if isinstance(row[name], list) else ended(row[name], tokenizer)
        ids = _token_ids(tokenizer, prompt + answer, row)
        start = common_length(before, ids)
        learnt = [place >= start for place in range(len(ids))]
        note = "" if "label" not in row else f"marked {'good' if row['label'] else 'bad'}"
        whole = Tokens(ids, learnt, name, note, answer=start, differs=start < len(before))
        sequences.append(shortened(whole, config))
    return sequences


def labelled_columns(_row: dict[str, Any], sequences: list[Tokens]) -> dict[str, Any]:
    """The first sequence of a row as SFT's trainer takes it."""
    if not sequences:
        return {"input_ids": [], "labels": []}
    marks = zip(sequences[0].ids, sequences[0].learnt, strict=True)
    labels = [token if learnt else -100 for token, learnt in marks]
    return {"input_ids": sequences[0].ids, "labels": labels}


def pair_columns(_row: dict[str, Any], sequences: list[Tokens]) -> dict[str, Any]:
    """Both answers as DPO's trainer takes them, which cuts at max_length by itself.

    As there, an answer begins where either of the two sequences leaves the prompt.
    """
    if not sequences:
        return {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    chosen, rejected = (tokens.whole for tokens in sequences)
    start = min(tokens.answer for tokens in sequences)
    return {
        "prompt_ids": chosen[:start],
        "chosen_ids": chosen[start:],
        "rejected_ids": rejected[start:],
    }


def _without_common_prompt(row: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """As TRL takes the prompt out of the chosen and the rejected answer."""
    from trl.data_utils import extract_prompt

    parts = extract_prompt({"chosen": row["chosen"], "rejected": row["rejected"]})
    return parts["prompt"], {**row, **parts}


def reward_tokens(row: dict[str, Any], config: Config, tokenizer: Any) -> list[Tokens]:
    """Both conversations, judged as wholes; TRL leaves out rows with one beyond max_length."""
    prompt = row.get("prompt")
    sequences = []
    for name, note in (("chosen", "is to score higher"), ("rejected", "is to score lower")):
        answer = row[name] if isinstance(row[name], list) else ended(row[name], tokenizer)
        ids = _token_ids(tokenizer, answer if prompt is None else prompt + answer, row)
        sequences.append(Tokens(ids, [True] * len(ids), name, note))
    limit = setting(config, "max_length")
    longest = max(len(tokens.ids) for tokens in sequences)
    if limit is not None and longest > limit:
        raise ValueError(f"longer than max_length {limit}")
    return sequences


def prompt_tokens(row: dict[str, Any], _config: Config, tokenizer: Any) -> list[Tokens]:
    """The prompt of an online method; the answers are sampled."""
    ids = _token_ids(tokenizer, row["prompt"], row, prompt=True)
    return [Tokens(ids, [False] * len(ids), note="the model's own answers are learnt from")]


def _token_ids(
    tokenizer: Any,
    value: Any,
    row: dict[str, Any],
    *,
    prompt: bool = False,
    training: bool = False,
) -> list[int]:
    """Token ids of a text or of messages; `prompt` ends messages with the answer's beginning."""
    if isinstance(value, list):
        rendered = _rendered(tokenizer, value, row, masks=training, prompt=prompt)
        ids: list[int] = rendered["input_ids"]
    else:
        ids = tokenizer(text=value)["input_ids"]
    return ids


def _rendered(
    tokenizer: Any,
    messages: list[dict[str, Any]],
    row: dict[str, Any],
    *,
    masks: bool = False,
    prompt: bool = False,
) -> Any:
    """The tokens of messages; `masks` asks which are the assistant's, by TRL's marked template."""
    options = {"tools": row.get("tools") or None, **(row.get("chat_template_kwargs") or {})}
    if masks:
        options["chat_template"] = marked_template(tokenizer)
    return tokenizer.apply_chat_template(
        messages,
        tokenize=True,
        return_dict=True,
        add_generation_prompt=prompt,
        return_assistant_tokens_mask=masks and not prompt,
        **options,
    )


def marked_template(tokenizer: Any) -> str | None:
    """TRL's version of the template that marks the assistant's turns; None where it does itself."""
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    if has_generation_markers(tokenizer.chat_template):
        return None
    template: str | None = get_training_chat_template(tokenizer)
    return template


def _marked_turns(row: dict[str, Any], config: Config, tokenizer: Any) -> Tokens:
    """A conversation whose turns say themselves whether they are learnt (OpenAI's weight).

    Turns that say nothing follow assistant_only_loss, which is on here unless it was set: the
    makers of such data learn the assistant's turns alone.
    """
    messages = row.get("messages") or row["prompt"] + row["completion"]
    chosen = config.training.get("assistant_only_loss")
    text = _text(tokenizer, messages, row)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    places = encoded["offset_mapping"]
    learnt = [chosen is False] * len(places)
    for number, (message, mark) in enumerate(zip(messages, row["learn"], strict=True)):
        by_default = chosen is False or message["role"] == "assistant"
        learns = by_default if mark is None else bool(mark)
        start, end = _turn_span(tokenizer, messages, number, row, text)
        for index, (begin, _) in enumerate(places):
            if start <= begin < end:
                learnt[index] = learns
    return Tokens(list(encoded["input_ids"]), learnt)


def _turn_span(
    tokenizer: Any, messages: list[dict[str, Any]], number: int, row: dict[str, Any], text: str
) -> tuple[int, int]:
    """Where a turn stands in the rendered text, without what announces an answer."""
    start = 0
    if number and messages[number]["role"] == "assistant":
        start = common_length(_text(tokenizer, messages[:number], row, prompt=True), text)
    elif number:
        start = len(_text(tokenizer, messages[:number], row))
    until = _text(tokenizer, messages[: number + 1], row)
    if not text.startswith(until):
        raise ValueError(
            "the chat template renders a turn otherwise when others follow, so that its weight "
            "cannot be honoured; set another chat_template"
        )
    return start, len(until)


def _text(
    tokenizer: Any, messages: list[dict[str, Any]], row: dict[str, Any], *, prompt: bool = False
) -> str:
    text: str = tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        tools=row.get("tools") or None,
        add_generation_prompt=prompt,
        **(row.get("chat_template_kwargs") or {}),
    )
    return text


def ended(text: str, tokenizer: Any) -> str:
    """Text that ends with the end-of-sequence token, as TRL completes it."""
    end = tokenizer.eos_token or ""
    return text if text.endswith(end) else text + end
