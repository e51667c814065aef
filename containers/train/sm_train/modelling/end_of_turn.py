"""Where an answer ends: one token that the model learns, and at which generation stops.

A chat template closes the assistant's turn with a mark such as <|im_end|>. A base model may not
have it as a token, or may not stop at it: fine-tuned on such conversations it would write pieces of
text in its place and run on to the length limit.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sm_train.data.messages import text_like
from sm_train.errors import UserError
from sm_train.settings.schema_files import load_schema

if TYPE_CHECKING:
    from sm_train.job import Job, NewTokens

_ANSWER = "An answer to look for."
_MARK = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
# These methods raise the probability of a whole answer, so that a new token is learnt by them. The
# others compare answers, both of which end with it, or sample from a model that never gives it.


def settle_end_of_turn(
    job: Job, tokenizer: Any, stops: set[int], messages: list[dict[str, Any]], **others: Any
) -> None:
    """Make the end of an answer one token of the tokenizer's, and its end of sequence.

    `stops`: the tokens that the base model ends with. `messages`: a conversation of the data,
    `others`: what it is rendered with. A token that the base model does not end with yet is noted
    in `job.new_tokens`, to be taught.

    Raises UserError where the template has no such mark, or the method could not teach it.
    """
    template = _training_template(job, tokenizer)
    rest = _after_answer(job, tokenizer, template, messages, others)
    marks = _marks(tokenizer, rest)
    if not marks:
        _check_needs_no_mark(job, tokenizer, rest)
        return
    mark = _first_to_stop_at(tokenizer, marks, stops)
    known = _is_one_token(tokenizer, mark)
    if not known:
        _check_teaches(job, mark)
        _add(tokenizer, mark)
    token = tokenizer.convert_tokens_to_ids(mark)
    if token not in stops:
        job.new_tokens.ids[:] = sorted({*job.new_tokens.ids, token})
        job.new_tokens.ends.append(token)
    if token not in stops or job.config.method.answers == "sampled":
        tokenizer.eos_token = mark
    if job.config.training.get("assistant_only_loss"):
        _check_is_learnt(tokenizer, template, messages, others, token)
    _say(job, mark, known=known, stops=token in stops)


def _training_template(job: Job, tokenizer: Any) -> str:
    """What the conversations are rendered by: TRL takes another one for assistant_only_loss."""
    if job.config.training.get("assistant_only_loss"):
        from trl.chat_template_utils import get_training_chat_template

        return str(get_training_chat_template(tokenizer) or tokenizer.get_chat_template())
    return str(tokenizer.get_chat_template())


def _with_answer(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with a known answer at its end."""
    before = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    return [*before, {"role": "assistant", "content": text_like(messages[-1], _ANSWER)}]


def _after_answer(
    job: Job, tokenizer: Any, template: str, messages: list[dict[str, Any]], others: dict[str, Any]
) -> str:
    """What a template writes after the last answer."""
    text = tokenizer.apply_chat_template(
        _with_answer(messages), chat_template=template, tokenize=False, **others
    )
    chosen = job.config.job.chat_template
    if _ANSWER not in text:
        raise UserError(
            "leaves out the text of the assistant's answers (it may want content as a list)",
            field="chat_template",
            value=chosen,
            fix="set chat_template to one that shows content which is text, such as chatml",
        )
    return str(text.rsplit(_ANSWER, 1)[1].lstrip())


def _marks(tokenizer: Any, rest: str) -> list[str]:
    """The marks that a text begins with."""
    specials = sorted(map(re.escape, tokenizer.all_special_tokens), key=len, reverse=True)
    marks: list[str] = []
    pattern = re.compile("|".join([*specials, _MARK.pattern]))
    while match := pattern.match(rest):
        marks.append(match[0])
        rest = rest[match.end() :].lstrip()
    return marks


def _check_needs_no_mark(job: Job, tokenizer: Any, rest: str) -> None:
    """An instruct model may end by the next turn's mark, which learning whole answers undoes."""
    chosen = job.config.job.chat_template
    if not chosen and job.config.method.answers != "taught":
        return
    raise UserError(
        f"ends the last answer with {rest[:40]!r}, which is no mark: the model would never learn "
        "to stop",
        field="chat_template",
        value=chosen,
        fix=_fix_for_no_mark(job, tokenizer),
    )


def _fix_for_no_mark(job: Job, tokenizer: Any) -> str:
    fix = "write {{ eos_token }} after the assistant's content in the template"
    marks = "assistant_only_loss" in load_schema(job.config.method.name)["properties"]
    if job.config.training.get("assistant_only_loss") or not marks:
        return fix
    from trl.chat_template_utils import get_training_chat_template

    try:
        patched = get_training_chat_template(tokenizer)
    except ValueError:
        return fix
    return f"{fix}, or set assistant_only_loss to true (TRL then adds the end)" if patched else fix


def _first_to_stop_at(tokenizer: Any, marks: list[str], stops: set[int]) -> str:
    """The first mark, unless a later one is an end already and those before it are never shown."""
    for number, mark in enumerate(marks):
        hidden = all(m in tokenizer.all_special_tokens for m in marks[:number])
        if hidden and tokenizer.convert_tokens_to_ids(mark) in stops:
            return mark
    return marks[0]


def _is_one_token(tokenizer: Any, mark: str) -> bool:
    ids = tokenizer(mark, add_special_tokens=False)["input_ids"]
    return len(ids) == 1 and tokenizer.convert_ids_to_tokens(ids[0]) == mark


