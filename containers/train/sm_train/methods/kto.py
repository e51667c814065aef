"""Kahneman-Tversky optimisation with TRL: single answers, each marked good or bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sm_train.data.formats import answered, check_one_format, companions, preference_row
from sm_train.data.messages import conversation
from sm_train.data.public_formats import stated_answer, with_system
from sm_train.modelling.sequences import preference_tokens
from sm_train.settings.settings import HeldOut, Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.settings.settings import Config

_MARKS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


_PAIRED = ("chosen", "preferred_output")


@dataclass(frozen=True)
class KtoArguments:
    """KTO has no hyperparameters beside TRL's own."""


def clean_row(row: dict[str, Any], config: Config[KtoArguments]) -> dict[str, Any]:
    """`prompt`, `completion` and a true or false `label`, or a pair. Raises ValueError."""
    if "completion" not in row and any(name in row for name in _PAIRED):
        return preference_row(row, config)  # TRL makes a good and a bad answer of it
    mark = _MARKS.get(str(row.get("label")).strip().lower())
    if mark is None:
        raise ValueError("label is neither true nor false")
    if stated_answer(row) is None:
        row = _last_answer(row)
    return {**answered(row, config), "label": mark, **companions(row)}


def _last_answer(row: dict[str, Any]) -> dict[str, Any]:
    """Of a judged conversation the last answer is what was judged."""
    column = "messages" if row.get("messages") is not None else "conversations"
    messages = conversation(row.get(column), column)
    if messages[-1]["role"] != "assistant":
        raise ValueError(f"{column} does not end with an answer")
    rest = {name: value for name, value in row.items() if name not in ("messages", "conversations")}
    return {**rest, "prompt": with_system(row, messages[:-1]), "completion": messages[-1:]}


def required_columns(_config: Config[KtoArguments]) -> list[tuple[str, ...]]:
    """What every row needs: a marked answer, or a chosen and a rejected one."""
    answers = ("completion", "output", "response", "messages", "conversations", *_PAIRED)
    return [answers, ("label", "rejected", "non_preferred_output")]


def train(job: Job) -> None:
    """Make good answers likelier and bad ones less likely than the base model has them."""
    from trl import KTOTrainer

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import learnable
    from sm_train.modelling.model import load_model, load_tokenizer, peft_config

    tokenizer, arguments = load_tokenizer(job), training_arguments(job)
    job, _ = learnable(job, tokenizer, arguments)
    trainer = KTOTrainer(
        model=load_model(job, "AutoModelForCausalLM"),
        args=arguments,
        train_dataset=job.dataset("train"),
        eval_dataset=job.dataset("validation"),
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=callbacks(job),
    )
    train_and_export(job, trainer, tokenizer, job.dataset("test"))


METHOD = Method(
    name="kto",
    training_config="trl:KTOConfig",
    arguments=KtoArguments,
    clean_row=clean_row,
    tokens=preference_tokens,
    reads_text=lambda _, name: name != "label",
    required_columns=required_columns,
    check_data=check_one_format,
    answers="judged",
    held_out=HeldOut(1, "completion_mask", {"entropy": (0,)}),
    in_memory=(2, 2),
    defaults={"num_train_epochs": 1, "warmup_steps": 0.1, "metric_for_best_model": "loss"},
)
