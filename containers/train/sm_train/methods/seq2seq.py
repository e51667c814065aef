"""Summaries, translations and other texts out of a text, by an encoder-decoder (T5, BART, NLLB)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sm_train.data.cells import nested
from sm_train.errors import UserError
from sm_train.rows import Tokens
from sm_train.settings.settings import Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.settings.settings import Config

TRANSLATION = "translation"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Seq2SeqArguments:
    """The method's own hyperparameters; transformers' example scripts name them alike."""

    source_column: str = field(default="source", metadata={"help": "Column with the text to read."})
    target_column: str = field(
        default="target", metadata={"help": "Column with the text to write: summary, translation."}
    )
    source_prefix: str = field(
        default="",
        metadata={
            "help": "Put before each source, such as `summarize: ` for T5. It is kept in the "
            "model's config.json, and the server puts it before inputs."
        },
    )
    source_lang: str | None = field(
        default=None,
        metadata={
            "help": "Language of the sources: the tokenizer's code where it knows languages "
            "(mBART, NLLB, M2M100), and the key in a column `translation`."
        },
    )
    target_lang: str | None = field(
        default=None, metadata={"help": "Language of the targets, likewise."}
    )
    max_source_length: int = field(
        default=512, metadata={"help": "Tokens of a source; longer ones are cut off."}
    )
    max_target_length: int = field(
        default=128,
        metadata={
            "help": "Tokens of a target; longer ones are cut off. Generated answers have no more, "
            "unless generation_max_length says so."
        },
    )


def clean_row(row: dict[str, Any], config: Config[Seq2SeqArguments]) -> dict[str, Any]:
    """`source` and `target`. Raises ValueError for a bad row."""
    own: Seq2SeqArguments = config.own
    if row.get(TRANSLATION) is not None and row.get(own.source_column) is None:
        row = _of_languages(row[TRANSLATION], own)
    return {
        "source": _text(row, own.source_column),
        "target": _text(row, own.target_column),
    }


def _of_languages(value: Any, own: Seq2SeqArguments) -> dict[str, Any]:
    """WMT's and OPUS's cell, {"en": …, "de": …}, as columns."""
    if isinstance(value, str):
        value = nested(value)
    if not isinstance(value, dict):
        raise ValueError(f"column {TRANSLATION} holds no object of languages and texts")
    if own.source_lang is None or own.target_lang is None:
        raise ValueError(
            f"column {TRANSLATION} has {', '.join(map(str, value))}: set source_lang and "
            "target_lang"
        )
    # mBART and NLLB name a language with its region or script, the data without.
    texts = {}
    for column, language in (
        (own.source_column, own.source_lang),
        (own.target_column, own.target_lang),
    ):
        texts[column] = value.get(language, value.get(language.partition("_")[0]))
        if texts[column] is None:
            raise ValueError(
                f"column {TRANSLATION} has {', '.join(map(str, value))} and no {language}"
            )
    return texts


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in column {column}")
    return value


def required_columns(config: Config[Seq2SeqArguments]) -> list[tuple[str, ...]]:
    """Both texts, or both in one cell."""
    own: Seq2SeqArguments = config.own
    return [(own.source_column, TRANSLATION), (own.target_column, TRANSLATION)]


def check_arguments(config: Config[Seq2SeqArguments]) -> None:
    """Refuse what Seq2SeqTrainer does not read, and one language without the other."""
    own: Seq2SeqArguments = config.own
    training: Any = config.training
    if training.get("sortish_sampler"):
        raise UserError(
            "orders a kind of data set that there is no more",
            field="sortish_sampler",
            value=True,
            fix="set train_sampling_strategy to group_by_length, which is the default",
        )
    if (own.source_lang is None) != (own.target_lang is None):
        lacks = "target_lang" if own.target_lang is None else "source_lang"
        given = own.source_lang or own.target_lang
        raise UserError(
            f"is missing beside the other language, {given}", field=lacks, fix="name both"
        )
    judged = str(training.get("metric_for_best_model", "loss")).removeprefix("eval_")
    if judged != "loss" and training.get("predict_with_generate") is False:
        raise UserError(
            "is measured on generated answers, and predict_with_generate is false",
            field="metric_for_best_model",
            value=judged,
            fix="set it to loss, or leave predict_with_generate out",
        )


def tokens(row: dict[str, Any], config: Config[Seq2SeqArguments], tokenizer: Any) -> list[Tokens]:
    """The source as the encoder reads it, and the target, all of which is learnt."""
    own: Seq2SeqArguments = config.own
    source = tokenizer(own.source_prefix + row["source"])["input_ids"]
    target = tokenizer(text_target=row["target"])["input_ids"]
    read = tokenizer(
        own.source_prefix + row["source"], truncation=True, max_length=own.max_source_length
    )["input_ids"]
    learnt = tokenizer(
        text_target=row["target"], truncation=True, max_length=own.max_target_length
    )["input_ids"]
    return [
        Tokens(read, [False] * len(read), "source", cut=len(source) - len(read)),
        Tokens(learnt, [True] * len(learnt), "target", cut=len(target) - len(learnt)),
    ]


def train(job: Job) -> None:
    """Fine-tune, score generated answers on the test channel, write the model directory."""
    from transformers import DataCollatorForSeq2Seq

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.methods.seq2seq_trainer import Text2TextTrainer
    from sm_train.modelling.model import load_model, load_tokenizer, peft_config
    from sm_train.modelling.preview import print_preview
    from sm_train.results.asking import tell

    check_base(job)
    arguments = training_arguments(job)
    tokenizer = load_tokenizer(job)
    tokenizer.padding_side = "right"
    set_languages(job.config, tokenizer)
    print_preview(job, tokenizer)
    model = load_model(job, "AutoModelForSeq2SeqLM")
    check_lengths(job.config, model.config)
    asked = settle_generation(job, model, tokenizer, arguments)
    own: Seq2SeqArguments = job.config.own
    columns: dict[str, str | None] = {"text": own.source_column, "label": own.target_column}
    model.config.prefix = own.source_prefix
    tell(model, job.config, asked, columns)
    datasets = {split: _tokenised(job, split, tokenizer) for split in SPLITS}
    job = _counted(job, datasets)
    lora = peft_config(job, "SEQ_2_SEQ_LM")
    if lora is not None:
        from peft import get_peft_model

        model = get_peft_model(model, lora)
    trainer = Text2TextTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets["train"],
        eval_dataset=datasets["validation"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        callbacks=callbacks(job),
        sources=_texts(job, "source"),
        targets=_texts(job, "target"),
        folder=job.paths.output_data,
    )
    train_and_export(job, trainer, tokenizer, datasets["test"])


def _texts(job: Job, column: str) -> dict[str, Sequence[str]]:
    """The held-out texts of a column by what their metrics are called."""
    return {
        name: [row[column] for row in job.data.split(split) or ()]
        for name, split in (("eval", "validation"), ("test", "test"))
    }


def check_base(job: Job) -> None:
    """Refuse a local base model that has no encoder and decoder, before its weights are read."""
    from sm_train.modelling.base_model import read_model_config

    config = read_model_config(job.model_source)
    if config and not config.get("is_encoder_decoder"):
        raise UserError(
            f"is no encoder-decoder ({config.get('model_type')})",
            field="model_name_or_path",
            value=job.model_source,
            fix="use a model such as T5, BART, Pegasus, mBART or NLLB; decoders (Llama, Qwen) "
            "learn the same rows by the method sft, as prompt and completion",
        )


def check_lengths(config: Config[Seq2SeqArguments], model: Any) -> None:
    """Refuse lengths beyond the positions that the model has; T5's are relative, and never end."""
    positions = getattr(model, "max_position_embeddings", None)
    if positions is None or hasattr(model, "relative_attention_num_buckets"):
        return
    own: Seq2SeqArguments = config.own
    answers = int(config.training.get("generation_max_length") or own.max_target_length + 1)  # type: ignore[call-overload]
    for name, value, tokens in (
        ("max_source_length", own.max_source_length, own.max_source_length),
        ("max_target_length", own.max_target_length, max(own.max_target_length, answers)),
    ):
        if tokens > positions:
            raise UserError(
                f"the base model has {positions} positions, one of which begins each answer",
                field=name,
                value=value,
                fix=f"set it to {positions - 1} or less",
            )


