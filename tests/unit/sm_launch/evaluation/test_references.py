"""The corners of the measures, against the libraries whose measures they are."""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sm_train.methods.rewards
import sm_train.results.metrics
from sm_launch.errors import UserInputError
from sm_launch.evaluation import EvaluationPlan, LatencyPlan, evaluate_endpoint, make_task
from sm_launch.evaluation.entities import answered_spans, spans
from sm_launch.evaluation.final_answer import same_answer
from sm_launch.evaluation.gates import GateResult
from sm_launch.evaluation.judge import JudgementError, read_judgement
from sm_launch.evaluation.likelihood import likelihood_metrics, sum_answer
from sm_launch.evaluation.similarity import labelled_pairs
from sm_launch.evaluation.wire import InvokeReply

QUICK = {"latency": LatencyPlan(requests=0), "batch_size": 7}


@pytest.mark.parametrize("limit", [0.1, 0.85, 0.3, 90.0])
def test_a_gate_at_its_limit_passes(limit: float):
    for value in (limit, np.mean([limit] * 7), sum([limit / 3] * 3), limit * 3 / 3):
        assert GateResult("x", limit, float(value)).passed
        assert GateResult("x", limit, float(value), at_most=True).passed
    assert not GateResult("x", limit, limit - 1e-6).passed
    assert not GateResult("x", limit, limit + 1e-6, at_most=True).passed
    assert not GateResult("x", limit, math.nan).passed
    assert str(GateResult("accuracy", 0.85, 0.849996)) == "accuracy = 0.849996 < 0.85: failed"


KINDS = ["PER", "LOC"]


def tags_of(prefixes: str) -> st.SearchStrategy[list[list[str]]]:
    one = st.sampled_from(["O", *(f"{p}-{kind}" for p in prefixes for kind in KINDS)])
    return st.lists(st.lists(one, min_size=1, max_size=8), min_size=1, max_size=4)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.one_of(tags_of("BI"), tags_of("BIES")))
def test_entities_are_seqeval_s(rows: list[list[str]]):
    from seqeval.metrics.sequence_labeling import get_entities

    for tags in rows:
        expected = set(get_entities(tags))
        assert spans(tags) == expected
        assert {(k, a, b - 1) for a, b, k in sm_train.results.metrics.entities(tags)} == expected


@settings(max_examples=60)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=5), st.data())
def test_bilou_is_seqeval_s(lengths: list[int], data: st.DataObject):
    from seqeval.scheme import BILOU, Entities

    tags: list[str] = []
    for length in lengths:
        kind = data.draw(st.sampled_from([*KINDS, "O"]))
        inner = ["U"] if length == 1 else ["B", *["I"] * (length - 2), "L"]
        tags += ["O"] * length if kind == "O" else [f"{p}-{kind}" for p in inner]
    (entity,) = Entities([tags], BILOU).entities
    assert spans(tags) == {(e.tag, e.start, e.end - 1) for e in entity}
    assert len(sm_train.results.metrics.entities(tags)) == len(entity)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.data(), st.sampled_from(["BI", "BIES"]))
def test_entity_scores_are_seqeval_s(data: st.DataObject, prefixes: str):
    from seqeval.metrics import f1_score, precision_score, recall_score

    gold = data.draw(tags_of(prefixes))
    one = st.sampled_from(["O", *(f"{p}-{kind}" for p in prefixes for kind in KINDS)])
    named = [data.draw(st.lists(one, min_size=len(r), max_size=len(r))) for r in gold]
    expected = {
        "precision": precision_score(gold, named, zero_division=0),
        "recall": recall_score(gold, named, zero_division=0),
        "f1": f1_score(gold, named, zero_division=0),
    }
    trained = sm_train.results.metrics.entity_scores(gold, named)
    assert {name: trained[name] for name in expected} == pytest.approx(expected)
    task = make_task("token-classification")
    rows = [{"tokens": [f"w{i}" for i in range(len(r))], "tags": r} for r in gold]
    predictions = [
        task.predict(task.example(i, row), as_tokens(row["tokens"], tags))
        for i, (row, tags) in enumerate(zip(rows, named, strict=True))
    ]
    summary = task.metrics(predictions).summary
    assert {name: summary[name] for name in expected} == pytest.approx(expected)


