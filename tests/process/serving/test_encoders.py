"""Token classification and question answering, against the models' own outputs."""

import pytest
from serving_models import encoder

pytestmark = pytest.mark.slow

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture(scope="module")
def tagger(pool):
    make = lambda path: encoder(path, "BertForTokenClassification", LABELS)  # noqa: E731
    return pool.server("tagger", pool.model("tagger", make))


@pytest.fixture(scope="module")
def answerer(pool):
    make = lambda path: encoder(path, "BertForQuestionAnswering", ["a", "b"])  # noqa: E731
    return pool.server("answerer", pool.model("answerer", make))


def test_tags_equal_the_pipelines(tagger):
    from transformers import pipeline

    texts = ["the movie was good and we loved it", "hello world", "who?"]
    reference = pipeline("token-classification", str(tagger.base / "model"))
    answers = tagger.invoke({"inputs": texts}).json()
    for text, answer in zip(texts, answers, strict=True):
        expected = reference(text)
        assert [(e["entity"], e["start"], e["end"]) for e in answer] == [
            (e["entity"], e["start"], e["end"]) for e in expected
        ]
        assert [e["score"] for e in answer] == pytest.approx(
            [float(e["score"]) for e in expected], abs=1e-5
        )


def test_groups_equal_the_pipelines(tagger):
    from transformers import pipeline

    text = "the movie was good and we loved unbelievable plots of it, always?"
    reference = pipeline("token-classification", str(tagger.base / "model"))
    for strategy in ("simple", "first", "average", "max"):
        body = {"inputs": text, "parameters": {"aggregation_strategy": strategy}}
        answer = tagger.invoke(body).json()
        expected = reference(text, aggregation_strategy=strategy)
        assert len(expected) > 3
        for group, wanted in zip(answer, expected, strict=True):
            assert group.pop("score") == pytest.approx(float(wanted.pop("score")), abs=1e-5)
            assert group == wanted
    refused = tagger.invoke({"inputs": text, "parameters": {"aggregation_strategy": "best"}})
    assert "none, simple, first, average, max" in refused.json()["error"]["message"]


def spans(model_dir, question, context):
    """The best span by brute force over the model's logits; one window."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    model = AutoModelForQuestionAnswering.from_pretrained(model_dir).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    batch = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = batch.pop("offset_mapping")[0].tolist()
    parts = batch.sequence_ids(0)
    with torch.inference_mode():
        output = model(**batch)
    inside = [i for i, part in enumerate(parts) if part == 1]
    begin, end = (
        dict(zip(inside, row[0, inside].softmax(-1).tolist(), strict=True))
        for row in (output.start_logits, output.end_logits)
    )
    pairs = [
        (begin[i] * end[j], offsets[i][0], offsets[j][1])
        for i in inside
        for j in inside
        if i <= j < i + 15
    ]
    return max(pairs)


def test_the_best_span_is_found_with_its_place(answerer):
    question, context = "what was good?", "the movie was good, the plot was poor, hello world"
    score, start, end = spans(answerer.base / "model", question, context)
    body = {
        "inputs": {"question": question, "context": context},
        "parameters": {"align_to_words": False},
    }
    lone = answerer.invoke(body).json()
    listed = answerer.invoke({**body, "inputs": [body["inputs"]]}).json()
    assert listed == [lone]
    for answer in (lone, listed[0]):
        assert (answer["start"], answer["end"]) == (start, end)
        assert answer["score"] == pytest.approx(score, abs=1e-5)
        assert answer["answer"] == context[start:end]


def test_long_contexts_are_read_to_their_end(answerer):
    context = "the plot was poor. " * 60 + "hello world"
    body = {
        "inputs": [{"question": "what?", "context": context}],
        "parameters": {"top_k": 100, "max_answer_len": 3},
    }
    answers = answerer.invoke(body).json()[0]
    assert len(answers) > 50
    assert len({(answer["start"], answer["end"]) for answer in answers}) == len(answers)
    assert max(answer["end"] for answer in answers) > len(context) // 2
    refused = answerer.invoke({"inputs": "what?"})
    assert refused.status_code == 400
    assert "question" in refused.json()["error"]["message"]