def set_languages(config: Config[Seq2SeqArguments], tokenizer: Any) -> None:
    """Let a tokenizer that knows languages mark the texts with theirs.

    Raises UserError for a language that it does not know, and where one is needed and none named.
    """
    own: Seq2SeqArguments = config.own
    knows = hasattr(tokenizer, "src_lang") and hasattr(tokenizer, "tgt_lang")
    if not knows:
        return
    for name, code in (("source_lang", own.source_lang), ("target_lang", own.target_lang)):
        known = getattr(tokenizer, "lang_code_to_id", None) or tokenizer.get_vocab()
        marked = code in known or f"__{code}__" in known
        if not marked:
            raise UserError(
                "is no language of the base model's tokenizer",
                field=name,
                value=code,
                fix="use its codes, such as en_XX (mBART), eng_Latn (NLLB) or en (M2M100)",
            )
    tokenizer.src_lang, tokenizer.tgt_lang = own.source_lang, own.target_lang


def settle_generation(job: Job, model: Any, tokenizer: Any, arguments: Any) -> dict[str, Any]:
    """Answers as training scores them, for the artefact; returns how the endpoint is asked.

    What the base model's generation_config.json says of beams and penalties holds, but for length.
    """
    own: Seq2SeqArguments = job.config.own
    # Of what is generated the first token is the decoder's start.
    longest = arguments.generation_max_length or own.max_target_length + 1
    arguments.generation_max_length = longest
    if arguments.generation_config is not None:
        from transformers import Seq2SeqTrainer

        model.generation_config = Seq2SeqTrainer.load_generation_config(arguments.generation_config)
        arguments.generation_config = None
    config = model.generation_config
    config._from_model_config = False  # it says from here on what is not in config.json
    config.max_new_tokens, config.max_length = None, longest
    if arguments.generation_num_beams:
        config.num_beams = arguments.generation_num_beams
    if getattr(tokenizer, "tgt_lang", None):
        config.forced_bos_token_id = _language_token(tokenizer)
    # The server cuts where training did.
    tokenizer.model_max_length = own.max_source_length
    beams = int(config.num_beams or 1)
    return {"max_new_tokens": longest - 1, "num_beams": beams, "truncation": True}


