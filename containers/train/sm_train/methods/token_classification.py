"""Token classification (named entities, parts of speech): one tag for each word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sm_train.data.cells import nested, text_of
from sm_train.data.class_ids import ClassId
from sm_train.errors import UserError
from sm_train.loop.class_weights import HELP as WEIGHTS_HELP
from sm_train.loop.class_weights import check_class_weights, check_weighted_classes
from sm_train.methods.class_labels import check_streamed_classes
from sm_train.rows import Tokens
from sm_train.settings.settings import Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.rows import Data
    from sm_train.settings.settings import Config

_IGNORED = -100  # the loss passes over such a label: special tokens, later pieces of a word


@dataclass(frozen=True)
class TokenClassificationArguments:
    """The method's own hyperparameters."""

    tokens_column: str = field(default="tokens", metadata={"help": "Column with the words."})
    tags_column: str = field(default="tags", metadata={"help": "Column with a tag a word."})
    labels: list[str] | None = field(
        default=None,
        metadata={"help": "All tags, in the order of their ids; needed where tags are numbers."},
    )
    class_weights: dict[str, Any] | str | None = field(
        default=None, metadata={"help": WEIGHTS_HELP}
    )
    max_length: int = field(
        default=256, metadata={"help": "Tokens of a text; longer ones are cut off."}
    )


def clean_row(row: dict[str, Any], config: Config[TokenClassificationArguments]) -> dict[str, Any]:
    """`tokens` and `tags` of equal length, tags by name. Raises ValueError for a bad row."""
    own: TokenClassificationArguments = config.own
    tokens, tags = _list(row, own.tokens_column), _list(row, own.tags_column)
    if len(tokens) != len(tags):
        raise ValueError(f"{len(tokens)} words and {len(tags)} tags")
    tokens = [text_of(token) for token in tokens]
    if not all(isinstance(token, str) for token in tokens):
        raise ValueError("a word is not text")
    return {"tokens": tokens, "tags": [_name(tag, own.labels) for tag in tags]}


def _list(row: dict[str, Any], column: str) -> list[Any]:
    value = row.get(column)
    if isinstance(value, str):
        try:
            value = nested(value)
        except ValueError:
            if value.lstrip().startswith("["):
                raise
            value = value.split()
    if not isinstance(value, list) or not value:
        raise ValueError(f"no list in column {column}")
    return value


def _name(tag: Any, labels: list[str] | None) -> str:
    if tag is None:
        raise ValueError("a word has no tag")
    if isinstance(tag, ClassId) and (not labels or tag.name in labels):
        return tag.name
    if labels and isinstance(tag, int) and 0 <= tag < len(labels):
        return labels[tag]
    if labels and str(tag) not in labels:
        raise ValueError(f"unknown tag {tag!r}")
    return str(tag)


def required_columns(config: Config[TokenClassificationArguments]) -> list[tuple[str, ...]]:
    """Words and tags."""
    return [(config.own.tokens_column,), (config.own.tags_column,)]


def check_arguments(config: Config[TokenClassificationArguments]) -> None:
    """Refuse weights that are none, and a stream of which the tags are not known."""
    check_class_weights(config)
    check_streamed_classes(config)


def check_data(config: Config[TokenClassificationArguments], data: Data) -> None:
    """Evaluation data may hold no tag that training does not know."""
    names = tag_names(config, data)
    known = set(names)
    check_weighted_classes(config, names)
    if len(known) < 2:
        raise UserError(f"every word bears the same tag: {known}", field="tags_column")
    for split in ("validation", "test"):
        tags = {tag for row in data.split(split) or () for tag in row["tags"]}
        if tags - known:
            raise UserError(
                f"has tags that the train channel lacks: {', '.join(sorted(tags - known)[:10])}",
                field=f"channel {split}",
                fix="correct the tags, or name all of them in the hyperparameter labels",
            )


def tag_names(config: Config[TokenClassificationArguments], data: Data) -> list[str]:
    """The tags in the order of their ids."""
    own: TokenClassificationArguments = config.own
    return own.labels or sorted({tag for row in data.train for tag in row["tags"]})


def tokens(
    row: dict[str, Any], config: Config[TokenClassificationArguments], tokenizer: Any
) -> list[Tokens]:
    """The words in pieces; learnt are the tags of first pieces, shown beside their words."""
    names = sorted(set(row["tags"]))
    limit = min(config.own.max_length, tokenizer.model_max_length)
    encoded = tokenizer([row["tokens"]], is_split_into_words=True)
    ids = encoded["input_ids"][0]
    aligned = _aligned(encoded.word_ids(0), [names.index(tag) for tag in row["tags"]])
    pairs = zip(row["tokens"], row["tags"], strict=True)
    note = " ".join(word if tag == "O" else f"{word}/{tag}" for word, tag in pairs)
    learnt = [label != _IGNORED for label in aligned][:limit]
    return [Tokens(ids[:limit], learnt, note=note, cut=max(0, len(ids) - limit))]


