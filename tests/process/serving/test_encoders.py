"""Token classification and question answering, against the models' own outputs."""

import asyncio
import json
import time

import pytest
from serving_adapters import make_base
from serving_models import encoder

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines.registry import load_engine
from sm_serve.errors import BadRequest
from sm_serve.handlers.engine import EngineHandler
from sm_serve.schemas.invocation import Call

pytestmark = pytest.mark.slow

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture(scope="module")
def tagger(pool):
    make = lambda path: encoder(path, "BertForTokenClassification", LABELS)  # noqa: E731
    return pool.server(pool.model("tagger", make))


@pytest.fixture(scope="module")
def answerer(pool):
    make = lambda path: encoder(path, "BertForQuestionAnswering", ["a", "b"])  # noqa: E731
    return pool.server(pool.model("answerer", make))


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


def test_long_and_odd_texts_and_other_schemes_of_tags_equal_the_pipelines(tmp_path):
    from transformers import pipeline

    path = make_base(
        tmp_path, "bert", "AutoModelForTokenClassification",
        ["O", "B-PER", "I-PER", "S-ORG", "DATE-TIME"],
    )  # fmt: skip
    reference = pipeline("token-classification", str(path))
    settings = Settings()
    engine = load_engine(inspect(path, settings), settings)
    long = "the movie was good, we loved unbelievable plots of it; " * 12
    jobs = [
        (text, {"aggregation_strategy": strategy, **more})
        for text in (long, "", " ", "\t東京 naïve\n🎬🎬 e\u0301")
        for strategy in ("simple", "first", "average", "max")
        for more in ({}, {"stride": 0}, {"stride": 20}, {"ignore_labels": []})
    ]

    async def run():
        return await asyncio.gather(*(engine.predict([text], more) for text, more in jobs))

    # The pipeline takes what is before any hyphen for a prefix; here it is part of the name.
    whole = {"ORG": "S-ORG", "TIME": "DATE-TIME"}
    for (text, parameters), answer in zip(jobs, asyncio.run(run()), strict=True):
        expected = reference(text, **parameters)
        for wanted in expected:
            wanted["entity_group"] = whole.get(wanted["entity_group"], wanted["entity_group"])
        assert [len(answer), len(answer[0])] == [1, len(expected)]
        for group, wanted in zip(answer[0], expected, strict=True):
            assert group.pop("score") == pytest.approx(float(wanted.pop("score")), abs=1e-5)
            assert group == wanted
        if text == long and "stride" in parameters:
            assert answer[0][-1]["end"] > len(long) - 20
    for wrong, message in (
        ({"stride": 126, "aggregation_strategy": "simple"}, "from 0 to 125"),
        ({"stride": 5, "aggregation_strategy": "none"}, "other than none"),
        ({"strides": 5}, "strides is unknown"),
    ):
        with pytest.raises(BadRequest, match=message):
            asyncio.run(EngineHandler(engine, settings).results(Call(["a"], wrong)))
    engine.close()


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


def test_a_large_context_does_not_hold_up_others(tmp_path):
    """The platform waits two seconds for /ping, whatever one client sends."""
    path = make_base(tmp_path, "bert", "AutoModelForQuestionAnswering")
    settings = Settings()
    engine = load_engine(inspect(path, settings), settings)
    context = "the plot was poor, we loved it. " * 10_000 + "hello world"

    async def run():
        asked = {"question": "what was good?", "context": context}
        large = asyncio.create_task(engine.predict([asked], {"top_k": 2}))
        slowest = 0.0
        while not large.done():
            began = time.monotonic()
            await asyncio.sleep(0.01)
            slowest = max(slowest, time.monotonic() - began)
        small = await engine.predict([{"question": "what?", "context": "the plot"}], {})
        return large.result()[0], small[0], slowest

    large, small, slowest = asyncio.run(run())
    engine.close()
    assert [answer["answer"] for answer in large] == [
        context[answer["start"] : answer["end"]] for answer in large
    ]
    assert small["answer"] in "the plot"
    assert slowest < 1


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


