"""The chat template of a job: the base model's own, one by name, its text, or a channel's file."""

from __future__ import annotations

import importlib.util
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_train.contract import Paths, channel_file, read_text
from sm_train.data.formats import is_conversational
from sm_train.data.messages import text_in
from sm_train.errors import UserError, shorten
from sm_train.modelling.end_of_turn import base_stops, settle_end_of_turn
from sm_train.settings.schema_files import load_schema

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.settings.settings import Config

_CHECKED_ROWS = 100
_SUFFIXES = (".jinja", ".j2")
_TEXTLESS = ("none", "sampled")  # answers of which no text of the rows is learnt
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # keys beside an answer's content

# OpenAI's ChatML with the marks that assistant_only_loss needs; the end mark belongs to the answer.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\\n' }}{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def template_text(paths: Paths, chosen: str) -> str:
    """The template that the hyperparameter `chat_template` means. Raises UserError for none."""
    if "{{" in chosen or "{%" in chosen:
        return chosen
    if chosen.endswith(_SUFFIXES):
        return read_text(channel_file(paths, chosen, "chat_template"), "chat_template")
    named = named_templates()
    if chosen == "chatml":
        return CHATML
    if chosen in named:
        return named[chosen].read_text(encoding="utf-8")
    raise UserError(
        "is no chat template",
        field="chat_template",
        value=chosen,
        fix="give its text, a file NAME.jinja of a channel, or one of "
        f"{', '.join(template_names())}",
    )


def template_names() -> list[str]:
    """The templates that can be named: ChatML, and those of model families that TRL ships."""
    return ["chatml", *sorted(named_templates())]


def named_templates() -> dict[str, Path]:
    """TRL's templates by family, found without importing TRL."""
    package = importlib.util.find_spec("trl")
    folders = package.submodule_search_locations if package else None
    files = Path(next(iter(folders or ()), "")).glob("chat_templates/*.jinja")
    return {path.stem: path for path in files if not path.stem.endswith("_training")}


def settle_chat_template(job: Job, tokenizer: Any) -> None:
    """Give the tokenizer the job's template, and try it on the data before a model is loaded.

    Raises UserError when there is none, when it refuses a conversation, or when it cannot say which
    tokens are the assistant's and assistant_only_loss needs to know.
    """
    training = job.config.training
    chosen = job.config.job.chat_template
    own_end = tokenizer.eos_token_id
    generates = job.config.method.answers != "scored"
    _check_token(tokenizer, "eos_token", training.get("eos_token"))
    _check_token_ids(job, tokenizer)
    if chosen:
        tokenizer.chat_template = template_text(job.paths, chosen)
    file = str(training.get("chat_template_path") or "")
    if file.endswith(_SUFFIXES):
        tokenizer.chat_template = read_text(Path(file), "chat_template_path")
    elif file:
        added = _borrow(tokenizer, file)
        if generates:
            job.new_tokens.ids.extend(added)
    chats = [row for row in job.data.train if is_conversational(row)]
    if len(chats) < len(job.data.train):
        _check_texts_end(job, tokenizer)
    if not chats:
        return
    if not tokenizer.chat_template:
        raise UserError(
            "the data are conversations, and the base model has no chat template",
            field="chat_template",
            fix=f"set it to a template's text, a file, or a name such as {', '.join(_examples())}; "
            "or use a base model that has one (an instruct model)",
        )
    _try(job, tokenizer)
    if training.get("assistant_only_loss"):
        _check_assistant_marks(tokenizer)
    for messages in conversations(chats[0])[:1] if generates else ():
        stops = base_stops(job, own_end)
        settle_end_of_turn(job, tokenizer, stops, messages, **template_options(chats[0]))


def _check_texts_end(job: Job, tokenizer: Any) -> None:
    """Text ends with the tokenizer's end of sequence, which a few tokenizers do not have."""
    method = job.config.method
    ends = tokenizer.eos_token or job.config.training.get("eos_token")
    texts = (row for row in job.data.train if not is_conversational(row))
    if ends or method.answers in _TEXTLESS or all("input_ids" in row for row in texts):
        return
    known = [token for token in tokenizer.all_special_tokens if token != tokenizer.unk_token]
    settable = "eos_token" in load_schema(method.name)["properties"]
    named = "eos_token in the base model's tokenizer_config.json"
    raise UserError(
        "the tokenizer names no end of sequence, so the model would never learn to stop",
        field="eos_token",
        fix=f"set {'eos_token' if settable else named} to a token of its own"
        + (f", such as {known[0]}" if known else ""),
    )


def _check_token(tokenizer: Any, field: str, token: Any) -> None:
    if token and token not in tokenizer.get_vocab():
        raise UserError(
            "is not a token of the base model",
            field=field,
            value=token,
            fix=f"use one of its own, such as {tokenizer.eos_token}, or remove the setting",
        )