def as_tokens(tokens: list[str], tags: list[str]) -> list[dict[str, object]]:
    """What an endpoint answers under aggregation_strategy none: two tokens a word, O left out."""
    answer, at = [], 0
    for word, tag in zip(tokens, tags, strict=True):
        if tag != "O":
            answer.append({"entity": tag, "start": at, "end": at + 1, "word": word[0]})
        answer.append({"entity": "B-LOC", "start": at + 1, "end": at + len(word), "word": "##"})
        at += len(word) + 1
    return answer


def test_no_entities_anywhere_is_0():
    task = make_task("token-classification")
    prediction = task.predict(task.example(0, {"tokens": ["a", "b"], "tags": ["O", "O"]}), [])
    assert task.metrics([prediction]).summary["f1"] == 0
    assert task.metrics([prediction]).summary["exact_match"] == 1


def test_plain_tags_are_an_entity_a_word_in_training_and_evaluation():
    tags = ["NOUN", "NOUN", "O", "VERB"]
    assert spans(tags) == {("NOUN", 0, 0), ("NOUN", 1, 1), ("VERB", 3, 3)}
    assert sm_train.results.metrics.entities(tags) == [
        (0, 1, "NOUN"),
        (1, 2, "NOUN"),
        (3, 4, "VERB"),
    ]
    tokens = ["old", "men", "do", "walk"]
    assert answered_spans(as_tokens(tokens, tags), tokens)[0] >= spans(tags) - {("VERB", 3, 3)}
    # SentencePiece's tokens hold the blank before their word.
    blank = [{"entity": "NOUN", "start": 3, "end": 7}]
    assert answered_spans(blank, tokens)[0] == {("NOUN", 1, 1)}