def test_a_model_is_asked_as_its_config_says(tmp_path):
    told = {"handle_impossible_answer": True, "max_answer_len": 2, "max_seq_len": 24,
            "doc_stride": 4, "rank_by": "logit", "align_to_words": False}  # fmt: skip
    path = make_base(tmp_path, "bert", "AutoModelForQuestionAnswering", ["a", "b"])
    config = json.loads((path / "config.json").read_text())
    config["task_specific_params"] = {"question-answering": {**told, "columns": {"label": "x"}}}
    (path / "config.json").write_text(json.dumps(config))
    settings = Settings()
    engine = load_engine(inspect(path, settings), settings)
    context = "the movie was good, we loved the plot of it; " * 4
    asked = [{"question": q, "context": context} for q in ("what was good?", "who?", "the plot?")]

    def answers(**parameters):
        return asyncio.run(engine.predict(asked, parameters))

    assert answers() == answers(**told)
    assert answers() != answers(max_answer_len=15, handle_impossible_answer=False)
    assert all(len(answer["answer"].split()) <= 2 for answer in answers())
    with pytest.raises(BadRequest, match="rank_by='best': give probability or logit"):
        answers(rank_by="best")
    engine.close()


def test_tokens_are_read_up_to_the_length_that_is_asked_for(tmp_path):
    path = make_base(tmp_path, "bert", "AutoModelForTokenClassification", ["O", "B-PER"])
    settings = Settings()
    engine = load_engine(inspect(path, settings), settings)
    text = "the movie was good, we loved the plot of it; " * 4
    whole = {"aggregation_strategy": "none", "ignore_labels": []}
    (tokens,) = asyncio.run(engine.predict([text], {**whole, "max_length": 10}))
    assert len(tokens) == 10 - 2  # two are special
    (everything,) = asyncio.run(engine.predict([text], whole))
    assert len(everything) > len(tokens)
    strided = {"aggregation_strategy": "first", "ignore_labels": [], "max_length": 10, "stride": 2}
    (entities,) = asyncio.run(engine.predict([text], strided))
    assert entities[-1]["end"] > len(text) - 20
    engine.close()


def test_entities_come_whole_where_training_says_how(tmp_path):
    path = make_base(tmp_path, "bert", "AutoModelForTokenClassification", ["O", "B-PER", "I-PER"])
    text = "the movie was good, we loved unbelievable plots of it"

    def answer(**parameters):
        settings = Settings()
        engine = load_engine(inspect(path, settings), settings)
        try:
            return asyncio.run(engine.predict([text], parameters))[0]
        finally:
            engine.close()

    assert all("entity" in each for each in answer())  # as Hugging Face's pipeline
    config = json.loads((path / "config.json").read_text())
    told = {"aggregation_strategy": "first", "max_length": 64}
    config["task_specific_params"] = {"token-classification": told}
    (path / "config.json").write_text(json.dumps(config))
    assert answer() == answer(aggregation_strategy="first") != []
    assert all("entity_group" in each for each in answer())
    assert all("entity" in each for each in answer(aggregation_strategy="none"))


@pytest.mark.parametrize(
    ("tags", "groups"),
    [
        ("B-A I-A E-A S-A S-A O B-C", [(3, "A"), (1, "A"), (1, "A"), (1, "O"), (1, "C")]),
        ("B-A L-A L-A U-C I-C", [(2, "A"), (1, "A"), (1, "C"), (1, "C")]),
        ("B-A I-A B-A I-C", [(2, "A"), (1, "A"), (1, "C")]),
        ("E-X E-X", [(2, "X")]),  # nothing begins such an entity: E- is part of a name
    ],
)
def test_groups_of_tags_that_say_where_an_entity_ends(tags, groups):
    from sm_serve.engines.encoders.token_classification import group_entities, parts_of

    labels = ["O", "B-A", "I-A", "E-A", "S-A", "L-A", "B-C", "I-C", "U-C", "E-X"]
    entities = [{"entity": tag} for tag in tags.split()]
    made = group_entities(entities, parts_of(labels))
    assert [(len(group), group[0]["entity"].split("-")[-1]) for group in made] == groups
