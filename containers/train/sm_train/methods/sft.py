"""Supervised fine-tuning with TRL: prompt and completion, conversations, or plain text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sm_train.errors import UserError
from sm_train.formats import companions, conversation, same_kind, turn
from sm_train.methods import Method

if TYPE_CHECKING:
    from sm_train.config import Config
    from sm_train.data import Data
    from sm_train.job import Job


@dataclass(frozen=True)
class SftArguments:
    """SFT has no hyperparameters beside TRL's own."""


def clean_row(row: dict[str, Any], config: Config) -> dict[str, Any]:
    """The columns of one of TRL's formats. Raises ValueError for a bad row."""
    text_field = config.training.get("dataset_text_field", "text")
    if row.get("messages") is not None:
        messages = conversation(row["messages"], "messages")
        if not any(message["role"] == "assistant" for message in messages):
            raise ValueError("messages has no assistant turn to learn from")
        return {"messages": messages, **companions(row)}
    if row.get("prompt") is not None:
        prompt = turn(row["prompt"], "prompt")
        completion = turn(row.get("completion"), "completion")
        same_kind(prompt=prompt, completion=completion)
        return {"prompt": prompt, "completion": completion, **companions(row)}
    text = row.get(text_field)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"no text in column {text_field}")
    return {text_field: text}


def required_columns(config: Config) -> list[tuple[str, ...]]:
    """One column of any format."""
    return [("messages", "prompt", str(config.training.get("dataset_text_field", "text")))]


def check_data(_config: Config, data: Data) -> None:
    """A data set is of one format: TRL decides by its first row how all are read."""
    rows = [row for split in ("train", "validation", "test") for row in data.split(split) or ()]
    formats = Counter(" + ".join(sorted(row.keys() - {"tools"})) for row in rows)
    if len(formats) > 1:
        found = ", ".join(f"{count} rows with {name}" for name, count in formats.most_common())
        raise UserError(
            f"mix formats: {found}",
            field="channels",
            fix="use one format (messages, prompt and completion, or text) in every channel",
        )


def train(job: Job) -> None:
    """Fine-tune, evaluate on the test channel, write the model directory."""
    from trl import SFTTrainer

    from sm_train.model import load_model, load_tokenizer, peft_config
    from sm_train.run import callbacks, finish, training_arguments
    from sm_train.sampling import LengthGroupedSampling

    class Grouped(LengthGroupedSampling, SFTTrainer):  # type: ignore[misc]
        """Where rows are not packed, rows of like length share a batch."""

    tokenizer = load_tokenizer(job)
    packing = _packing(job)
    strategy = "random" if packing else "group_by_length"
    trainer = Grouped(
        model=load_model(job, "AutoModelForCausalLM"),
        args=training_arguments(job, packing=packing, train_sampling_strategy=strategy),
        train_dataset=job.dataset("train"),
        eval_dataset=job.dataset("validation"),
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=callbacks(job),
    )
    finish(job, trainer, tokenizer, job.dataset("test"))


def _packing(job: Job) -> bool:
    """Packing fills every sequence; it cannot go with a request for no length limit."""
    chosen = job.config.training.get("packing")
    if chosen is not None:
        return bool(chosen)
    return "max_length" not in job.config.given or bool(job.config.training.get("max_length"))


METHOD = Method(
    name="sft",
    training_config="trl:SFTConfig",
    arguments=SftArguments,
    clean_row=clean_row,
    train=train,
    required_columns=required_columns,
    check_data=check_data,
    defaults={
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "warmup_steps": 0.03,
        "lr_scheduler_type": "cosine",
        "metric_for_best_model": "loss",
    },
)