def _borrow(tokenizer: Any, source: str) -> list[int]:
    """The template of another tokenizer with its tokens; the ids of those that are new."""
    from transformers import AutoTokenizer

    try:
        other = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no tokenizer can be loaded from it: {shorten(str(error), 300)}",
            field="chat_template_path",
            value=source,
            fix="name a .jinja file of a channel, or a tokenizer's directory or Hub id",
        ) from error
    tokenizer.chat_template = other.get_chat_template()
    known = tokenizer.get_vocab()
    added = [t for t in other.added_tokens_decoder.values() if t.content not in known]
    tokenizer.add_tokens(added)
    tokenizer.eos_token = other.eos_token
    return sorted(tokenizer.convert_tokens_to_ids([token.content for token in added]))


def _check_token_ids(job: Job, tokenizer: Any) -> None:
    known = len(tokenizer)
    for row in job.data.train:
        if "input_ids" not in row:
            continue
        if not 0 <= min(row["input_ids"]) <= max(row["input_ids"]) < known:
            raise UserError(
                f"hold tokens that the base model does not know; it has {known}",
                field="input_ids",
                value=max(row["input_ids"]),
                fix="tokenise with the base model's own tokenizer, or give text or messages",
            )


def _examples() -> list[str]:
    return [name for name in ("chatml", "llama3", "qwen3") if name in template_names()]


def _try(job: Job, tokenizer: Any) -> None:
    from jinja2 import TemplateError

    hidden = 0
    for split in ("train", "validation", "test"):
        for number, row in enumerate(islice(job.data.split(split) or (), _CHECKED_ROWS), 1):
            try:
                for messages in conversations(row):
                    text = _render(tokenizer, messages, row)
                    hidden += split == "train" and _hides_thought(messages, text)
            except (TemplateError, TypeError, ValueError, KeyError) as error:
                raise UserError(
                    f"refuses conversation {number} of {split}: {shorten(str(error), 300)}",
                    field="chat_template",
                    value=job.config.job.chat_template,
                    fix="change the messages to what the template takes, or set another template",
                ) from error
    if hidden and job.is_main and not job.config.training.get("assistant_only_loss"):
        from sm_train.log import print_line

        print_line(
            f"warning: the chat template leaves out the thought before the answer in {hidden} of "
            f"the first {min(_CHECKED_ROWS, len(job.data.train))} rows, so it is not learnt"
        )


def _hides_thought(messages: list[dict[str, Any]], text: str) -> bool:
    """Whether the last answer comes with a thought, in it or beside it, that is not rendered."""
    last = messages[-1]
    beside = next((last[name] for name in _THOUGHTS if isinstance(last.get(name), str)), "")
    before, closed, _ = text_in(last["content"]).rpartition("</think>")
    thought = (before.rpartition("<think>")[2] if closed else beside).strip()
    return last["role"] == "assistant" and bool(thought) and thought not in text


def conversations(row: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The conversations that a row will be rendered as."""
    if "messages" in row:
        return [row["messages"]]
    prompt = row.get("prompt", [])
    if not isinstance(prompt, list):
        return []
    answers = [row[n] for n in ("completion", "chosen", "rejected") if isinstance(row.get(n), list)]
    return [prompt + answer for answer in answers] or ([prompt] if prompt else [])


def _render(tokenizer: Any, messages: list[dict[str, Any]], row: dict[str, Any]) -> str:
    return str(
        tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=messages[-1]["role"] != "assistant",
            **template_options(row),
        )
    )


def template_options(row: dict[str, Any]) -> dict[str, Any]:
    """What else a conversation is rendered with."""
    return {"tools": row.get("tools"), **(row.get("chat_template_kwargs") or {})}


def _check_assistant_marks(tokenizer: Any) -> None:
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    if has_generation_markers(tokenizer.chat_template):
        return
    try:
        get_training_chat_template(tokenizer)
    except ValueError as error:
        raise UserError(
            "the chat template does not mark the assistant's turns with {% generation %}, and it "
            "is of no model family that TRL can patch",
            field="assistant_only_loss",
            value=True,
            fix="set chat_template to one with the marks (chatml has them), use prompt and "
            "completion columns (only completions are learnt), or set it to false",
        ) from error


def check_chat_template(config: Config, paths: Paths) -> None:
    """What can be said about the settings before anything heavy is imported. Raises UserError."""
    chosen = config.job.chat_template
    trl = config.method.training_config.startswith("trl")
    if chosen and not trl:
        raise UserError(
            f"has no meaning for {config.method.name}, which reads no conversations",
            field="chat_template",
            value=chosen,
            fix="remove it",
        )
    if chosen and config.training.get("chat_template_path"):
        raise UserError(
            "contradicts another setting: chat_template is set too",
            field="chat_template_path",
            value=config.training["chat_template_path"],
            fix="set only one of them",
        )
    if chosen:
        template_text(paths, chosen)
