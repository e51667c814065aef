"""Bodies that clients of stock Hugging Face endpoints send by boto3, and what they get back."""

import json

import pytest
from test_encoders import answerer, tagger  # noqa: F401
from test_generation import reference  # noqa: F401

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.errors import StartupError

pytestmark = pytest.mark.slow

QUESTION = {"question": "what was good?", "context": "the movie was good, the plot was poor"}


@pytest.fixture(scope="module")
def pipe(classifier_dir):
    """The pipeline that a stock endpoint calls with `inputs` and `parameters`."""
    from transformers import pipeline

    return pipeline("text-classification", str(classifier_dir))


def same(answer, expected):
    """Equal in form and labels, and in scores but for rounding."""
    if isinstance(expected, float):
        return answer == pytest.approx(expected, abs=1e-5)
    if isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(
            same(answer[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(answer) == len(expected) and all(map(same, answer, expected))
    return answer == expected


PAIR = {"text": "the movie was good", "text_pair": "we loved it"}


@pytest.mark.parametrize("inputs", ["good movie", ["good movie", "bad"], PAIR, [PAIR, PAIR]])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"top_k": 2}, {"top_k": 1}, {"top_k": None}, {"function_to_apply": "sigmoid"},
     {"function_to_apply": "NONE", "top_k": 3}, {"truncation": True, "max_length": 4},
     {"truncation": "longest_first", "max_length": 7}],
)  # fmt: skip
def test_classification_answers_as_the_pipeline(classifier, pipe, inputs, parameters):
    answer = classifier.invoke({"inputs": inputs, "parameters": parameters})
    assert answer.status_code == 200, answer.text
    expected = pipe(inputs, **parameters)
    assert same(answer.json(), expected), (answer.json(), expected)


def test_what_a_pair_is_cut_to(classifier, pipe):
    pair = {"text": "good", "text_pair": "the movie was good " * 9}
    for truncation in ("only_second", "longest_first"):
        parameters = {"truncation": truncation, "max_length": 12}
        answer = classifier.invoke({"inputs": pair, "parameters": parameters})
        assert same(answer.json(), pipe(pair, **parameters))
    for truncation in ("only_first", "second"):  # too short a text, and no such word
        body = {"inputs": pair, "parameters": {"truncation": truncation, "max_length": 12}}
        answer = classifier.invoke(body)
        assert answer.status_code == 400
        assert f"parameters.truncation='{truncation}'" in answer.text


def test_all_scores_in_the_older_words(classifier, pipe):
    body = {"inputs": "good", "parameters": {"return_all_scores": True}}
    answer = classifier.invoke(body).json()
    assert [entry["label"] for entry in answer[0]] == ["negative", "neutral", "positive"]
    best = max(answer[0], key=lambda entry: entry["score"])
    assert same([best], pipe("good"))


def test_what_other_tasks_ask_is_a_clear_400(classifier):
    for parameters, name in (
        ({"targets": ["a"]}, "targets"),
        ({"max_new_tokens": 3}, "max_new_tokens"),
    ):
        answer = classifier.invoke({"inputs": "good [MASK]", "parameters": parameters})
        assert answer.status_code == 400
        assert f"parameters.{name} is unknown to text-classification" in answer.text


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("visual-question-answering", "is not supported: give one of text-class"),
        ("summarization", "is for encoder-decoders (T5, BART, Marian)"),
    ],
)
def test_a_task_that_is_not_offered_is_named_at_the_start(classifier_dir, task, reason):
    with pytest.raises(StartupError) as refusal:
        inspect(classifier_dir, Settings(task=task))
    assert f"HF_TASK={task!r} {reason}" in str(refusal.value)


