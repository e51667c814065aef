"""Sentence embeddings with sentence-transformers: texts that belong together lie together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sm_train.errors import UserError
from sm_train.modelling.embedding_losses import LOSSES, EmbeddingArguments, kind
from sm_train.rows import Tokens
from sm_train.settings.settings import Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.rows import Data
    from sm_train.settings.settings import Config

_MARKS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


def clean_row(row: dict[str, Any], _config: Config[EmbeddingArguments]) -> dict[str, Any]:
    """One of the formats of `LOSSES`; raises ValueError for a bad row."""
    if row.get("anchor") is not None or row.get("positive") is not None:
        columns = ["anchor", "positive", *sorted(c for c in row if c.startswith("negative"))]
        return {name: _text(row, name) for name in columns}
    pair = {name: _text(row, name) for name in ("sentence1", "sentence2")}
    if row.get("score") is not None:
        return {**pair, "score": float(row["score"])}
    mark = _MARKS.get(str(row.get("label")).strip().lower())
    if mark is None:
        raise ValueError(
            "neither a number in score nor 0 or 1 in label (grades are scores: set columns to "
            '{"label": "score"})'
        )
    return {**pair, "label": mark}


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in column {column}")
    return value


def required_columns(_config: Config[EmbeddingArguments]) -> list[tuple[str, ...]]:
    """Two texts a row."""
    return [("anchor", "sentence1"), ("positive", "sentence2")]


def check_arguments(config: Config[EmbeddingArguments]) -> None:
    """Refuse what sentence-transformers cannot save and load again."""
    if config.model.use_peft:
        raise UserError(
            "is not supported by the method embedding",
            field="use_peft",
            value=True,
            fix="remove it: embedding models are small enough to train in full",
        )
    if config.job.parallelism not in (None, "ddp"):
        raise UserError(
            "is not supported by the method embedding",
            field="parallelism",
            value=config.job.parallelism,
            fix="remove it: each process trains a copy",
        )


def check_data(config: Config[EmbeddingArguments], data: Data) -> None:
    """One format in all channels, and a loss that is made for it."""
    splits = [data.split(split) or [] for split in ("train", "validation", "test")]
    formats = {tuple(row) for rows in splits for row in rows}
    if len(formats) > 1:
        kinds = " and ".join(sorted(" + ".join(columns) for columns in formats))
        raise UserError(
            f"mix formats: {kinds}",
            field="channels",
            fix="use the same columns in every row of every channel",
        )
    loss, fitting = config.own.loss, LOSSES[kind(data.train[0])]
    if loss is not None and loss not in fitting:
        raise UserError(
            f"does not take {kind(data.train[0])}, which the train channel holds",
            field="loss",
            value=loss,
            fix=f"use {' or '.join(fitting)}",
        )
    if loss == "TripletLoss" and len(data.train[0]) > 3:
        raise UserError(
            f"takes one negative a row, and the rows have {len(data.train[0]) - 2}",
            field="loss",
            value=loss,
            fix="use MultipleNegativesRankingLoss, or remove the other negatives",
        )


def tokens(row: dict[str, Any], config: Config[EmbeddingArguments], tokenizer: Any) -> list[Tokens]:
    """Each text of a row; what is learnt is how near they lie to each other."""
    limit = min(config.own.max_length or tokenizer.model_max_length, tokenizer.model_max_length)
    note = next((f"{name} {row[name]}" for name in ("score", "label") if name in row), "")
    shown = []
    for name, text in row.items():
        if isinstance(text, str):
            ids = tokenizer(text)["input_ids"]
            kept = tokenizer(text, truncation=True, max_length=limit)["input_ids"]
            learnt = [False] * len(kept)
            shown.append(Tokens(kept, learnt, name, note, cut=len(ids) - len(kept)))
    return shown


def train(job: Job) -> None:
    """Fine-tune, score on what is held out, write the model directory."""
    from sentence_transformers import SentenceTransformerTrainer

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import counted_cuts
    from sm_train.modelling.embedding import cut_rows, evaluator, load_embedder, loss
    from sm_train.modelling.preview import print_preview
    from sm_train.rows import SPLITS

    class Scored(SentenceTransformerTrainer):
        """Each split is scored by what suits its rows, beside its loss."""

        def evaluate(self, eval_dataset: Any = None, *arguments: Any, **named: Any) -> Any:
            self.evaluator = evaluator(self.eval_dataset if eval_dataset is None else eval_dataset)
            return super().evaluate(eval_dataset, *arguments, **named)

    model = load_embedder(job)
    limit = model.max_seq_length
    cuts = {split: cut_rows(job.dataset(split), model.tokenizer, limit) for split in SPLITS}
    job = counted_cuts(job, cuts, limit)
    print_preview(job, model.tokenizer)
    # Where the other rows of a batch are the negatives, the same text twice would be a wrong one.
    sampler = "no_duplicates" if "anchor" in job.data.train[0] else "batch_sampler"
    trainer = Scored(
        model=model,
        args=training_arguments(job, batch_sampler=sampler),
        train_dataset=job.dataset("train"),
        eval_dataset=job.dataset("validation"),
        loss=loss(job, model),
        callbacks=callbacks(job),
    )
    trainer.remove_callback(trainer.model_card_callback_class)  # export writes a card
    train_and_export(job, trainer, model.tokenizer, job.dataset("test"))


METHOD = Method(
    name="embedding",
    training_config="sentence_transformers:SentenceTransformerTrainingArguments",
    arguments=EmbeddingArguments,
    clean_row=clean_row,
    tokens=tokens,
    reads_text=lambda _, name: name not in ("score", "label"),
    required_columns=required_columns,
    check_arguments=check_arguments,
    check_data=check_data,
    pipeline_tag="sentence-similarity",
    judged_by=("cosine_ndcg@10", "cosine_accuracy", "spearman_cosine", "cosine_ap"),
    defaults={
        "learning_rate": 2e-5,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 64,
        "warmup_steps": 0.1,
        "metric_for_best_model": "loss",
    },
)