def _language_token(tokenizer: Any) -> int:
    """What an answer begins with in the target's language."""
    if hasattr(tokenizer, "get_lang_id"):  # M2M100
        return int(tokenizer.get_lang_id(tokenizer.tgt_lang))
    return int(tokenizer.convert_tokens_to_ids(tokenizer.tgt_lang))


def _tokenised(job: Job, split: str, tokenizer: Any) -> Any:
    """Token ids, labels, lengths (to batch like with like), what was cut; None without rows."""
    rows = job.data.split(split)
    if rows is None:
        return None
    from datasets import Dataset

    own: Seq2SeqArguments = job.config.own
    texts = [own.source_prefix + row["source"] for row in rows]
    cut = {"truncation": True}
    sources = tokenizer(texts, max_length=own.max_source_length, **cut)
    targets = tokenizer(
        text_target=[row["target"] for row in rows], max_length=own.max_target_length, **cut
    )
    return Dataset.from_dict(
        {
            "input_ids": sources["input_ids"],
            "attention_mask": sources["attention_mask"],
            "labels": targets["input_ids"],
            "length": [len(ids) for ids in sources["input_ids"]],
            "cut": _cut(sources, own.max_source_length),
            "cut_target": _cut(targets, own.max_target_length),
        }
    )


def _cut(encoded: Any, limit: int) -> list[bool]:
    """Which rows lost tokens; of a tokenizer without encodings those that fill the limit."""
    if encoded.encodings is None:
        return [len(ids) >= limit for ids in encoded["input_ids"]]
    return [bool(encoding.overflowing) for encoding in encoded.encodings]


def _counted(job: Job, datasets: dict[str, Any]) -> Job:
    """The job with the counts of rows that were cut; prints them."""
    from sm_train.log import print_line
    from sm_train.loop.learning import Cut

    own: Seq2SeqArguments = job.config.own
    sides: Sequence[tuple[str, str, int]] = (
        ("cut", "max_source_length", own.max_source_length),
        ("cut_target", "max_target_length", own.max_target_length),
    )
    for split, dataset in datasets.items():
        if dataset is None:
            continue
        rows = len(dataset)
        lost = [any(pair) for pair in zip(dataset["cut"], dataset["cut_target"], strict=True)]
        job = replace(job, learning={**job.learning, split: Cut(rows, sum(lost))})
        for column, name, limit in sides:
            count = sum(dataset[column])
            if count and job.is_main:
                print_line(f"channel {split}: {count} of {rows} rows cut at {name} {limit}")
    return job


METHOD = Method(
    name="seq2seq",
    training_config="transformers:Seq2SeqTrainingArguments",
    arguments=Seq2SeqArguments,
    clean_row=clean_row,
    tokens=tokens,
    reads_text=lambda _, name: name != TRANSLATION,
    required_columns=required_columns,
    check_arguments=check_arguments,
    pipeline_tag="text2text-generation",
    measures_rows=True,
    judged_by=("rougeL",),
    defaults={
        # T5 learns slowly; this is what its makers' fine-tuning and the Hub's examples lie around.
        "learning_rate": 1e-4,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 16,
        "warmup_steps": 0.06,
        "weight_decay": 0.01,
        "predict_with_generate": True,
        "metric_for_best_model": "loss",
        "train_sampling_strategy": "group_by_length",
    },
)
