"""REINFORCE leave-one-out with TRL: sample answers, reward the better ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sm_train.data.formats import prompt_columns, prompt_row, reads_prompt
from sm_train.methods.rewards import RewardArguments, check_answers, check_files, check_rewards
from sm_train.modelling.sequences import prompt_tokens
from sm_train.settings.settings import HeldOut, Method

if TYPE_CHECKING:
    from sm_train.job import Job


def train(job: Job) -> None:
    """Sample several answers to each prompt and learn from how they are rewarded."""
    from trl import RLOOTrainer

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import check_prompts_shown
    from sm_train.methods.rewards import reward_functions
    from sm_train.modelling.model import load_model, load_tokenizer, peft_config

    tokenizer = load_tokenizer(job)
    check_prompts_shown(job, tokenizer)
    trainer = RLOOTrainer(
        model=load_model(job, "AutoModelForCausalLM"),
        reward_funcs=reward_functions(job.config, job.paths),
        args=training_arguments(job),
        train_dataset=job.dataset("train"),
        eval_dataset=job.dataset("validation"),
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=callbacks(job),
    )
    train_and_export(job, trainer, tokenizer, job.dataset("test"))


METHOD = Method(
    name="rloo",
    training_config="trl:RLOOConfig",
    arguments=RewardArguments,
    clean_row=prompt_row,
    tokens=prompt_tokens,
    reads_text=reads_prompt,
    required_columns=prompt_columns,
    check_arguments=check_rewards,
    check_files=check_files,
    check_data=check_answers,
    answers="sampled",
    held_out=HeldOut(1, "completion_mask", {"entropy": (0,), "kl": (0,)}),
    # The loss says nothing about an online method's quality: the last weights are the best.
    defaults={"num_train_epochs": 1, "load_best_model_at_end": False},
)
