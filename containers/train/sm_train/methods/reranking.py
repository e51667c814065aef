"""Rerankers: a cross-encoder reads a query with a document, and its score orders the documents.

Trained as a sequence classifier of one output, so that LoRA, checkpoints, export and serving are
those of every other encoder; the losses of ordered lists are sentence-transformers'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sm_train.errors import UserError
from sm_train.methods.class_labels import number
from sm_train.rows import Tokens
from sm_train.settings.settings import Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.rows import Data
    from sm_train.settings.settings import Config

SPLITS = ("train", "validation", "test")
_MARKS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class RerankingArguments:
    """The method's own hyperparameters."""

    query_column: str = field(default="query", metadata={"help": "Column with the query."})
    document_column: str = field(default="document", metadata={"help": "Column with the document."})
    label_column: str = field(
        default="label",
        metadata={"help": "Column with the relevance, from 0 (none) up."},
    )
    loss: Literal["LambdaLoss", "ListNetLoss", "ListMLELoss", "PListMLELoss", "RankNetLoss"] = (
        field(
            default="LambdaLoss",
            metadata={
                "help": "Loss of sentence-transformers by its name. LambdaLoss weighs each pair of "
                "documents by what their order means to NDCG."
            },
        )
    )
    replace_head: bool = field(
        default=False,
        metadata={"help": "Give a base model that is a classifier of classes a new head."},
    )
    max_length: int = field(
        default=256, metadata={"help": "Tokens of query and document; longer pairs are cut off."}
    )


