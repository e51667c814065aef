"""Text classification: one class a text, several labels, or a number; encoders and decoders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sm_train.errors import UserError
from sm_train.loop.class_weights import HELP as WEIGHTS_HELP
from sm_train.loop.class_weights import check_class_weights, check_weighted_classes
from sm_train.methods.class_labels import (
    MULTI_LABEL,
    REGRESSION,
    check_streamed_classes,
    names_in,
    number,
    one,
    several,
)
from sm_train.results.thresholds import HELP as THRESHOLD_HELP
from sm_train.results.thresholds import (
    TUNED,
    Thresholds,
    asked_thresholds,
    check_threshold,
    check_thresholds_fit,
)
from sm_train.rows import Tokens
from sm_train.settings.settings import Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.loop.class_weights import ClassWeights
    from sm_train.rows import Data
    from sm_train.settings.settings import Config

_MOST_COUNTS = 30  # labels whose rows the log names


@dataclass(frozen=True)
class TextClassificationArguments:
    """The method's own hyperparameters."""

    text_column: str = field(default="text", metadata={"help": "Column with the text."})
    text_pair_column: str | None = field(
        default=None, metadata={"help": "Column with a second text, for pairs of sentences."}
    )
    label_column: str = field(
        default="label",
        metadata={"help": "Column with the class's name, the list of labels, or the number."},
    )
    labels: list[str] | None = field(
        default=None,
        metadata={"help": "All classes, in the order of their ids. Default: those of the data."},
    )
    num_labels: int | None = field(
        default=None,
        metadata={"help": "How many classes there must be; 1 predicts the number in the column."},
    )
    problem_type: (
        Literal["single_label_classification", "multi_label_classification", "regression"] | None
    ) = field(
        default=None,
        metadata={
            "help": "multi_label_classification gives a text any number of labels: cells are "
            "lists. regression predicts the number in the label column, as num_labels 1 does. "
            "Default: one class a text."
        },
    )
    threshold: float | dict[str, Any] | str | None = field(
        default=None, metadata={"help": THRESHOLD_HELP}
    )
    class_weights: dict[str, Any] | str | None = field(
        default=None, metadata={"help": WEIGHTS_HELP}
    )
    replace_head: bool = field(
        default=False,
        metadata={"help": "Give a base model that is a classifier already a new head."},
    )
    max_length: int = field(
        default=256, metadata={"help": "Tokens of a text; longer ones are cut off."}
    )


def is_multi_label(config: Config[TextClassificationArguments]) -> bool:
    """Whether a text may have any number of labels."""
    return config.own.problem_type == MULTI_LABEL


def is_regression(config: Config[TextClassificationArguments]) -> bool:
    """Whether the label is a number to predict, and no class."""
    own: TextClassificationArguments = config.own
    return own.problem_type == REGRESSION or (own.num_labels == 1 and not is_multi_label(config))


def check_arguments(config: Config[TextClassificationArguments]) -> None:
    """Refuse classes and their weights beside regression, and a threshold that nobody applies."""
    own: TextClassificationArguments = config.own
    for key, value in (("labels", own.labels), ("num_labels", own.num_labels)):
        if own.problem_type == REGRESSION and value not in (None, 1):
            raise UserError(
                "contradicts another setting: problem_type regression has no classes",
                field=key,
                value=value,
                fix="remove one of them",
            )
    if is_regression(config) and (own.labels or own.problem_type == "single_label_classification"):
        raise UserError(
            "contradicts another setting: one label is regression, which has no classes",
            field="num_labels",
            value=1,
            fix="set it to the number of classes, or remove labels and problem_type",
        )
    unfit = "weighs classes, and a regression has none" if is_regression(config) else ""
    check_class_weights(config, unfit)
    check_streamed_classes(config, classes=not is_regression(config))
    several, regression = is_multi_label(config), is_regression(config)
    check_threshold(own.threshold, several=several, regression=regression)


def clean_row(row: dict[str, Any], config: Config[TextClassificationArguments]) -> dict[str, Any]:
    """`text`, maybe `text_pair`, and `label`: a name, several of them, or a number.

    Raises ValueError for a bad row.
    """
    own: TextClassificationArguments = config.own
    cleaned = {"text": _text(row.get(own.text_column), own.text_column)}
    if own.text_pair_column:
        cleaned["text_pair"] = _text(row.get(own.text_pair_column), own.text_pair_column)
    value, column = row.get(own.label_column), own.label_column
    if is_regression(config):
        return {**cleaned, "label": number(value, column)}
    read = several if is_multi_label(config) else one
    return {**cleaned, "label": read(value, column, own.labels)}


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in column {column}")
    return value