def squad_normal(text: str) -> str:
    """As SQuAD 2's evaluate-v2.0.py has it."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text).split())


def squad_scores(rows: list[tuple[str, list[str]]]) -> dict[str, float]:
    """get_raw_scores, make_eval_dict and merge_eval of evaluate-v2.0.py, from 0 to 1."""
    exact, f1, has = [], [], []
    for given_answer, answers in rows:
        golds = [a for a in answers if squad_normal(a)] or [""]
        exact.append(max(float(squad_normal(g) == squad_normal(given_answer)) for g in golds))
        f1.append(max(squad_f1(g, given_answer) for g in golds))
        has.append(bool(answers))
    scores = {"exact_match": float(np.mean(exact)), "f1": float(np.mean(f1))}
    if len(set(has)) == 2:
        for name, kept in (("HasAns", True), ("NoAns", False)):
            part = [i for i, each in enumerate(has) if each is kept]
            scores[f"{name}_exact"] = float(np.mean([exact[i] for i in part]))
            scores[f"{name}_f1"] = float(np.mean([f1[i] for i in part]))
    return scores


def squad_f1(gold: str, given_answer: str) -> float:
    left, right = squad_normal(gold).split(), squad_normal(given_answer).split()
    same = sum((Counter(left) & Counter(right)).values())
    if not left or not right:
        return float(left == right)
    if not same:
        return 0.0
    precision, recall = same / len(right), same / len(left)
    return 2 * precision * recall / (precision + recall)


ANSWER = st.sampled_from(["", "the", "The.", "?", "a cat", "cat", "the cat sat", "Paris, France"])


@pytest.mark.slow  # imports torch
@settings(max_examples=150)
@given(st.lists(st.tuples(ANSWER, st.lists(ANSWER.filter(bool), max_size=3)), min_size=1))
def test_answers_are_scored_as_squad_2_does(rows: list[tuple[str, list[str]]]):
    import sm_train.methods.spans

    task = make_task("question-answering")
    predictions = []
    for index, (given_answer, answers) in enumerate(rows):
        row = {"question": "q", "context": "c", "answers": {"text": answers}}
        predictions.append(
            task.predict(task.example(index, row), {"answer": given_answer, "score": 1})
        )
    assert task.metrics(predictions).summary == pytest.approx(squad_scores(rows))
    for given_answer, answers in rows:
        golds = sm_train.methods.spans.accepted(answers)
        trained = max(sm_train.methods.spans.word_f1(given_answer, gold) for gold in golds)
        assert trained == pytest.approx(squad_scores([(given_answer, answers)])["f1"])


FINAL = [
    ("so 72 it is. #### 72", "72", True),
    ("#### 1,234", "1234.0", True),
    ("#### $5.", "5", True),
    ("####\n 8 apples", "8", False),
    (r"hence \boxed{\frac{1}{2}}", r"\boxed{\frac{1}{2}}", True),
    (r"\boxed{7} no, \boxed{8}", "8", True),
    (r"\boxed{8", "8", True),
    ("first 3, then 4", "4", True),
    ("it is Paris.", "paris", False),
    ("Paris.", "paris", True),
    ("", "", False),
    ("-3", "3", False),
    ("#### 72", "so 70 and 2 more: #### 72", True),
    ("0.50", "1/2 is .5", False),
]


@pytest.mark.parametrize(("given_answer", "expected", "same"), FINAL)
def test_final_answers_mean_what_the_rewards_mean(given_answer: str, expected: str, same: bool):
    assert same_answer(given_answer, expected, "final") is same
    assert sm_train.methods.rewards.same_answer(given_answer, expected) is same


@pytest.mark.slow
@settings(max_examples=300)
@given(*[st.text(st.sampled_from(r"0123456789.,$-#{} \boxed" + "\n"), max_size=20)] * 2)
def test_final_answers_mean_what_the_rewards_mean_of_any_text(left: str, right: str):
    assert same_answer(left, right, "final") is sm_train.methods.rewards.same_answer(left, right)


def test_an_answer_is_taken_out_by_a_pattern():
    task = make_task("text-generation", answer_pattern=r"Answer: (\S+)")
    row = {"prompt": "2 + 2?", "completion": "Answer: 4"}
    example = task.example(0, row)
    for text, right in (("I think. Answer: 4.0", 1), ("Answer: 4 Answer: 5", 0), ("4", 0)):
        assert task.predict(example, {"generated_text": text}).values["exact_match"] == right
    bare = task.example(0, {**row, "completion": "4"})
    assert task.predict(bare, {"generated_text": "Answer: 4"}).values["exact_match"] == 1
    with pytest.raises(UserInputError, match="no regular expression"):
        make_task("text-generation", answer_pattern="(")
    with pytest.raises(UserInputError, match="generates no text"):
        make_task("question-answering", answer_pattern="final")


@pytest.mark.parametrize(
    ("content", "score"),
    [
        ('{"score": 4, "reason": "ok"}', 4),
        ('{"score": "4/5", "reason": "ok"}', 4),
        ('{"score": "4 out of 5"}', 4),
        ('Here is my {"verdict"}: ```json\n{"score": 2.5, "reason": "a } b"}\n``` Regards', 2.5),
        ('<think>{"score": 1}</think>{"score": 5, "reason": "{x}"}', 5),
        ("Score: 4/5, well done", 4),
        ("**3**", 3),
        ("between 2/5 and 3/5, so 3/5", 3),
    ],
)
def test_a_judge_may_write_its_score_in_other_ways(content: str, score: float):
    body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    assert read_judgement(body).score == score


@pytest.mark.parametrize(
    "content",
    ['{"score": true}', '{"score": "8/10"}', '{"score": 0}', '{"score": NaN}', "4 of 7 are right",
     "on 1/5/2024", '{"score": null}', ""],
)  # fmt: skip
def test_what_is_no_score_is_not_guessed(content: str):
    body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    with pytest.raises(JudgementError):
        read_judgement(body)


def completion(offsets: list[int], values: list[float | None]) -> bytes:
    logprobs = {"text_offset": offsets, "token_logprobs": values}
    return json.dumps({"choices": [{"logprobs": logprobs}]}).encode()


def test_a_token_that_straddles_belongs_to_the_answer():
    # "ab cd" with the answer "d": tokens "ab", " c", "cd"[straddles], generated.
    assert sum_answer(completion([0, 2, 3, 5], [None, -1, -2, -9]), 4, 5) == (-2, 1)
    # Blanks that end the prompt go to the answer, as the caller's start says.
    assert sum_answer(completion([0, 2, 5], [None, -3, -9]), 2, 5) == (-3, 1)
    # The bytes of one character share an offset.
    assert sum_answer(completion([0, 1, 1, 2], [None, -1, -2, -9]), 1, 2) == (-3, 2)


def test_words_and_bytes_do_not_depend_on_tokens():
    coarse = likelihood_metrics(-12.0, 3, 4, 24)
    fine = likelihood_metrics(-12.0, 12, 4, 24)
    assert coarse["perplexity"] != fine["perplexity"]
    for unit, count in (("word", 4), ("byte", 24)):
        name = f"{unit}_perplexity"
        assert coarse[name] == fine[name] == pytest.approx(math.exp(12 / count))


def embedded(rows: list[dict[str, object]], width: int = 6):
    """An endpoint that gives each text a vector of its own; and the evaluation of the rows."""

    def vector(text: str) -> list[float]:
        seed = int.from_bytes(text.encode()[:16].ljust(16, b"x"), "big")
        return np.random.default_rng(seed).normal(size=width).astype("f4").tolist()

    def invoke(body, content_type, accept):
        inputs = json.loads(body)["inputs"]
        return InvokeReply(200, json.dumps([vector(text) for text in inputs]).encode())

    task = make_task("embedding", columns=list(rows[0]))
    return evaluate_endpoint(invoke, rows, EvaluationPlan(task=task, **QUICK)), vector


class Vectors:
    """As much of a SentenceTransformer as evaluators ask."""

    similarity_fn_name = "cosine"
    model_card_data = type("Card", (), {"set_evaluation_metrics": lambda *_, **__: None})()

    def __init__(self, vector) -> None:
        from sentence_transformers.util import cos_sim

        self._vector = vector
        self.similarity = cos_sim

    def encode(self, sentences, **_):
        import torch

        return torch.tensor([self._vector(text) for text in sentences])

    encode_query = encode_document = encode


def trained(rows: list[dict[str, object]], vector) -> dict[str, float]:
    """What training's own evaluators say of the same vectors."""
    from datasets import Dataset

    from sm_train.modelling.embedding import evaluator

    scores = evaluator(Dataset.from_list(rows))(Vectors(vector))
    return {name: float(value) for name, value in scores.items()}


