"""Supervised fine-tuning with TRL: prompt and completion, conversations, or plain text."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from sm_train.data.formats import (
    LEARN,
    answered,
    check_asks,
    check_formats_apart,
    check_one_format,
    check_settings_with_images,
    companions,
    is_conversational,
)
from sm_train.data.messages import looks_like_messages, marked_conversation
from sm_train.data.mixing import by_data_set
from sm_train.data.public_formats import with_system
from sm_train.errors import UserError
from sm_train.modelling.images import taught_columns, taught_tokens
from sm_train.results.generated_text import TEXT_SCORES
from sm_train.settings.settings import HeldOut, Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.rows import Data
    from sm_train.settings.settings import Config


_NUMBERS = ("input_ids", "completion_mask", "assistant_masks", "labels")


@dataclass(frozen=True)
class SftArguments:
    """SFT's hyperparameters beside TRL's own; the first is called as transformers' for seq2seq."""

    predict_with_generate: bool = field(
        default=False,
        metadata={
            "help": "Let the model answer held-out prompts at each evaluation, and score the "
            "answers: exact match, ROUGE, BLEU, chrF. It takes as long as writing them."
        },
    )
    generation_rows: int = field(
        default=100,
        metadata={"help": "Prompts of each held-out data set that are answered, from its start."},
    )
    generation_max_new_tokens: int = field(
        default=128, metadata={"help": "Tokens of such an answer, at most."}
    )


def clean_row(row: dict[str, Any], config: Config[SftArguments]) -> dict[str, Any]:
    """The columns of one of TRL's formats. Raises ValueError for a bad row."""
    if config.job.prompt_template is not None:
        return {**answered(row, config), **companions(row)}
    for column in ("messages", "conversations"):
        if row.get(column) is not None:
            return {**_conversation(row, column), **companions(row)}
    if row.get("input_ids") is not None:
        return _tokenised(row)
    if row.get("prompt") is not None or row.get("instruction") is not None:
        return {**_answered(row, config), **companions(row)}
    text_field = config.training.get("dataset_text_field", "text")
    text = row.get(text_field)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"no text in column {text_field}")
    return {text_field: text}


def _conversation(row: dict[str, Any], column: str) -> dict[str, Any]:
    """A conversation with an answer to learn; its turns may say themselves whether they are."""
    messages, marks = marked_conversation(row[column], column)
    whole = with_system(row, messages)
    marks = [*[None for _ in whole[len(messages) :]], *marks]
    messages = whole
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise ValueError("messages has no assistant turn to learn from")
    check_asks(messages[: answers[-1]])
    if all(mark is None for mark in marks):
        return {"messages": messages}
    if not any(mark or (mark is None and place in answers) for place, mark in enumerate(marks)):
        raise ValueError("no turn of messages is to be learnt")
    return {"messages": messages, LEARN: marks}


def _answered(row: dict[str, Any], config: Config[SftArguments]) -> dict[str, Any]:
    """Prompt and completion; the turns of a completion may say whether they are learnt."""
    given = row.get("completion")
    if not isinstance(given, list) and not looks_like_messages(given):
        return answered(row, config)
    messages, marks = marked_conversation(given, "completion")
    turns = answered({**row, "completion": messages}, config)
    if all(mark is None for mark in marks):
        return turns
    kept = marks[-len(turns["completion"]) :]
    return {**turns, LEARN: [False] * len(turns["prompt"]) + kept}


def _tokenised(row: dict[str, Any]) -> dict[str, Any]:
    """A row that is tokenised already; TRL trains on it as it is."""
    kept = {name: row[name] for name in _NUMBERS if row.get(name) is not None}
    for name, numbers in kept.items():
        if not isinstance(numbers, list) or not numbers or set(map(type, numbers)) != {int}:
            raise ValueError(f"{name} is not a list of whole numbers")
        if len(numbers) != len(kept["input_ids"]):
            raise ValueError(f"{name} is not as long as input_ids")
    return kept


def required_columns(config: Config[SftArguments]) -> list[tuple[str, ...]]:
    """One column of any format."""
    text_field = str(config.training.get("dataset_text_field", "text"))
    return [("prompt", "messages", "conversations", text_field, "input_ids", "instruction")]


def check_data(config: Config[SftArguments], data: Data) -> None:
    """Refuse mixed formats, and a loss on answers alone where nothing tells which they are."""
    check_formats_apart(config, data)
    if data.has_images:
        check_one_format(config, data)
        _check_with_images(config, data.train[0])
    wanted = {"assistant_only_loss": "messages", "completion_only_loss": "completion"}
    firsts = [(name, rows[0]) for name, rows in by_data_set(data).items() if rows]
    for (key, column), (name, row) in product(wanted.items(), firsts):
        value = config.training.get(key)
        if value and column not in row and not _is_chat(row):
            raise UserError(
                f"the data {f'set {name} ' if name else ''}has no column {column}",
                field=key,
                value=value,
                fix=f"give the rows a column {column}, or set {key} to false",
            )


def _check_with_images(config: Config[SftArguments], row: dict[str, Any]) -> None:
    """Refuse what TRL's trainer refuses, or would leave out, where rows have images."""
    if config.training.get("assistant_only_loss") and "completion" in row:
        raise UserError(
            "is for messages where rows have images; of prompt and completion the completion alone "
            "is learnt",
            field="assistant_only_loss",
            value=True,
            fix="remove the setting",
        )
    check_settings_with_images(config, "packing", "padding_free")
    if config.own.predict_with_generate:
        raise UserError(
            "asks for answers to texts alone, and the rows have images",
            field="predict_with_generate",
            value=True,
            fix="remove it",
        )