def required_columns(config: Config[TextClassificationArguments]) -> list[tuple[str, ...]]:
    """Text and label; the second text where one is named."""
    own: TextClassificationArguments = config.own
    columns = [own.text_column, own.text_pair_column, own.label_column]
    return [(column,) for column in columns if column]


def check_data(config: Config[TextClassificationArguments], data: Data) -> None:
    """Refuse data that no classifier can be trained on, naming the classes concerned."""
    own: TextClassificationArguments = config.own
    # Files in the order of their classes begin with many rows of one.
    if data.stream is None and len({str(row["label"]) for row in data.train}) < 2:
        raise UserError(
            f"training needs rows that differ; the label of every row of the train channel is "
            f"{data.train[0]['label']!r}",
            field="label_column",
            value=own.label_column,
            fix="check the column's name and the data",
        )
    if is_regression(config):
        return
    counts = Counter(name for row in data.train for name in names_in(row["label"]))
    labels = own.labels or sorted(counts)
    check_weighted_classes(config, labels)
    # Where eval_strategy has the test rows evaluated while training, they are both.
    several, validates = is_multi_label(config), data.validation not in (None, data.test)
    check_thresholds_fit(own.threshold, labels, several=several, validates=validates)
    if own.num_labels is not None and own.num_labels != len(labels):
        raise UserError(
            f"the data has {len(labels)} classes: {', '.join(labels[:20])}",
            field="num_labels",
            value=own.num_labels,
            fix=f"set it to {len(labels)} or remove it, or correct the data's labels",
        )
    for split in ("validation", "test"):
        rows = data.split(split) or ()
        strange = sorted({name for row in rows for name in names_in(row["label"])} - set(labels))
        if strange:
            raise UserError(
                f"has classes that the train channel lacks: {', '.join(strange[:10])}",
                field=f"channel {split}",
                fix="correct the labels, or name all classes in the hyperparameter labels",
            )


def tokens(
    row: dict[str, Any], config: Config[TextClassificationArguments], tokenizer: Any
) -> list[Tokens]:
    """The text as the model gets it, and the class that it learns."""
    limit = min(config.own.max_length, tokenizer.model_max_length)
    ids = tokenizer(row["text"], row.get("text_pair"))["input_ids"]
    kept = tokenizer(row["text"], row.get("text_pair"), truncation=True, max_length=limit)
    shown = kept["input_ids"]
    label = row["label"]
    note = ", ".join(label) or "no label" if isinstance(label, list) else str(label)
    return [Tokens(shown, [False] * len(shown), note=note, cut=len(ids) - len(shown))]


def ordered_labels(job: Job, base: dict[str, Any]) -> list[str]:
    """The classes in the order of their ids: as asked for, as the base has them, or sorted.

    Raises UserError when the base model is a classifier with another number of classes.
    """
    own: TextClassificationArguments = job.config.own
    present = {name for row in job.data.train for name in names_in(row["label"])}
    labels = own.labels or sorted(present)
    is_classifier = any("ForSequenceClassification" in a for a in base.get("architectures") or ())
    if not is_classifier or own.replace_head:
        return labels
    names = {int(i): name for i, name in (base.get("id2label") or {}).items()}
    had = [names[i] for i in sorted(names)] or ["LABEL_0", "LABEL_1"]
    if len(had) != len(labels):
        raise UserError(
            f"has a head for {len(had)} classes ({', '.join(had[:10])}), and the data has "
            f"{len(labels)} ({', '.join(labels[:10])})",
            field="model_name_or_path",
            value=job.model_source,
            fix="set replace_head to true to train a new head, or use a base model without one",
        )
    return had if present <= set(had) and not own.labels else labels


