"""The scores of a model are those of its rows, however they are batched, ordered or shared out."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from repeatable import repeatable
from two_ranks import run_in_two

pytestmark = pytest.mark.slow

Rows = list[dict[str, Any]]
COMMON = {"report_to": "none", "bf16": False, "seed": 5}


def questions(count: int) -> Rows:
    """Answers anywhere in contexts of very different lengths; some have none, or two."""
    chance = random.Random(3)
    rows = []
    for number in range(count):
        tokens = [f"w{i}" for i in chance.choices(range(20), k=chance.randint(2, 60))]
        place = chance.randrange(len(tokens))
        tokens.insert(place, f"capital w{20 + number % 15}")
        context = " ".join(tokens)
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
        tokens = chance.choices(["w1", "w2", "w3"], k=chance.randint(1, 40))
        tokens[chance.randrange(len(tokens))] = ("good", "bad", "dull")[number % 3]
        rows.append({"text": " ".join(tokens), "label": ("a", "b", "c")[number % 3]})
    return rows


def tagged(count: int) -> Rows:
    marks = {"good": "B-X", "bad": "I-X"}
    rows = []
    for row in sentences(count):
        tokens = row["text"].split()
        rows.append({"tokens": tokens, "tags": [marks.get(word, "O") for word in tokens]})
    return rows


def pairs(count: int) -> Rows:
    """Likeness that can be learnt: where it cannot, all vectors fall together, and the last bits
    of a cosine, which do depend on the batch, decide."""
    return [
        {"sentence1": f"w{i % 9} w{i % 7}", "sentence2": f"w{i % 5}", "score": (i % 5) / 4}
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
    ("group_by_length", 16, 1),
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
    rate = 0.001 if method == "embedding" else 0.01
    learn = {**COMMON, "method": method, "learning_rate": rate, "max_steps": 40}
    trained = session_job(learn, train=rows, model=encoders["bert"])
    trained.train_here()
    still = {**COMMON, "method": method, "learning_rate": 1e-12, "max_steps": 1}
    measured = []
    for strategy, batch, processes in [("sequential", 64, 1), *WAYS]:
        settings = {**still, "per_device_eval_batch_size": batch, "num_processes": processes}
        settings["dataloader_drop_last"] = batch == 5
        if method != "embedding":  # which knows no order by length
            settings["train_sampling_strategy"] = strategy
        job = session_job(settings, **channels, model=trained.model)
        train(job, processes)
        measured.append(scores(job, method))
    # It has learnt: scores of other rows would be those of guessing.
    learnt = {"question-answering": "test_f1", "embedding": "test_pearson_cosine"}
    assert measured[0][learnt.get(method, "test_f1")] > 0.5
    assert [pytest.approx(measured[0], abs=1e-4)] * len(WAYS) == measured[1:]


def answers(count: int) -> Rows:
    """Answers of very different lengths, of which some are hardly learnt."""
    chance = random.Random(6)
    rows = []
    for number in range(count):
        told = [" ".join(chance.choices(VOCABULARY, k=chance.randint(1, 30))) for _ in range(2)]
        row = {"prompt": f"w{number % 9}", "chosen": f" {told[0]}", "rejected": f" {told[1]}"}
        rows.append(row)
    return rows


VOCABULARY = ["w1", "w2", "w3", "w4"]


def completions(count: int) -> Rows:
    return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in answers(count)]


def judged(count: int) -> Rows:
    return [{**row, "label": number % 3 == 0} for number, row in enumerate(completions(count))]


def prompts(count: int) -> Rows:
    return [{"prompt": " ".join(f"w{i % 9}" for i in range(number + 1))} for number in range(count)]


# What an answer is worth to the methods that sample; nothing can be said of the shortest.
JUDGE = """
def worth(prompts, completions, **_):
    counts = [len(completion.split()) for completion in completions]
    return [count * len(prompt) if count > 1 else None for count, prompt in zip(counts, prompts)]
"""
SAMPLING = {
    "reward_funcs": ["judge.py:worth", "length"],
    "reward_length": 3,
    "num_generations": 2,
    "beta": 0.1,
}
PREFERRED: dict[str, tuple[Callable[[int], Rows], dict[str, Any]]] = {
    "sft": (completions, {}),
    **dict.fromkeys(("dpo", "reward", "cpo", "orpo"), (answers, {})),
    "kto": (judged, {}),
    **dict.fromkeys(("grpo", "rloo"), (prompts, SAMPLING)),
    "distillation": (prompts, {}),
}


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    (folder / "judge.py").write_text(JUDGE)
    return folder


@pytest.fixture(scope="module")
def scored_job(session_job: Callable[..., Any], decoder: Path, judge: Path) -> Callable[..., Any]:
    """A job of a method and a size of the batches that are evaluated."""

    def lay_out(method: str, batch: int) -> Any:
        made, own = PREFERRED[method]
        rows = made(11)
        settings = {**COMMON, **own, "method": method, "learning_rate": 1e-12, "max_steps": 1}
        settings |= {"per_device_eval_batch_size": batch}
        if method == "distillation":
            settings["teacher_model_name_or_path"] = str(decoder)
        channels: dict[str, Any] = {"train": rows[:4], "validation": rows[:9], "test": rows}
        if own:
            channels["code"] = judge
        return session_job(settings, **channels, model=decoder)

    return lay_out


@pytest.fixture(scope="module")
def shared_out(scored_job: Callable[..., Any]) -> dict[str, Any]:
    """A job of each method whose rows two processes share."""
    jobs = {method: scored_job(method, 3) for method in PREFERRED}
    script = Path(__file__).with_name("repeatable.py")
    run_in_two(script, *(str(job.path) for job in jobs.values()))
    return jobs


@pytest.mark.parametrize("method", PREFERRED)
def test_scores_of_language_models_count_rows_and_tokens_not_batches(
    method: str, scored_job: Callable[..., Any], shared_out: dict[str, Any]
) -> None:
    jobs = [scored_job(method, batch) for batch in (64, 2, 6)]
    with repeatable():
        for job in jobs:
            job.train_here()
    measured = [scores(job, method) for job in (*jobs, shared_out[method])]
    # Tokens are those of training; CPO and ORPO take the mean of all logits, of padding too.
    skipped = [name for name in measured[0] if name.endswith("num_tokens")]
    skipped += [n for n in measured[0] if "logits/" in n and method in ("reward", "cpo", "orpo")]
    measured = [{n: v for n, v in one.items() if n not in skipped} for one in measured]
    assert {"test_loss", "eval_loss"} <= set(measured[0])
    assert [pytest.approx(measured[0], rel=1e-4, abs=1e-4)] * 3 == measured[1:]


def test_an_order_by_length_is_refused_where_rows_have_no_length(
    new_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    from sm_train.errors import UserError

    settings = {"method": "embedding", "train_sampling_strategy": "group_by_length", **COMMON}
    job = new_job(settings, train=pairs(8), model=encoders["bert"])
    with pytest.raises(UserError, match="train_sampling_strategy = 'group_by_length': this method"):
        job.train_here()
