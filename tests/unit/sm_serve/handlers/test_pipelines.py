"""Tasks made of another task's answers equal transformers' own pipelines, on a tiny model."""

import asyncio
import math

import pytest

from sm_serve.config import Settings
from sm_serve.errors import BadRequest
from sm_serve.handlers.engine import EngineHandler
from sm_serve.handlers.pipelines import find_entailment
from sm_serve.protocol import Task
from sm_serve.schemas import invocation as wire
from sm_serve.schemas.media import PLAIN_JSON

LABELS = ["contradiction", "neutral", "entailment"]
LOGITS = {"good": (0.3, -1.0, 2.0), "bad": (1.5, 0.0, -0.7), "fine": (0.1, 0.2, 0.9)}


class Entailment:
    """An engine that knows its logits by the label in the hypothesis."""

    task = Task.TEXT_CLASSIFICATION

    async def predict(self, inputs, parameters):
        assert parameters["function_to_apply"] == "none"
        rows = []
        for pair in inputs:
            word = next(w for w in LOGITS if w in pair["text_pair"])
            rows.append(
                [{"label": n, "score": s} for n, s in zip(LABELS, LOGITS[word], strict=True)]
            )
        return rows

    def health(self):
        return None

    def stats(self):
        return {}

    def close(self):
        """Nothing to close."""


class Vectors(Entailment):
    """An engine whose vectors are the letters' numbers."""

    task = Task.EMBEDDING

    async def predict(self, inputs, parameters):
        return [[float(text.count(c)) for c in "abc"] for text in inputs]


def ask(engine, body):
    call = wire.parse_call(body)
    handler = EngineHandler(engine, Settings(max_items=10))
    assert PLAIN_JSON.type == "application/json"
    return wire.lone(call, asyncio.run(handler.results(call)))


def reference(multi_label, labels):
    """What transformers' pipeline makes of the same logits."""
    import numpy as np
    from transformers import ZeroShotClassificationPipeline

    class Config:
        label2id = {name: index for index, name in enumerate(LABELS)}  # noqa: RUF012

    class Model:
        config = Config()

    pipe = object.__new__(ZeroShotClassificationPipeline)
    pipe.model = Model()
    outputs = [
        {"candidate_label": label, "sequence": "a text", "logits": np.array([LOGITS[label]])}
        for label in labels
    ]
    for output in outputs:
        output["logits"] = Tensor(output["logits"])
    return pipe.postprocess(outputs, multi_label=multi_label)


class Tensor:
    """As much of a tensor as the pipeline reads."""

    def __init__(self, array):
        self._array = array

    def float(self):
        return self

    def numpy(self):
        return self._array


@pytest.mark.slow
@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("labels", [["good", "bad", "fine"], ["bad"]])
def test_zero_shot_classification_equals_the_pipeline(multi_label, labels):
    parameters = {"candidate_labels": labels, "multi_label": multi_label}
    answer = ask(Entailment(), {"inputs": "a text", "parameters": parameters})
    expected = reference(multi_label, labels)
    assert answer["sequence"] == "a text"
    assert answer["labels"] == expected["labels"]
    assert answer["scores"] == pytest.approx(list(map(float, expected["scores"])))
    listed = ask(Entailment(), {"inputs": ["a text"], "parameters": parameters})
    assert listed == [answer]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"candidate_labels": []}, "candidate_labels"),
        ({"candidate_labels": ["good"], "hypothesis_template": "x"}, "hypothesis_template"),
        ({"candidate_labels": ["good"], "top_k": 2}, "top_k is unknown"),
        ({"candidate_labels": ["good"] * 11}, "over 10"),
    ],
)
def test_wrong_zero_shot_parameters_are_named(parameters, message):
    with pytest.raises(BadRequest, match=message):
        ask(Entailment(), {"inputs": "a", "parameters": parameters})


def test_labels_may_be_one_text_and_models_without_entailment_are_refused():
    parameters = {"candidate_labels": "good, bad"}
    answer = ask(Entailment(), {"inputs": "a", "parameters": parameters})
    assert sorted(answer["labels"]) == ["bad", "good"]
    assert find_entailment(["ENTAILMENT", "neutral", "contradiction"]) == (0, 2)
    with pytest.raises(BadRequest, match="begins with entail"):
        find_entailment(["negative", "positive"])


def test_sentence_similarity_is_the_cosine():
    body = {"inputs": {"source_sentence": "ab", "sentences": ["ab", "a", "c"]}}
    assert ask(Vectors(), body) == pytest.approx([1.0, 1 / math.sqrt(2), 0.0])
    for wrong in ({"source_sentence": "a"}, {"source_sentence": "a", "sentences": [1]}):
        with pytest.raises(BadRequest, match=r"^inputs: give"):
            ask(Vectors(), {"inputs": wrong})