def test_a_question_gets_its_answer_without_a_list(answerer):  # noqa: F811
    answer = answerer.invoke({"inputs": QUESTION}).json()
    assert set(answer) == {"answer", "score", "start", "end"}
    assert answer["answer"] == QUESTION["context"][answer["start"] : answer["end"]]
    bare = answerer.invoke(QUESTION).json()
    assert bare == answer
    parameters = {"top_k": 4, "handle_impossible_answer": True, "doc_stride": 8, "max_seq_len": 64}
    several = answerer.invoke({"inputs": QUESTION, "parameters": parameters}).json()
    assert len(several) == 4
    scores = [entry["score"] for entry in several]
    assert scores == sorted(scores, reverse=True)
    two = answerer.invoke({"inputs": [QUESTION, QUESTION], "parameters": {"top_k": 2}}).json()
    assert [len(entry) for entry in two] == [2, 2]
    for name, value in (("handle_impossible_answer", 1), ("top_k", 0), ("max_question_len", 3)):
        wrong = answerer.invoke({"inputs": QUESTION, "parameters": {name: value}})
        assert (wrong.status_code, f"parameters.{name}" in wrong.text) == (400, True)


def test_a_text_gets_its_entities_without_a_list(tagger):  # noqa: F811
    parameters = {"aggregation_strategy": "simple", "ignore_labels": []}
    lone = tagger.invoke({"inputs": "hello world", "parameters": parameters}).json()
    assert {"entity_group", "word"} < set(lone[0])
    listed = tagger.invoke({"inputs": ["hello world"], "parameters": parameters}).json()
    assert listed == [lone]
    labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    nothing = tagger.invoke({"inputs": "hello", "parameters": {"ignore_labels": labels}})
    assert nothing.json() == []


def ask(server, prompt, **parameters):
    answer = server.invoke({"inputs": prompt, "parameters": parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_generation_takes_the_parameters_of_stock_endpoints(language_model, reference):  # noqa: F811
    _, text = reference("the movie", 8)
    full = ask(language_model, "the movie", max_new_tokens=8, return_full_text=True)
    assert full == [{"generated_text": "the movie" + text}]
    drawn = ask(
        language_model, "the movie", max_new_tokens=8, do_sample=True, temperature=1.2,
        num_return_sequences=3, seed=4, pad_token_id=0, use_cache=True, details=True,
    )  # fmt: skip
    assert len({answer["generated_text"] for answer in drawn}) == 3
    assert [answer["details"]["generated_tokens"] <= 8 for answer in drawn] == [True] * 3
    both = ask(language_model, ["hello", "good"], max_new_tokens=4, do_sample=True,
               num_return_sequences=2)  # fmt: skip
    assert [len(answers) for answers in both] == [2, 2]
    whole = ask(language_model, "good bad great the movie", max_new_tokens=2, details=True)
    tail = ask(language_model, "good bad great the movie", max_new_tokens=8, truncate=2,
               details=True, decoder_input_details=True)  # fmt: skip
    assert whole[0]["details"]["prompt_tokens"] > tail[0]["details"]["prompt_tokens"] == 2
    ids = [token["id"] for token in tail[0]["details"]["prefill"]]
    by_id = language_model.client.post(
        "/v1/completions", json={"prompt": ids, "max_tokens": 8, "temperature": 0}
    ).json()
    assert by_id["choices"][0]["text"] == tail[0]["generated_text"]


def test_generation_tells_why_it_ended_in_the_words_of_stock_endpoints(language_model, reference):  # noqa: F811
    for prompt in ("hello", "the movie", "good", "bad", "we", "plot was", "i", "you", "not very"):
        if reference(prompt, 300)[0][-1] == 2:
            break
    ended = ask(language_model, prompt, max_new_tokens=300, details=True)[0]["details"]
    assert (ended["finish_reason"], ended["prefill"]) == ("eos_token", [])
    assert ended["tokens"][-1]["special"] is True
    cut = ask(language_model, prompt, max_new_tokens=3, details=True)[0]["details"]
    assert cut["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_return_sequences": 2}, "num_return_sequences=2: set do_sample"),
        ({"num_beams": 4, "details": True}, "details: it does not go with num_beams=4"),
        ({"watermark": True}, "watermark=True"),
        ({"typical_p": 0.5}, "typical_p=0.5"),
        ({"truncate": 0}, "truncate=0"),
        ({"max_length": 1}, "max_length=1 leaves no token"),
        ({"candidate_labels": ["a"]}, "candidate_labels is unknown"),
    ],
)
def test_what_generation_does_not_offer_is_named(language_model, parameters, message):
    answer = language_model.invoke({"inputs": "hello", "parameters": parameters})
    assert answer.status_code == 400
    assert message in json.loads(answer.text)["error"]["message"]
