"""Classification over real HTTP: every content type in and out, and what bad requests get."""

import concurrent.futures
import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def expected(classifier_dir):
    """Labels and scores straight from transformers, text by text."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(classifier_dir).eval()
    tokenizer = AutoTokenizer.from_pretrained(classifier_dir)

    def score(text):
        with torch.inference_mode():
            batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=128)
            probabilities = model(**batch).logits.softmax(-1)[0]
        best = int(probabilities.argmax())
        return {"label": model.config.id2label[best], "score": float(probabilities[best])}

    return score


def same(answer, expected):
    return answer["label"] == expected["label"] and answer["score"] == pytest.approx(
        expected["score"], abs=1e-5
    )


def test_one_text_gives_a_list_with_the_models_own_answer(classifier, expected):
    answer = classifier.invoke({"inputs": "the movie was good"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.json()) == 1
    assert same(answer.json()[0], expected("the movie was good"))


def test_top_k_null_lists_all_labels_by_score(classifier):
    answer = classifier.invoke({"inputs": ["good", "bad"], "parameters": {"top_k": None}}).json()
    assert [len(labels) for labels in answer] == [3, 3]
    for labels in answer:
        scores = [entry["score"] for entry in labels]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-6)


def test_json_lines_in_is_a_line_out_for_each_form_of_line(classifier, expected):
    body = '{"inputs": "good"}\n{"text": "bad"}\n\n"poor plot"\n'
    answer = classifier.invoke(body, content_type="application/jsonlines")
    assert answer.headers["content-type"] == "application/jsonlines"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert len(lines) == 3
    for line, text in zip(lines, ["good", "bad", "poor plot"], strict=True):
        assert same(line, expected(text))


def test_csv_in_is_csv_out_without_its_header(classifier, expected):
    answer = classifier.invoke('text\n"good, not bad"\npoor\n', content_type="text/csv")
    assert answer.headers["content-type"] == "text/csv"
    rows = [line.split(",") for line in answer.text.splitlines()]
    assert [row[0] for row in rows] == [
        expected("good, not bad")["label"],
        expected("poor")["label"],
    ]


def test_plain_text_in_and_any_accept_out(classifier, expected):
    as_json = classifier.invoke("good", content_type="text/plain; charset=UTF-8")
    assert same(as_json.json()[0], expected("good"))
    as_csv = classifier.invoke("good", content_type="text/plain", accept="text/csv")
    assert as_csv.text.startswith(expected("good")["label"] + ",")
    preferred = "application/xml;q=0.9, application/jsonlines;q=0.8"
    as_lines = classifier.invoke({"inputs": "good"}, accept=preferred)
    assert as_lines.headers["content-type"] == "application/jsonlines"


def test_charsets_are_decoded(classifier, expected):
    body = json.dumps({"inputs": "très good"}, ensure_ascii=False).encode("latin-1")
    answer = classifier.invoke(body, content_type="application/json; charset=ISO-8859-1")
    assert same(answer.json()[0], expected("très good"))


def test_concurrent_requests_of_mixed_length_get_their_own_answers(classifier, expected):
    texts = [" ".join(["good movie"] * (1 + n % 40)) + f" {n}" for n in range(200)]
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda text: classifier.invoke({"inputs": text}), texts))
    for text, answer in zip(texts, answers, strict=True):
        assert answer.status_code == 200
        assert same(answer.json()[0], expected(text))
    metrics = classifier.client.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[0] != "#")
    assert float(values["sm_serve_batches_total"]) < float(values["sm_serve_batch_items_total"])


def test_texts_beyond_the_models_length_are_cut_or_refused(classifier):
    text = "good " * 1000
    assert classifier.invoke({"inputs": text}).status_code == 200
    refused = classifier.invoke({"inputs": text, "parameters": {"truncation": False}})
    assert refused.status_code == 400
    assert "the model reads 128" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        ('{"inputs": ', {}, 400, "line 1, column 12"),
        ('{"inputs": 5}', {}, 400, "inputs is a int"),
        ('{"inputs": ["a", 5]}', {}, 400, "inputs[1] is a int"),
        ('{"inputs": []}', {}, 400, "empty list"),
        ('{"inputs": null}', {}, 400, "inputs is null"),
        ('{"inputs": "a", "temprature": 1}', {}, 400, "'temprature' is unknown"),
        ('{"inputs": "a", "parameters": {"top_n": 1}}', {}, 400, "parameters.top_n is unknown"),
        ('{"inputs": "a", "parameters": {"top_k": 0}}', {}, 400, "parameters.top_k=0"),
        ('{"inputs": "a", "parameters": [1]}', {}, 400, "parameters=[1]: give an object"),
        ('{"inputs": NaN}', {}, 400, "NaN is not JSON"),
        ('{"inputs": "\\ud800"}', {}, 400, "surrogate"),
        ("[" * 100_000, {}, 400, "nested"),
        ("[" * 80 + "]" * 80, {}, 400, "nested"),
        (b"\xff\xfe", {}, 400, "not valid utf-8 at byte 0"),
        ("{}", {"content_type": "application/json; charset=klingon"}, 415, "klingon"),
        ("x", {"content_type": "image/png"}, 415, "image/png"),
        ('{"inputs": "a"}', {"accept": "image/png"}, 406, "image/png"),
        ("\n{", {"content_type": "application/jsonlines"}, 400, "line 2"),
        (
            '{"inputs": "a"}\n{',
            {"content_type": "application/jsonlines", "accept": "text/csv"},
            400,
            "line 2",
        ),
        ("", {"content_type": "text/csv"}, 400, "no rows"),
    ],
)
def test_bad_requests_are_explained_without_a_trace(classifier, body, headers, status, message):
    answer = classifier.invoke(body, **{"content_type": "application/json", **headers})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "type"}
    assert message in error["message"]
    assert "Traceback" not in answer.text
    assert "/tmp" not in answer.text


def test_a_bad_line_fails_alone_and_is_told_by_its_place_in_the_body(classifier):
    lines = ['"good"', "", "{oops", '{"inputs": 5}', '{"inputs": ["bad", 7]}', '{"inputs": "bad"}']
    headers = {"content_type": "application/jsonlines"}
    answer = classifier.invoke("\n".join(lines), **headers)
    assert answer.status_code == 200
    good, *wrong, bad = map(json.loads, answer.text.splitlines())
    assert good == classifier.invoke(lines[0], **headers).json()
    assert bad == classifier.invoke(lines[-1], **headers).json()
    told = [line["error"]["message"] for line in wrong[:2]] + [wrong[2][0]["error"]["message"]]
    assert [message[:7] for message in told] == ["line 3 ", "line 4:", "line 5:"]
    assert "inputs is a int" in told[1]
    assert "inputs[1] is a int" in told[2]
    assert "3 of 5 lines failed" in classifier.log.read_text()


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_a_body_in_another_encoding_is_refused_by_its_name(classifier, encoding):
    answer = classifier.invoke(b'"good"', content_encoding=encoding)
    assert answer.status_code == 415
    message = answer.json()["error"]["message"]
    assert f"Content-Encoding {encoding!r} is not supported: send the body by gzip" in message
    assert classifier.invoke(b'"good"', content_encoding="identity").status_code == 200


def test_an_oversized_body_is_refused_and_the_server_lives_on(classifier):
    answer = classifier.invoke(b"x" * (6 * 1024 * 1024 + 1), content_type="text/plain")
    assert answer.status_code == 413
    assert "6291456" in answer.json()["error"]["message"]
    chunks = iter([b"x" * 1024 * 1024] * 7)
    streamed = classifier.client.post("/invocations", content=chunks)
    assert streamed.status_code == 413
    assert classifier.invoke({"inputs": "good"}).status_code == 200


def test_unknown_routes_and_methods_answer_in_the_same_form(classifier):
    assert classifier.client.get("/nope").json()["error"]["code"] == "not_found"
    wrong = classifier.client.get("/invocations")
    assert wrong.status_code == 405
    assert wrong.json()["error"]["code"] == "method_not_allowed"