def expand(row: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """A query with `documents` and `labels`, or `positive` and `negative`: one row a document."""
    rest = {"query": row.get("query")}
    if isinstance(row.get("documents"), list) and isinstance(row.get("labels"), list):
        if len(row["documents"]) != len(row["labels"]):
            return [{**row, "document": None}]
        pairs = zip(row["documents"], row["labels"], strict=True)
        return [{**rest, "document": document, "label": label} for document, label in pairs]
    if row.get("positive") is None or "document" in row:
        return [row]
    sides = [("positive", 1)] + [(name, 0) for name in sorted(row) if name.startswith("negative")]
    return [
        {**rest, "document": document, "label": label}
        for name, label in sides
        for document in (row[name] if isinstance(row[name], list) else [row[name]])
        if document is not None
    ]


def clean_row(row: dict[str, Any], config: Config[RerankingArguments]) -> dict[str, Any]:
    """`query`, `document` and `label`. Raises ValueError for a bad row."""
    own: RerankingArguments = config.own
    if isinstance(row.get("documents"), list) and row.get(own.document_column) is None:
        raise ValueError("documents and labels are not of one length")
    value = row.get(own.label_column)
    label = number(_MARKS.get(str(value).strip().lower(), value), own.label_column)
    if label < 0:
        raise ValueError(f"column {own.label_column} holds {label:g}, which is below 0")
    return {
        "query": _text(row, own.query_column),
        "document": _text(row, own.document_column),
        "label": label,
    }


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in column {column}")
    return value


def required_columns(config: Config[RerankingArguments]) -> list[tuple[str, ...]]:
    """A query, its documents and how relevant they are."""
    own: RerankingArguments = config.own
    return [(own.query_column,), (own.document_column,), (own.label_column,)]


def grouped(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each query, in the order in which queries come first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["query"], []).append(row)
    return groups


def teaches(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether one document of a query should stand before another one."""
    return len({row["label"] for row in rows}) > 1


def check_arguments(config: Config[RerankingArguments]) -> None:
    """Refuse what is of classes, and a loss of ordered lists has no use for."""
    value = config.training.get("label_smoothing_factor")
    if value:
        raise UserError(
            f"smooths classes, and {config.own.loss} has none",
            field="label_smoothing_factor",
            value=value,
            fix="remove it",
        )


def check_data(config: Config[RerankingArguments], data: Data) -> None:
    """Refuse data in which no query has documents of different relevance."""
    groups = grouped(data.train)
    if not any(map(teaches, groups.values())):
        raise UserError(
            f"has {len(groups)} queries, and none with documents of different labels: there is no "
            "order to learn",
            field="channel train",
            fix="give each query a relevant document (label 1) and others (label 0), with the same "
            f"text in the column {config.own.query_column}",
        )


def tokens(row: dict[str, Any], config: Config[RerankingArguments], tokenizer: Any) -> list[Tokens]:
    """The pair as the model gets it, and how relevant it is."""
    limit = min(config.own.max_length, tokenizer.model_max_length)
    ids = tokenizer(row["query"], row["document"])["input_ids"]
    kept = tokenizer(row["query"], row["document"], truncation=True, max_length=limit)["input_ids"]
    note = f"relevance {row['label']:g}"
    return [Tokens(kept, [False] * len(kept), note=note, cut=len(ids) - len(kept))]


def train(job: Job) -> None:
    """Fine-tune, score the order on the test channel, write the model directory."""
    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import counted_cuts
    from sm_train.methods.ranking_trainer import GroupCollator, RankingTrainer
    from sm_train.modelling.model import adapt, load_model, load_tokenizer
    from sm_train.modelling.preview import print_preview
    from sm_train.results.asking import tell

    own: RerankingArguments = job.config.own
    tokenizer = load_tokenizer(job)
    print_preview(job, tokenizer)
    model = load_model(
        job,
        "AutoModelForSequenceClassification",
        num_labels=1,
        ignore_mismatched_sizes=own.replace_head or None,
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    limit = min(own.max_length, tokenizer.model_max_length)
    columns: dict[str, str | None] = {
        "text": own.query_column, "text_pair": own.document_column, "label": own.label_column
    }  # fmt: skip
    tell(model, job.config, {"truncation": True, "max_length": limit}, columns)
    datasets = {split: _tokenised(job, split, tokenizer, limit) for split in SPLITS}
    job = counted_cuts(job, datasets, own.max_length)
    trainer = RankingTrainer(
        model=adapt(job, model, "SEQ_CLS"),
        args=training_arguments(job),
        train_dataset=datasets["train"],
        eval_dataset=datasets["validation"],
        data_collator=GroupCollator(tokenizer),
        processing_class=tokenizer,
        callbacks=callbacks(job),
        loss=own.loss,
    )
    train_and_export(job, trainer, tokenizer, datasets["test"])


def _tokenised(job: Job, split: str, tokenizer: Any, limit: int) -> Any:
    """One row a query: token ids of its pairs, labels, the longest pair; None without a channel.

    Of training queries those whose documents are all alike are left out, which the log counts.
    """
    rows = job.data.split(split)
    if rows is None:
        return None
    from datasets import Dataset

    from sm_train.log import print_line

    groups = list(grouped(rows).values())
    kept = [group for group in groups if split != "train" or teaches(group)]
    if job.is_main:
        alike = len(groups) - len(kept)
        more = f"; {alike} with documents of one label teach no order, and are left out"
        print_line(f"channel {split}: {len(groups)} queries{more if alike else ''}")
    columns: dict[str, list[Any]] = {}
    for group in kept:
        encoded = tokenizer(
            [row["query"] for row in group],
            [row["document"] for row in group],
            truncation=True,
            max_length=limit,
        )
        for name in encoded:
            columns.setdefault(name, []).append(encoded[name])
        columns.setdefault("labels", []).append([row["label"] for row in group])
        columns.setdefault("length", []).append(max(map(len, encoded["input_ids"])))
        cut = any(encoding.overflowing for encoding in encoded.encodings or ())
        columns.setdefault("cut", []).append(cut)
    return Dataset.from_dict(columns)


METHOD = Method(
    name="reranking",
    training_config="transformers:TrainingArguments",
    arguments=RerankingArguments,
    clean_row=clean_row,
    tokens=tokens,
    reads_text=lambda c, name: name in (c.own.query_column, c.own.document_column),
    required_columns=required_columns,
    expand=expand,
    check_arguments=check_arguments,
    check_data=check_data,
    pipeline_tag="text-ranking",
    judged_by=("ndcg@10",),
    defaults={
        "learning_rate": 2e-5,
        "num_train_epochs": 2,
        # Queries, each with all of its documents.
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "metric_for_best_model": "ndcg@10",
        "train_sampling_strategy": "group_by_length",
    },
)
