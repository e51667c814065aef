"""What training measured on the test rows is what `sm-launch evaluate` measures on them.

Real jobs, with the real server behind the evaluation. The models are tiny and half trained, so that
a rule that differs would show.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sm_launch import cli
from sm_launch.evaluation.job import local

sys.path.insert(0, str(Path(__file__).parent / "training"))

pytestmark = pytest.mark.slow

Rows = list[dict[str, Any]]
FILL = ["the", "man", "went", "home", "to", "see", "a", "river"]
NAMES = ["Washington", "Lincoln", "Rotterdam", "Kowalski", "Zimmermann"]
LETTERS = [*sorted({each[0] for each in FILL[:7]}), "seldom"]
HIDDEN = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def pairs(chance: random.Random) -> dict[str, Any]:
    """Only both texts together tell the label, which is a number that CSV reads as a float."""
    first, second = chance.choice(FILL[:3]), chance.choice(FILL[:3])
    return {"one": first, "other": second, "label": float(first == second)}


def measures(chance: random.Random) -> dict[str, Any]:
    """A grade that grows with the rivers in the text; CSV would hold it as text."""
    tokens = chance.choices(FILL[4:], k=6)
    return {"text": " ".join(tokens), "label": str(tokens.count("river"))}


def tagged(chance: random.Random) -> dict[str, Any]:
    """Any number of labels by their ids, often none: each noun is worth one, mostly."""
    tokens = chance.choices(FILL, k=5)
    told = [(noun in tokens) != (chance.random() < 0.1) for noun in ("man", "home", "river")]
    return {"text": " ".join(tokens), "label": [at for at, label in enumerate(told) if label]}


def rare(chance: random.Random) -> dict[str, Any]:
    """One of three classes, of which one has few rows, and those by a hint that often lies."""
    tokens = chance.choices(FILL[:7], k=5)
    seldom = chance.random() < 0.1
    if seldom == (chance.random() < 0.9):
        tokens[0] = "river"
    return {"text": " ".join(tokens), "label": "seldom" if seldom else tokens[1][:1]}


def entities(chance: random.Random) -> dict[str, Any]:
    """Names come in several pieces; many rows are longer than what the model may read."""
    tokens, tags = [], []
    for _ in range(chance.randint(3, 14)):
        name = chance.random() < 0.4
        tokens.append(chance.choice(NAMES if name else FILL) + chance.choice(["", "", "."]))
        tags.append(chance.choice(["B-PER", "I-PER"]) if name else "O")
    return {"tokens": tokens, "tags": tags}


def answerable(chance: random.Random) -> dict[str, Any]:
    """Contexts are longer than a window."""
    tokens = chance.choices(FILL, k=30)
    at = chance.randrange(29)
    tokens[at] = "Lincoln"
    context = " ".join(tokens)
    answer = {"text": [tokens[at + 1]], "answer_start": [len(" ".join(tokens[: at + 1])) + 1]}
    return {"question": "who ?", "context": context, "answers": answer}


def questions(chance: random.Random) -> dict[str, Any]:
    """A part of the questions has no answer."""
    row = answerable(chance)
    if chance.random() < 0.4:
        row |= {"question": "home ?", "answers": {"text": [], "answer_start": []}}
    return row


def judged(chance: random.Random) -> dict[str, Any]:
    """The answer with more rivers is the better one, to most judges."""
    told = [" ".join(chance.choices(FILL[:6], k=chance.randint(1, 6))) for _ in range(3)]
    better, worse = f"{told[1]} river", told[2] + " to"
    if chance.random() < 0.2:
        better, worse = worse, better
    turns = [{"role": "user", "content": told[0]}]
    answers = {"chosen": better, "rejected": worse}
    return {"prompt": turns} | {
        name: [{"role": "assistant", "content": text}] for name, text in answers.items()
    }


def judged_texts(chance: random.Random) -> dict[str, Any]:
    """The same as plain texts, behind which training puts the end of the sequence."""
    row = judged(chance)
    return {name: turns[0]["content"] + " " for name, turns in row.items()}


def likeness(chance: random.Random) -> dict[str, Any]:
    """Two texts and how many of their words they share."""
    one, other = (chance.choices(FILL, k=chance.randint(2, 6)) for _ in range(2))
    score = len({*one} & {*other}) / len({*one} | {*other})
    return {"sentence1": " ".join(one), "sentence2": " ".join(other), "score": score}


def shortened(chance: random.Random) -> dict[str, Any]:
    """A text, now and then longer than what is read of it, and its first half behind words that
    any model learns at once."""
    tokens = chance.choices([*FILL, "Größe.", "Москва,"], k=chance.randint(4, 24))
    half = tokens[: len(tokens) // 2]
    return {"article": " ".join(tokens), "highlights": " ".join(["the", "river", *half])}


def ranked(chance: random.Random) -> dict[str, Any]:
    """A query with one document, graded by how many of its words are there; queries come again."""
    query = f"{chance.choice(FILL)} {chance.choice(FILL)}"
    document = chance.choices(FILL, k=chance.randint(1, 12))
    grade = len({*query.split()} & {*document})
    return {"query": query, "document": " ".join(document), "label": grade}


CASES: dict[str, tuple[str, Callable[[random.Random], dict[str, Any]], dict[str, Any]]] = {
    "pairs": (
        "text-classification",
        pairs,
        {
            "text_column": "one",
            "text_pair_column": "other",
            "labels": ["different", "same"],
            "dataset_columns": {"german": {"eins": "one"}},
        },
    ),
    "measures": (
        "text-classification",
        measures,
        {"problem_type": "regression", "num_train_epochs": 8},
    ),
    "tagged": (
        "text-classification",
        tagged,
        {
            "problem_type": "multi_label_classification",
            "labels": ["person", "place", "water", "never"],
            "threshold": {"person": 0.3, "place": 0.45},
            "num_train_epochs": 10,
        },
    ),
    "rare": ("text-classification", rare, {"threshold": "tuned", "labels": LETTERS}),
    "entities": ("token-classification", entities, {"max_length": 20}),
    "questions": (
        "question-answering",
        questions,
        {"max_length": 20, "doc_stride": 6, "max_answer_length": 4},
    ),
    "answerable": ("question-answering", answerable, {"max_length": 20, "doc_stride": 6}),
    "judged": ("reward", judged, {}),
    "judged texts": ("reward", judged_texts, {}),
    "likeness": ("embedding", likeness, {}),
    "ranked": ("reranking", ranked, {"max_length": 12}),
    "shortened": (
        "seq2seq",
        shortened,
        {
            "source_column": "article",
            "target_column": "highlights",
            "source_prefix": "see the: ",
            "max_source_length": 20,
            "max_target_length": 10,
            "generation_num_beams": 2,
            "learning_rate": 0.01,
            "per_device_train_batch_size": 16,
        },
    ),
}
SEVERAL = {"test-english": 50, "test-german": 30}
"""Rows of data sets, one of them with columns of its own."""
METRICS = {
    "pairs": ("accuracy", "f1_macro"),
    "measures": ("mse", "mae", "r2", "pearson", "spearman", "quadratic_weighted_kappa"),
    "tagged": (
        *(f"{name}_micro" for name in ("precision", "recall", "f1")),
        *(f"{name}_macro" for name in ("precision", "recall", "f1")),
        *(f"{name}_samples" for name in ("precision", "recall", "f1")),
        "subset_accuracy",
        "hamming_loss",
    ),
    "rare": ("accuracy", "f1_macro"),
    "entities": ("precision", "recall", "f1"),
    "questions": ("exact_match", "f1"),
    "answerable": ("exact_match", "f1"),
    "judged": ("accuracy", "margin", "mean_reward"),
    "judged texts": ("accuracy", "margin", "mean_reward"),
    "likeness": ("spearman_cosine", "pearson_cosine"),
    "ranked": ("map", "mrr@10", "ndcg@10"),
    "shortened": ("rouge1", "rougeL", "chrf"),
}


def make_tokenizer(path: Path) -> int:
    """Splits names and unknown words into pieces; returns how many there are."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special)
    tokenizer.train_from_iterator([" ".join(FILL)] * 20 + [" ".join([*NAMES, "who ? ."])], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        eos_token="[SEP]",
        chat_template="{% for m in messages %}[CLS]{{ m.content }}[SEP]{% endfor %}",
        **dict(zip(names, special, strict=True)),
    )
    fast.save_pretrained(path)
    return len(fast)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An encoder, and an encoder-decoder for the method that needs one."""
    import torch
    from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

    folders = {name: tmp_path_factory.mktemp(name) for name in ("encoder", "seq2seq")}
    torch.manual_seed(0)
    vocabulary = make_tokenizer(folders["encoder"])
    BertModel(BertConfig(vocab_size=vocabulary, **HIDDEN)).save_pretrained(folders["encoder"])
    config = T5Config(
        vocab_size=make_tokenizer(folders["seq2seq"]), d_model=32, d_kv=16, d_ff=64, num_layers=1,
        num_heads=2, decoder_start_token_id=0, pad_token_id=0, eos_token_id=3,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    model.generation_config.update(min_new_tokens=4, no_repeat_ngram_size=2)
    model.save_pretrained(folders["seq2seq"])
    return folders


def ask_besides(monkeypatch: pytest.MonkeyPatch, path: str, body: Any) -> list[dict[str, Any]]:
    """What the server that evaluate asks says to a request of ours, before the evaluation."""
    answers: list[dict[str, Any]] = []
    served = local.served

    @contextmanager
    def asking(config: Any, model_data: str) -> Iterator[tuple[Any, str]]:
        with served(config, model_data) as (session, name):
            answer = httpx.post(f"{session.endpoint_url(name)}{path}", json=body)
            answers.extend(answer.raise_for_status().json())
            yield session, name

    monkeypatch.setattr(local, "served", asking)
    return answers


@pytest.mark.parametrize("case", list(CASES))
def test_evaluate_measures_what_training_measured(
    case: str,
    bases: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method, make_row, settings = CASES[case]
    chance = random.Random(3)
    channels = {"train": 300, "test": 80} if case != "pairs" else {"train": 300, **SEVERAL}
    if case == "rare":
        channels |= {"validation": 80}
    for channel, count in channels.items():
        folder = tmp_path / channel
        folder.mkdir()
        rows = [make_row(chance) for _ in range(count)]
        if channel == "test-german":
            rows = [{"eins": row.pop("one"), **row} for row in rows]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hyperparameters = {
        "num_train_epochs": 3,
        "learning_rate": 0.002,
        "logging_steps": 100,
        **settings,
    }
    job = {
        "name": "mine",
        "training": {
            "method": method,
            "model": str(bases.get(method, bases["encoder"])),
            "hyperparameters": hyperparameters,
            "channels": {channel: str(tmp_path / channel) for channel in channels},
        },
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("job.yaml").write_text(json.dumps(job))
    assert cli.run(["train", "--target", "process"]) == 0
    (artefact,) = (tmp_path / "build").rglob("model.tar.gz")
    capsys.readouterr()
    if case == "ranked":
        ((query, count),) = Counter(row["query"] for row in rows).most_common(1)
        documents = [row["document"] for row in rows if row["query"] == query]
        assert count > 2
        body = {"query": query, "texts": documents, "raw_scores": True, "truncate": True}
        ranks = ask_besides(monkeypatch, "/rerank", body)
    if case == "rare":
        asked = map(json.loads, Path("test/rows.jsonl").read_text().splitlines())
        body = {"inputs": [row["text"] for row in asked]}
        labels = ask_besides(monkeypatch, "/invocations", body)
    assert cli.run(["evaluate", "--model-data", str(artefact), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"]["failed"] == 0
    assert set(METRICS[case]) <= set(document["training"])
    for metric in METRICS[case]:
        assert document["metrics"][metric] == pytest.approx(document["training"][metric], abs=1e-5)
        assert document["metrics"][metric] not in (0, 1) or case == "pairs"
    assert not [w for w in document["warnings"] if "beyond the interval" in w]
    if case == "pairs":
        slices = {each["value"]: each["rows"] for each in document["slices"]}
        assert slices == {"english": 50, "german": 30}
    lines = Path("build/mine/report/predictions.jsonl").read_text().splitlines()
    if case == "rare":
        rows = list(map(json.loads, lines))
        assert [each["label"] for each in labels] == [row["predicted"] for row in rows]
        largest = [max(row["scores"], key=row["scores"].get) for row in rows]
        assert largest != [row["predicted"] for row in rows]
    if case == "ranked":
        seen = [each for each in map(json.loads, lines) if each["text"] == query]
        assert [each["references"] for each in seen] == [[document] for document in documents]
        scores = [each["values"]["document_score"] for each in seen]
        assert [each["score"] for each in ranks] == pytest.approx(sorted(scores)[::-1], abs=1e-6)
        assert [scores[each["index"]] for each in ranks] == sorted(scores)[::-1]
