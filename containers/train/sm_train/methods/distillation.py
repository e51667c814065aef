"""On-policy distillation with TRL: a student learns from a teacher's view of its own answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sm_train.data.formats import check_prompts, prompt_columns, prompt_row, reads_prompt
from sm_train.errors import UserError
from sm_train.modelling.sequences import prompt_tokens
from sm_train.settings.settings import HeldOut, Method

if TYPE_CHECKING:
    from sm_train.contract import Paths
    from sm_train.job import Job
    from sm_train.settings.settings import Config

TEACHER: Final = "teacher_model_name_or_path"


@dataclass(frozen=True)
class DistillationArguments:
    """Distillation has no hyperparameters beside TRL's own."""


def check_arguments(config: Config[DistillationArguments]) -> None:
    """There is no distillation without a teacher."""
    if not config.training.get(TEACHER):
        raise UserError(
            "is missing",
            field=TEACHER,
            fix="set it to a Hub id, a path, or channel:NAME for a channel that holds the teacher",
        )


def check_files(config: Config[DistillationArguments], paths: Paths) -> None:
    """The teacher must be where the setting says."""
    from sm_train.modelling.base_model import check_generates

    check_generates(teacher(config, paths), TEACHER)


def teacher(config: Config[DistillationArguments], paths: Paths) -> str:
    """Directory or Hub id of the teacher."""
    from sm_train.modelling.base_model import resolve_model

    revision = str(config.training.get("teacher_model_revision") or "main")
    return resolve_model(paths, str(config.training[TEACHER]), TEACHER, revision)


def train(job: Job) -> None:
    """Fine-tune the student towards the teacher, evaluate, write the model directory."""
    from trl import DistillationTrainer

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import check_prompts_shown
    from sm_train.modelling.model import load_model, load_tokenizer, peft_config

    tokenizer = load_tokenizer(job)
    check_prompts_shown(job, tokenizer)
    trainer = DistillationTrainer(
        model=load_model(job, "AutoModelForCausalLM"),
        teacher_model=teacher(job.config, job.paths),
        args=training_arguments(job),
        train_dataset=job.dataset("train"),
        eval_dataset=job.dataset("validation"),
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=callbacks(job),
    )
    train_and_export(job, trainer, tokenizer, job.dataset("test"))


METHOD = Method(
    name="distillation",
    training_config="trl:DistillationConfig",
    arguments=DistillationArguments,
    clean_row=prompt_row,
    tokens=prompt_tokens,
    reads_text=reads_prompt,
    required_columns=prompt_columns,
    check_arguments=check_arguments,
    check_files=check_files,
    check_data=check_prompts,
    answers="sampled",
    held_out=HeldOut(1, "completion_mask", {"entropy": (0,), "kl": (0,), "loss": (0,)}),
    defaults={"num_train_epochs": 1, "load_best_model_at_end": False},
)