def train(job: Job) -> None:
    """Fine-tune, evaluate on the test channel, write the model directory."""
    from transformers import DataCollatorForTokenClassification

    from sm_train.loop.class_weights import settled_weights
    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import counted_cuts
    from sm_train.loop.sampling import LengthGroupedTrainer
    from sm_train.loop.streams import one_by_one, streamed
    from sm_train.modelling.model import adapt, load_model, load_tokenizer
    from sm_train.modelling.preview import print_preview
    from sm_train.results.asking import tell

    names = tag_names(job.config, job.data)
    tokenizer = load_tokenizer(job)
    print_preview(job, tokenizer)
    model = load_model(
        job,
        "AutoModelForTokenClassification",
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    own: TokenClassificationArguments = job.config.own
    # A word has the tag of its first piece, as in training.
    asked = {
        "aggregation_strategy": "first",
        "max_length": min(own.max_length, tokenizer.model_max_length),
    }
    tell(model, job.config, asked, {"tokens": own.tokens_column, "label": own.tags_column})
    datasets = {
        split: _tokenised(job.data.split(split), tokenizer, names, job.config.own.max_length)
        for split in ("train", "validation", "test")
    }
    job = counted_cuts(job, datasets, job.config.own.max_length)
    weights = settled_weights(job, names, datasets["train"])
    if job.data.stream is not None:
        datasets["train"] = streamed(
            job, one_by_one(lambda rows: _columns(rows, tokenizer, names, own.max_length))
        )
    trainer = LengthGroupedTrainer(
        model=adapt(job, model, "TOKEN_CLS"),
        args=training_arguments(job),
        train_dataset=datasets["train"],
        eval_dataset=datasets["validation"],
        data_collator=DataCollatorForTokenClassification(tokenizer),
        compute_metrics=lambda prediction: _scores(prediction, names),
        processing_class=tokenizer,
        callbacks=callbacks(job),
        weights=weights,
    )
    train_and_export(job, trainer, tokenizer, datasets["test"])


def _tokenised(
    rows: Sequence[dict[str, Any]] | None, tokenizer: Any, names: Sequence[str], limit: int
) -> Any:
    """The columns of rows as a `datasets.Dataset`; None without rows."""
    if rows is None:
        return None
    from datasets import Dataset

    return Dataset.from_dict(_columns(rows, tokenizer, names, limit))


def _columns(
    rows: Sequence[dict[str, Any]], tokenizer: Any, names: Sequence[str], limit: int
) -> dict[str, list[Any]]:
    """The first piece of each word bears its tag."""
    ids = {name: index for index, name in enumerate(names)}
    limit = min(limit, tokenizer.model_max_length)
    encoded = tokenizer(
        [row["tokens"] for row in rows],
        is_split_into_words=True,
        truncation=True,
        max_length=limit,
    )
    columns = {key: encoded[key] for key in encoded}
    columns["labels"] = [
        _aligned(encoded.word_ids(index), [ids[tag] for tag in row["tags"]])
        for index, row in enumerate(rows)
    ]
    columns["cut"] = [bool(encoding.overflowing) for encoding in encoded.encodings]
    columns["length"] = [len(tokens) for tokens in encoded["input_ids"]]
    return columns


def _aligned(word_ids: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    before: list[int | None] = [None, *word_ids[:-1]]
    return [
        _IGNORED if word is None or word == last else tags[word]
        for word, last in zip(word_ids, before, strict=True)
    ]


def _scores(prediction: Any, names: Sequence[str]) -> dict[str, float]:
    from sm_train.results.metrics import cross_entropy, entity_scores

    guesses = prediction.predictions.argmax(axis=-1)
    expected, predicted = [], []
    for truth_row, guess_row in zip(prediction.label_ids, guesses, strict=True):
        kept = [(t, g) for t, g in zip(truth_row, guess_row, strict=True) if t != _IGNORED]
        expected.append([names[t] for t, _ in kept])
        predicted.append([names[g] for _, g in kept])
    loss = cross_entropy(prediction.predictions, prediction.label_ids)
    return {"loss": loss, **entity_scores(expected, predicted)}


METHOD = Method(
    name="token-classification",
    training_config="transformers:TrainingArguments",
    arguments=TokenClassificationArguments,
    clean_row=clean_row,
    tokens=tokens,
    required_columns=required_columns,
    check_arguments=check_arguments,
    check_data=check_data,
    pipeline_tag="token-classification",
    measures_rows=True,
    streams=True,
    judged_by=("f1",),
    defaults={
        "learning_rate": 5e-5,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 64,
        "warmup_steps": 0.06,
        "weight_decay": 0.01,
        "metric_for_best_model": "f1",
        "train_sampling_strategy": "group_by_length",
    },
)