def train(job: Job) -> None:
    """Fine-tune, evaluate on the test channel, write the model directory."""
    from transformers import DataCollatorWithPadding

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.sampling import LengthGroupedTrainer
    from sm_train.modelling.base_model import read_model_config
    from sm_train.modelling.model import adapt, load_tokenizer
    from sm_train.modelling.preview import print_preview

    own: TextClassificationArguments = job.config.own
    regression, several = is_regression(job.config), is_multi_label(job.config)
    labels = ["score"] if regression else ordered_labels(job, read_model_config(job.model_source))
    tokenizer = load_tokenizer(job)
    print_preview(job, tokenizer)
    model = _load(job, tokenizer, labels)
    if several:
        print_counts(job, labels)
    thresholds = asked_thresholds(own.threshold, labels, several=several)
    _tell(job, tokenizer, model, thresholds)
    arguments = training_arguments(job)
    if regression and "metric_for_best_model" not in job.config.given:
        arguments.metric_for_best_model, arguments.greater_is_better = "loss", False
    job, datasets, weights = _learnt(job, tokenizer, labels)
    trainer = LengthGroupedTrainer(
        model=adapt(job, model, "SEQ_CLS"),
        args=arguments,
        train_dataset=datasets["train"],
        eval_dataset=datasets["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda prediction: _measured(prediction, job.config, thresholds),
        processing_class=tokenizer,
        callbacks=callbacks(job),
        weights=weights,
    )

    def settle() -> None:
        tune(job, trainer, datasets["validation"], thresholds)
        _tell(job, tokenizer, model, thresholds)

    tuned = own.threshold == TUNED
    train_and_export(job, trainer, tokenizer, datasets["test"], settle if tuned else None)


def _load(job: Job, tokenizer: Any, labels: Sequence[str]) -> Any:
    from sm_train.modelling.model import load_model

    model = load_model(
        job,
        "AutoModelForSequenceClassification",
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=_problem_type(job.config),
        ignore_mismatched_sizes=job.config.own.replace_head or None,
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


def _tell(job: Job, tokenizer: Any, model: Any, thresholds: Thresholds) -> None:
    """Write into the model's config how it is asked, and how its scores are read."""
    from sm_train.results.asking import tell

    own: TextClassificationArguments = job.config.own
    limit = min(own.max_length, tokenizer.model_max_length)
    columns = {"text": own.text_column, "text_pair": own.text_pair_column}
    asked: dict[str, Any] = {"truncation": True, "max_length": limit}
    if not is_regression(job.config) and thresholds.told is not None:
        asked["threshold"] = thresholds.told
    tell(model, job.config, asked, {**columns, "label": own.label_column})


def _learnt(
    job: Job, tokenizer: Any, labels: Sequence[str]
) -> tuple[Job, dict[str, Any], ClassWeights | None]:
    """The job with its counts, its rows as the trainer takes them, and the weights of classes."""
    from sm_train.loop.class_weights import settled_weights
    from sm_train.loop.learning import counted_cuts
    from sm_train.loop.streams import one_by_one, streamed, warn_of_order

    own: TextClassificationArguments = job.config.own
    datasets = {
        split: _tokenised(job.data.split(split), tokenizer, labels, own.max_length)
        for split in ("train", "validation", "test")
    }
    job = counted_cuts(job, datasets, own.max_length)
    several = is_multi_label(job.config)
    weights = settled_weights(job, labels, datasets["train"], several=several)
    if job.data.stream is not None:
        if not is_regression(job.config):
            warn_of_order(job, {str(row["label"]) for row in job.data.train})
        datasets["train"] = streamed(
            job, one_by_one(lambda rows: _columns(rows, tokenizer, labels, own.max_length))
        )
    return job, datasets, weights


def tune(job: Job, trainer: Any, validation: Any, thresholds: Thresholds) -> None:
    """Find the thresholds on the validation rows, by the weights that are kept."""
    from sm_train.log import print_line

    made = trainer.predict(validation, metric_key_prefix="eval")
    logits = made.predictions[0] if isinstance(made.predictions, tuple) else made.predictions
    thresholds.tune(logits, made.label_ids)
    before, after = made.metrics["eval_f1"], _measured(made, job.config, thresholds)["f1"]
    told = thresholds.told
    limits = told if isinstance(told, dict) else {"all": told}
    shown = [f"{name} {value:.4g}" for name, value in limits.items() if value is not None]
    more = f" and {len(shown) - _MOST_COUNTS} more" if len(shown) > _MOST_COUNTS else ""
    if job.is_main:
        print_line(
            f"thresholds tuned on {len(validation)} validation rows: macro F1 {before:.4f} without,"
            f" {after:.4f} with {', '.join(shown[:_MOST_COUNTS]) or 'the largest score'}{more}"
        )


def _tokenised(
    rows: Sequence[dict[str, Any]] | None, tokenizer: Any, labels: Sequence[str], max_length: int
) -> Any:
    """The columns of rows as a `datasets.Dataset`; None without rows."""
    if rows is None:
        return None
    from datasets import Dataset

    return Dataset.from_dict(_columns(rows, tokenizer, labels, max_length))


def _columns(
    rows: Sequence[dict[str, Any]], tokenizer: Any, labels: Sequence[str], max_length: int
) -> dict[str, list[Any]]:
    """Token ids, label ids and lengths (to batch texts of like length)."""
    ids = {label: index for index, label in enumerate(labels)}
    limit = min(max_length, tokenizer.model_max_length)
    pairs = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
    encoded = tokenizer([row["text"] for row in rows], pairs, truncation=True, max_length=limit)
    columns = {key: encoded[key] for key in encoded}
    columns["labels"] = [_target(row["label"], ids) for row in rows]
    columns["cut"] = [bool(encoding.overflowing) for encoding in encoded.encodings]
    columns["length"] = [len(tokens) for tokens in encoded["input_ids"]]
    return columns


def _target(label: Any, ids: dict[str, int]) -> Any:
    """What the head's loss takes: the class's id, the number, or a 0 or 1 for each label."""
    if isinstance(label, list):
        return [float(name in label) for name in ids]
    return label if isinstance(label, float) else ids[label]


def _problem_type(config: Config[TextClassificationArguments]) -> str | None:
    """What transformers' head takes its loss by; None: of one class, the model's default."""
    if is_multi_label(config):
        return MULTI_LABEL
    return REGRESSION if is_regression(config) else None


def print_counts(job: Job, labels: Sequence[str]) -> None:
    """How many rows of each channel have each label, the most frequent first, into the log."""
    from sm_train.log import print_line
    from sm_train.loop.learning import shown_name

    for split in ("train", "validation", "test"):
        rows = job.data.split(split)
        if rows is None or not job.is_main:
            continue
        counts = Counter(dict.fromkeys(labels, 0))
        counts.update(name for row in rows for name in names_in(row["label"]))
        shown = ", ".join(f"{name} {n}" for name, n in counts.most_common(_MOST_COUNTS))
        more = f" and {len(counts) - _MOST_COUNTS} more" if len(counts) > _MOST_COUNTS else ""
        bare = sum(not row["label"] for row in rows)
        name = shown_name(job, split)
        print_line(f"channel {name}: rows by label: {shown}{more}; without a label {bare}")


def _measured(
    prediction: Any, config: Config[TextClassificationArguments], thresholds: Thresholds
) -> dict[str, float]:
    from sm_train.results.regression import regression_scores

    given = prediction.predictions
    given = given[0] if isinstance(given, tuple) else given
    if is_regression(config):
        return regression_scores(prediction.label_ids.ravel().tolist(), given.ravel().tolist())
    measure = _label_scores if is_multi_label(config) else _class_scores
    return measure(given, prediction.label_ids, thresholds)


def _class_scores(logits: Any, label_ids: Any, thresholds: Thresholds) -> dict[str, float]:
    from sm_train.results.metrics import classification_scores, confusion_matrix, cross_entropy

    guesses = [int(index) for index in thresholds.decide(logits)]
    expected = [int(index) for index in label_ids]
    scores = classification_scores(confusion_matrix(expected, guesses, len(thresholds.labels)))
    return {"loss": cross_entropy(logits, label_ids), **scores}


def _label_scores(logits: Any, label_ids: Any, thresholds: Thresholds) -> dict[str, float]:
    from sm_train.results.label_sets import binary_cross_entropy, label_set_scores

    scores = label_set_scores(label_ids > 0.5, thresholds.decide(logits), thresholds.labels)
    return {"loss": binary_cross_entropy(logits, label_ids), **scores}


METHOD = Method(
    name="text-classification",
    training_config="transformers:TrainingArguments",
    arguments=TextClassificationArguments,
    clean_row=clean_row,
    tokens=tokens,
    reads_text=lambda c, name: name in (c.own.text_column, c.own.text_pair_column),
    required_columns=required_columns,
    check_arguments=check_arguments,
    check_data=check_data,
    pipeline_tag="text-classification",
    measures_rows=True,
    streams=True,
    judged_by=("accuracy", "f1", "pearson"),
    defaults={
        # Small encoders want a brisk rate; early stopping and the best checkpoint guard the rest.
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