EMBEDDING_ROWS = {
    "pairs": [{"anchor": f"q{i % 25}", "positive": f"p{i % 30}"} for i in range(40)],
    "triplets": [{"anchor": f"q{i}", "positive": f"p{i}", "negative": f"n{i}"} for i in range(40)],
    "scored": [
        {"sentence1": f"a{i}", "sentence2": f"b{i}", "score": (i * 7 % 11) / 10} for i in range(40)
    ],
    "labelled": [
        {"sentence1": f"a{i}", "sentence2": f"b{i}", "label": i * 7 % 3 % 2} for i in range(40)
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("form", EMBEDDING_ROWS)
def test_vectors_are_measured_as_training_measures_them(form: str):
    rows = EMBEDDING_ROWS[form]
    result, vector = embedded(rows)
    expected, summary = trained(rows, vector), result.metrics.summary
    assert result.main_metric in summary
    shared = {name: value for name, value in expected.items() if name in summary}
    assert summary == pytest.approx(shared, abs=1e-5)
    for name, interval in result.intervals.items():
        assert interval.low <= summary[name] <= interval.high


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=20))
def test_thresholds_are_sentence_transformers_s(pairs: list[tuple[int, bool]]):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

    scores, same = np.array([s / 5 for s, _ in pairs]), np.array([x for _, x in pairs])
    measures, labels = labelled_pairs(scores, same), same.astype(int)
    accuracy, _ = BinaryClassificationEvaluator.find_best_acc_and_threshold(scores, labels, True)
    f1, precision, recall, _ = BinaryClassificationEvaluator.find_best_f1_and_threshold(
        scores, labels, True
    )
    assert measures["cosine_accuracy"] == pytest.approx(accuracy)
    assert measures["cosine_f1"] == pytest.approx(f1)
    if f1:
        # Two thresholds may be best alike, and rounding decides which one is told.
        left, right = measures["cosine_precision"], measures["cosine_recall"]
        assert 2 * left * right / (left + right) == pytest.approx(f1)
        assert 2 * precision * recall / (precision + recall) == pytest.approx(f1)


@pytest.mark.slow
def test_rows_of_embeddings_that_cannot_be_used_are_named():
    rows = [{"sentence1": "a", "sentence2": "b", "label": mark} for mark in (0, "true", "maybe", 1)]
    task = make_task("embedding", columns=list(rows[0]))

    def invoke(body, content_type, accept):
        inputs = json.loads(body)["inputs"]
        return InvokeReply(200, json.dumps([[1.0, len(text)] for text in inputs]).encode())

    result = evaluate_endpoint(
        invoke, rows, EvaluationPlan(task=task, max_failed_share=0.5, **QUICK)
    )
    assert [failure.index for failure in result.failures] == [2]
    assert "neither 0 nor 1" in result.failures[0].reason