def _is_chat(row: dict[str, Any]) -> bool:
    return is_conversational(row) and "completion" in row


def faster(job: Job) -> dict[str, Any]:
    """Defaults that make training faster and change no result."""
    import torch

    from sm_train.data.cache import map_processes

    fused = torch.cuda.is_available() and bool(importlib.util.find_spec("liger_kernel"))
    fused = fused and not job.has_images  # Liger has kernels for a few of such models
    return {"dataset_num_proc": map_processes(len(job.data.train)), "use_liger_kernel": fused}


def train(job: Job) -> None:
    """Fine-tune, evaluate on the test channel, write the model directory."""
    from trl import SFTTrainer

    from sm_train.loop.answering import Answers
    from sm_train.loop.callbacks import PerplexityCallback
    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import learnable
    from sm_train.loop.sampling import LengthGroupedSampling
    from sm_train.modelling.images import ImageBatches, inner_tokenizer
    from sm_train.modelling.model import generator, load_model, load_tokenizer, peft_config

    class Grouped(LengthGroupedSampling, SFTTrainer):  # type: ignore[misc]
        """Where rows are not packed, rows of like length share a batch."""

    tokenizer, arguments = load_tokenizer(job), training_arguments(job, **faster(job))
    if arguments.eos_token:
        inner_tokenizer(tokenizer).eos_token = arguments.eos_token
    job, tokens = learnable(job, tokenizer, arguments)
    if not job.has_images:
        # The labels say it already, and TRL asks for columns that tokenised rows no longer have.
        arguments.assistant_only_loss = arguments.completion_only_loss = False
    arguments.chat_template_path = None  # its template and tokens are in place
    model = load_model(job, generator(job))
    trainer = Grouped(
        model=model,
        args=arguments if job.has_images else batching(job, arguments, model),
        train_dataset=tokens["train"],
        eval_dataset=tokens["validation"],
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=[PerplexityCallback(), *callbacks(job)],
    )
    if job.has_images:
        trainer.data_collator = ImageBatches(trainer.data_collator, tokenizer)
    own: SftArguments = job.config.own
    if own.predict_with_generate and job.instead is None:
        most, new_tokens = own.generation_rows, own.generation_max_new_tokens
        Answers(job, trainer, tokenizer, most, new_tokens).install()
    train_and_export(job, trainer, tokenizer, tokens["test"])


def batching(job: Job, arguments: Any, model: Any) -> Any:
    """How the rows of a batch lie beside each other, where the settings leave it open.

    With FlashAttention they lie behind one another in one sequence, without padding; each attends
    to itself. Other attention is slower over such a sequence than over padded rows, so rows of like
    length share a batch instead. A batch holds as many rows as the settings say either way.
    """
    from sm_train.loop.data_sets import sets_apart

    given = job.config.given
    if (arguments.packing or arguments.padding_free) and not has_flash_attention(model):
        _warn_of_dense_mask(job, arguments)
    if arguments.packing:
        if sets_apart(job, "validation"):
            arguments.eval_packing = False  # a packed sequence would be of several data sets
        return arguments
    whole = arguments.parallelism_config is None  # context parallelism drops the rows' borders
    if "packing" not in given and "padding_free" not in given:
        arguments.padding_free = whole and has_flash_attention(model)
    if arguments.padding_free:
        arguments.max_length = None  # the rows are cut already, and TRL would refuse both
    elif "train_sampling_strategy" not in given and job.data.stream is None:
        arguments.train_sampling_strategy = "group_by_length"
    return arguments


def _warn_of_dense_mask(job: Job, arguments: Any) -> None:
    """Asked for, so it is done; a mask over the whole sequence makes it slow."""
    if not job.is_main:
        return
    from sm_train.log import print_line

    name = "packing" if arguments.packing else "padding_free"
    length = arguments.max_length or "all"
    print_line(
        f"warning: {name} without FlashAttention: each step masks {length} x {length} positions of "
        f"a sequence, which is several times slower than {name}: false"
    )


def has_flash_attention(model: Any) -> bool:
    """Whether the model attends by a kernel that knows where rows begin in a longer sequence."""
    return "flash" in str(getattr(model.config, "_attn_implementation", ""))


def check_arguments(config: Config[SftArguments]) -> None:
    """Refuse to choose weights by answers that nobody asks for."""
    judged = str(config.training.get("metric_for_best_model", "loss"))
    if judged.removeprefix("eval_") in TEXT_SCORES and not config.own.predict_with_generate:
        raise UserError(
            "is measured on generated answers",
            field="metric_for_best_model",
            value=judged,
            fix="set predict_with_generate to true, or choose by loss",
        )


METHOD = Method(
    name="sft",
    training_config="trl:SFTConfig",
    arguments=SftArguments,
    clean_row=clean_row,
    tokens=taught_tokens,
    columns=taught_columns,
    images=True,
    reads_text=lambda _, name: name not in _NUMBERS,
    required_columns=required_columns,
    check_arguments=check_arguments,
    check_data=check_data,
    streams=True,
    answers="taught",
    held_out=HeldOut(1, "labels", dict.fromkeys(("loss", "entropy", "mean_token_accuracy"), (0,))),
    in_memory=(1, 1),
    judged_by=("mean_token_accuracy",),
    defaults={
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "warmup_steps": 0.03,
        "lr_scheduler_type": "cosine",
        "metric_for_best_model": "loss",
    },
)