def _add(tokenizer: Any, mark: str) -> None:
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(mark, special=True, normalized=False)], special_tokens=True)
    if not _is_one_token(tokenizer, mark):
        raise UserError(
            f"ends an answer with {mark}, which the tokenizer cannot take as one token",
            field="chat_template",
            value=mark,
            fix="use a template whose end of turn is a token of the base model",
        )


def _check_teaches(job: Job, mark: str) -> None:
    method = job.config.method.name
    if job.config.method.answers != "taught":
        raise UserError(
            f"ends an answer with {mark}, which is no token of the base model, and {method} does "
            "not teach a model a new token",
            field="chat_template",
            value=job.config.job.chat_template,
            fix=f"train the base model by sft with this template first, and give its model to "
            f"{method}; or use a template whose end of turn the base model has",
        )


def _check_is_learnt(
    tokenizer: Any,
    template: str,
    messages: list[dict[str, Any]],
    others: dict[str, Any],
    token: int,
) -> None:
    rendered = tokenizer.apply_chat_template(
        _with_answer(messages),
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **others,
    )
    learnt = {
        number
        for number, mask in zip(rendered["input_ids"], rendered["assistant_masks"], strict=True)
        if mask
    }
    if token not in learnt:
        raise UserError(
            "leaves out the end of the answer: the template has it outside {% generation %}, so "
            "the model would never learn to stop",
            field="assistant_only_loss",
            value=True,
            fix="move the end of turn before {% endgeneration %} in the template",
        )


def base_stops(job: Job, own_end: int | None) -> set[int]:
    """The tokens at which the base model ends: its tokenizer's own, and those of its configs."""
    from transformers import AutoConfig, GenerationConfig

    options: dict[str, Any] = {"revision": job.config.model.model_revision}
    stops = set() if own_end is None else {own_end}
    for kind in (GenerationConfig, AutoConfig):
        if kind is AutoConfig:
            options["trust_remote_code"] = job.config.model.trust_remote_code
        try:
            ids = kind.from_pretrained(job.model_source, **options).eos_token_id
        except (OSError, ValueError, AttributeError):
            continue
        stops.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
    return stops


def teach(job: Job, model: Any) -> None:
    """Give the loaded model room for the new tokens, and let generation stop at them.

    A row that no training has touched begins as the mean of the others.

    Raises UserError where only an adapter would be exported: it does not fit the base model then.
    """
    new = job.new_tokens
    if not new.ids:
        return
    if max(new.ids) >= model.get_input_embeddings().weight.shape[0]:
        _check_export(job)
    make_room(new, model)
    new.modules = _modules_with_a_row_each(model)
    config = model.generation_config
    if not new.ends:
        return
    ends = config.eos_token_id
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    config.eos_token_id = [*new.ends, *(end for end in ends if end not in new.ends)]


def make_room(new: NewTokens, model: Any) -> None:
    """A row for each new token that has none yet."""
    rows = model.get_input_embeddings().weight.shape[0]
    if new.ids and max(new.ids) >= rows:
        model.resize_token_embeddings(max(new.ids) + 1, mean_resizing=False)
        new.rows_before = rows
        _set_to_mean(model, [number for number in new.ids if number >= rows], rows)


def _modules_with_a_row_each(model: Any) -> list[str]:
    """Names of the embedding and, unless it shares its weights, of the head."""
    parts = [model.get_input_embeddings()]
    head = model.get_output_embeddings()
    if head is not None and head.weight is not parts[0].weight:
        parts.append(head)
    return [name for name, part in model.named_modules() if any(part is own for own in parts)]


def _set_to_mean(model: Any, ids: list[int], rows: int) -> None:
    import torch

    with torch.no_grad():
        for part in (model.get_input_embeddings(), model.get_output_embeddings()):
            if part is not None:
                part.weight[ids] = part.weight[:rows].float().mean(0).to(part.weight.dtype)


def _check_export(job: Job) -> None:
    if job.config.model.use_peft and job.config.job.export != "merged":
        raise UserError(
            "the chat template adds a token to the base model, which an adapter alone does not fit",
            field="export",
            value=job.config.job.export,
            fix="set export to merged, or use a template whose end of turn the base model has",
        )


def taught_by_lora(job: Job) -> dict[str, list[int]] | None:
    """PEFT's trainable_token_indices: LoRA leaves the embeddings alone, and these must be learnt.

    An adapter that is served apart from its base keeps to what every server loads.
    """
    model, new = job.config.model, job.new_tokens
    if not new.ids or job.config.job.export != "merged":
        return None
    trained = [*(model.lora_target_modules or []), *(model.lora_modules_to_save or [])]
    apart = [name for name in new.modules if not any(name.endswith(target) for target in trained)]
    return {name: list(new.ids) for name in apart} or None


def show_bias(model: Any) -> None:
    """TRL's losses read weight and bias of the head; PEFT's wrapper for single rows has no bias."""
    for part in model.modules():
        if type(part).__name__ == "TrainableTokensWrapper" and not hasattr(part, "bias"):
            # Past torch, which would take it for a parameter of the wrapper's own.
            object.__setattr__(part, "bias", getattr(part.original_module, "bias", None))


def _say(job: Job, mark: str, *, known: bool, stops: bool) -> None:
    if not job.is_main or (known and stops):
        return
    from sm_train.log import print_line

    how = "a token of the base model" if known else "a new token, which is added to the base model"
    print_line(f"end of turn: {mark}, {how}; generation_config.json will stop at it")
