"""The scores of a model are those of its rows, however they are batched, ordered or shared out."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Rows = list[dict[str, Any]]
COMMON = {"report_to": "none", "bf16": False, "seed": 5}


def questions(count: int) -> Rows:
    """Answers anywhere in contexts of very different lengths; some have none, or two."""
    chance = random.Random(3)
    rows = []
    for number in range(count):
        words = [f"w{i}" for i in chance.choices(range(20), k=chance.randint(2, 60))]
        place = chance.randrange(len(words))
        words.insert(place, f"capital w{20 + number % 15}")
        context = " ".join(words)
        answer = f"w{20 + number % 15}"
        start = context.index("capital ") + 8
        texts = [] if number % 7 == 0 else [answer, answer][: 1 + number % 2]
        answers = {"text": texts, "answer_start": [start] * len(texts)}
        rows.append({"question": "capital ?", "context": context, "answers": answers})
    return rows


def sentences(count: int) -> Rows:
    chance = random.Random(4)
    rows = []
    for number in range(count):
        words = chance.choices(["w1", "w2", "w3"], k=chance.randint(1, 40))
        words[chance.randrange(len(words))] = ("good", "bad", "dull")[number % 3]
        rows.append({"text": " ".join(words), "label": ("a", "b", "c")[number % 3]})
    return rows


def tagged(count: int) -> Rows:
    marks = {"good": "B-X", "bad": "I-X"}
    rows = []
    for row in sentences(count):
        words = row["text"].split()
        rows.append({"tokens": words, "tags": [marks.get(word, "O") for word in words]})
    return rows


def pairs(count: int) -> Rows:
    return [
        {"sentence1": f"w{i % 9} w{i % 7}", "sentence2": f"w{i % 5}", "score": (i % 11) / 10}
        for i in range(count)
    ]


ROWS: dict[str, Callable[[int], Rows]] = {
    "question-answering": questions,
    "text-classification": sentences,
    "token-classification": tagged,
    "embedding": pairs,
}


# How training draws its rows, rows a batch of evaluation, processes.
WAYS = [
    ("random", 1, 1),
    ("sequential", 5, 1),
    ("group_by_length", 16, 1),
    ("group_by_length", 5, 1),
    ("group_by_length", 5, 2),
]


def scores(job: Any, method: str) -> dict[str, float]:
    """What the test and the last evaluation gave, without times."""
    without = ("runtime", "per_second", "preparation_time")
    if method == "embedding":  # its losses compare the rows of a batch
        without += ("loss",)
    return {
        name: value
        for name, value in job.results.items()
        if isinstance(value, float) and not name.endswith(without)
    }


def train(job: Any, processes: int) -> None:
    """Several processes are started by `train` alone."""
    if processes == 1:
        job.train_here()
        return
    code, output = job.train()
    assert code == 0, output


@pytest.mark.parametrize("method", ROWS)
def test_scores_do_not_depend_on_how_rows_are_batched_or_shared(
    method: str, session_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    rows = ROWS[method](37)
    channels: dict[str, Any] = {"train": rows, "validation": rows[:23], "test": rows}
    learn = {**COMMON, "method": method, "learning_rate": 0.01, "max_steps": 40}
    trained = session_job(learn, train=rows, model=encoders["bert"])
    trained.train_here()
    still = {**COMMON, "method": method, "learning_rate": 1e-12, "max_steps": 1}
    found = []
    for strategy, batch, processes in [("sequential", 64, 1), *WAYS]:
        settings = {**still, "per_device_eval_batch_size": batch, "num_processes": processes}
        settings["dataloader_drop_last"] = batch == 5
        if method != "embedding":  # which knows no order by length
            settings["train_sampling_strategy"] = strategy
        job = session_job(settings, **channels, model=trained.model)
        train(job, processes)
        found.append(scores(job, method))
    # It has learnt: scores of other rows would be those of guessing.
    assert found[0].get("test_f1", 1.0) > 0.5
    assert [pytest.approx(found[0], abs=1e-4)] * len(WAYS) == found[1:]


def answers(count: int) -> Rows:
    """Answers of very different lengths, of which some are hardly learnt."""
    chance = random.Random(6)
    rows = []
    for number in range(count):
        told = [" ".join(chance.choices(WORDS, k=chance.randint(1, 30))) for _ in range(2)]
        row = {"prompt": f"w{number % 9}", "chosen": f" {told[0]}", "rejected": f" {told[1]}"}
        rows.append(row)
    return rows


WORDS = ["w1", "w2", "w3", "w4"]


@pytest.mark.parametrize("method", ["sft", "dpo", "reward", "cpo", "orpo"])
def test_scores_of_language_models_count_rows_and_tokens_not_batches(
    method: str, session_job: Callable[..., Any], decoder: Path
) -> None:
    rows = answers(11)
    if method == "sft":
        rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    settings = {**COMMON, "method": method, "learning_rate": 1e-12, "max_steps": 1}
    found = []
    for batch, processes in [(1, 1), (64, 1), (5, 1), (3, 2)]:
        told = {"per_device_eval_batch_size": batch, "num_processes": processes}
        channels = {"train": rows[:4], "validation": rows[:9], "test": rows}
        job = session_job(settings | told, **channels, model=decoder)
        train(job, processes)
        found.append(scores(job, method))
        # Tokens are those of training; CPO and ORPO take the mean of all logits, of padding too.
        skipped = [name for name in found[-1] if name.endswith("num_tokens")]
        skipped += [name for name in found[-1] if "logits/" in name and method != "dpo"]
        for name in skipped:
            del found[-1][name]
    assert {"test_loss", "eval_loss"} <= set(found[0])
    assert [pytest.approx(found[0], abs=1e-4)] * 3 == found[1:]


def test_an_order_by_length_is_refused_where_rows_have_no_length(
    new_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    from sm_train.errors import UserError

    settings = {"method": "embedding", "train_sampling_strategy": "group_by_length", **COMMON}
    job = new_job(settings, train=pairs(8), model=encoders["bert"])
    with pytest.raises(UserError, match="train_sampling_strategy = 'group_by_length': this method"):
        job.train_here()
