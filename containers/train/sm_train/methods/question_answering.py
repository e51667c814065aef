"""Extractive question answering in SQuAD's formats: the answer is a span of the context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sm_train.contract import SPLIT_CHANNELS
from sm_train.data.cells import nested
from sm_train.rows import Tokens
from sm_train.settings.settings import Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.settings.settings import Config


COLUMNS: dict[str, str | None] = {
    "question": "question",
    "context": "context",
    "label": "answers",
}


@dataclass(frozen=True)
class QuestionAnsweringArguments:
    """The method's own hyperparameters."""

    max_length: int = field(default=384, metadata={"help": "Tokens of question and context."})
    doc_stride: int = field(
        default=128, metadata={"help": "Tokens that two windows of a long context share."}
    )
    max_answer_length: int = field(default=30, metadata={"help": "Tokens of the longest answer."})


def expand(row: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """SQuAD's own JSON nests questions in paragraphs in articles; a flat row is one question."""
    if isinstance(row.get("data"), list):  # the whole file as one JSON line
        return [question for article in row["data"] for question in expand(article)]
    if not isinstance(row.get("paragraphs"), list):
        return [row]
    return [
        {"context": paragraph.get("context"), **question}
        for paragraph in row["paragraphs"]
        for question in paragraph.get("qas") or ()
    ]


def clean_row(row: dict[str, Any], _config: Config[QuestionAnsweringArguments]) -> dict[str, Any]:
    """`question`, `context`, and the answers as `texts` and `starts`; none means no answer."""
    for column in ("question", "context"):
        if not isinstance(row.get(column), str) or not row[column].strip():
            raise ValueError(f"no text in column {column}")
    context = row["context"]
    answers = [] if row.get("is_impossible") is True else _answers(row.get("answers"))
    placed = [(text, _start(context, text, start)) for text, start in answers]
    return {
        "question": row["question"].strip(),
        "context": context,
        "texts": [text for text, _ in placed],
        "starts": [start for _, start in placed],
    }


def _answers(value: Any) -> list[tuple[str, Any]]:
    """Each answer's text and place: SQuAD's list, the columns `datasets` makes of it, or texts.

    Raises ValueError for anything else.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = _decoded(value)
    if isinstance(value, str):
        value = [value] if value.strip() else []  # CSV's empty cell
    if isinstance(value, dict):
        value = _zipped(value.get("text"), value.get("answer_start"))
    if not isinstance(value, list):
        raise ValueError("answers is neither a list nor an object with text and answer_start")
    pairs: list[tuple[Any, Any]] = [
        (answer.get("text"), answer.get("answer_start"))
        if isinstance(answer, dict)
        else (answer, None)
        for answer in value
    ]
    if not all(isinstance(text, str) for text, _ in pairs):
        raise ValueError("an answer has no text")
    return pairs


def _decoded(value: str) -> Any:
    try:
        return nested(value)
    except ValueError:
        raise ValueError(
            'answers is not JSON; write it as {"text": ["…"], "answer_start": [0]}'
        ) from None


def _zipped(texts: Any, starts: Any) -> list[dict[str, Any]]:
    texts = [texts] if isinstance(texts, str) else texts or []
    starts = [starts] if isinstance(starts, int) else starts or [None] * len(texts)
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise ValueError("answers must hold as many text as answer_start")
    return [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)]


def _start(context: str, text: str, start: Any) -> int:
    if isinstance(start, int) and start >= 0 and text and context.startswith(text, start):
        return start
    place = context.find(text) if text else -1
    if place < 0:
        raise ValueError(f"the answer {text!r} is not in the context")
    return place


def required_columns(_config: Config[QuestionAnsweringArguments]) -> list[tuple[str, ...]]:
    """What every question needs."""
    return [("question",), ("context",), ("answers",)]


def asked(own: QuestionAnsweringArguments, tokenizer: Any, some_unanswered: bool) -> dict[str, Any]:
    """The serving parameters that find the answers which `spans.best_answers` finds."""
    from sm_train.methods.spans import sizes

    limit, stride = sizes(tokenizer, own.max_length, own.doc_stride)
    return {
        "handle_impossible_answer": some_unanswered,
        "max_answer_len": own.max_answer_length,
        "max_seq_len": limit,
        "doc_stride": stride,
        "align_to_words": False,
        "rank_by": "logit",
    }


def tokens(
    row: dict[str, Any], config: Config[QuestionAnsweringArguments], tokenizer: Any
) -> list[Tokens]:
    """Each window of the context after the question; learnt is where the first answer stands."""
    from sm_train.methods.spans import windows

    own: QuestionAnsweringArguments = config.own
    windowed = windows([row], tokenizer, own.max_length, own.doc_stride)
    shown = []
    for window in windowed.dataset if windowed else ():
        first, last = window["start_positions"], window["end_positions"]
        answered = bool(row["texts"]) and (first, last) != (0, 0)
        ids = window["input_ids"]
        learnt = [answered and first <= place <= last for place in range(len(ids))]
        shown.append(Tokens(ids, learnt, note="" if answered else "no answer here"))
    return shown


def train(job: Job) -> None:
    """Fine-tune, evaluate on the test channel, write the model directory."""
    from transformers import DataCollatorWithPadding

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.methods.span_trainer import SpanTrainer
    from sm_train.methods.spans import windows
    from sm_train.modelling.model import adapt, load_model, load_tokenizer
    from sm_train.modelling.preview import print_preview
    from sm_train.results.asking import tell

    own: QuestionAnsweringArguments = job.config.own
    tokenizer = load_tokenizer(job)
    tokenizer.padding_side = "right"  # places of answers are counted from the left
    print_preview(job, tokenizer)
    model = load_model(job, "AutoModelForQuestionAnswering")
    some_unanswered = any(
        not row["texts"] for split in SPLIT_CHANNELS for row in job.data.split(split) or ()
    )
    tell(model, job.config, asked(own, tokenizer, some_unanswered), COLUMNS)
    sets = {
        split: windows(job.data.split(split), tokenizer, own.max_length, own.doc_stride)
        for split in ("train", "validation", "test")
    }
    trainer = SpanTrainer(
        model=adapt(job, model, "QUESTION_ANS"),
        args=training_arguments(job),
        train_dataset=sets["train"].dataset if sets["train"] else None,
        eval_dataset=sets["validation"].dataset if sets["validation"] else None,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        callbacks=callbacks(job),
        window_sets={"eval": sets["validation"], "test": sets["test"]},
        max_answer_length=own.max_answer_length,
        may_be_none=some_unanswered,
    )
    train_and_export(job, trainer, tokenizer, sets["test"].dataset if sets["test"] else None)


METHOD = Method(
    name="question-answering",
    training_config="transformers:TrainingArguments",
    arguments=QuestionAnsweringArguments,
    clean_row=clean_row,
    tokens=tokens,
    reads_text=lambda _, name: name != "is_impossible",
    required_columns=required_columns,
    expand=expand,
    pipeline_tag="question-answering",
    judged_by=("f1",),
    defaults={
        "learning_rate": 5e-5,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 64,
        "warmup_steps": 0.06,
        "weight_decay": 0.01,
        "metric_for_best_model": "f1",
        "train_sampling_strategy": "group_by_length",
    },
)
