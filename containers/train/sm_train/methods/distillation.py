"""On-policy distillation with TRL: a student learns from a teacher's view of its own answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sm_train.errors import UserError
from sm_train.formats import prompt_columns, prompt_row
from sm_train.methods import Method

if TYPE_CHECKING:
    from sm_train.config import Config
    from sm_train.job import Job


@dataclass(frozen=True)
class DistillationArguments:
    """Distillation has no hyperparameters beside TRL's own."""


def check_arguments(config: Config) -> None:
    """There is no distillation without a teacher."""
    if not config.training.get("teacher_model_name_or_path"):
        raise UserError(
            "is missing",
            field="teacher_model_name_or_path",
            fix="set it to a Hub id, a path, or channel:NAME for a channel that holds the teacher",
        )


def train(job: Job) -> None:
    """Fine-tune the student towards the teacher, evaluate, write the model directory."""
    from trl import DistillationTrainer

    from sm_train.model import load_model, load_tokenizer, peft_config
    from sm_train.run import callbacks, finish, training_arguments

    tokenizer = load_tokenizer(job)
    arguments = training_arguments(job)
    trainer = DistillationTrainer(
        model=load_model(job, "AutoModelForCausalLM"),
        teacher_model=_teacher(job, arguments.teacher_model_name_or_path),
        args=arguments,
        train_dataset=job.dataset("train"),
        eval_dataset=job.dataset("validation"),
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=callbacks(job),
    )
    finish(job, trainer, tokenizer, job.dataset("test"))


def _teacher(job: Job, name: str) -> Any:
    if not name.startswith("channel:"):
        return name
    return str(job.paths.channels / name.removeprefix("channel:"))


METHOD = Method(
    name="distillation",
    training_config="trl:DistillationConfig",
    arguments=DistillationArguments,
    clean_row=prompt_row,
    train=train,
    required_columns=prompt_columns,
    check_arguments=check_arguments,
    defaults={"num_train_epochs": 1, "load_best_model_at_end": False},
)
