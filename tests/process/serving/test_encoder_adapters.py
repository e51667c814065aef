"""Several adapters of one encoder: each answer is that of the adapter alone, merged by PEFT."""

import asyncio
import concurrent.futures
import json
import random
import shutil

import openai
import pytest
from serving_adapters import SIZES, make_adapter, make_base, merged
from serving_process import Server

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines import packing
from sm_serve.engines.registry import load_engine
from sm_serve.errors import BadRequest, NotFound, StartupError

pytestmark = pytest.mark.slow

TEXTS = ["the movie was good", "bad", "we loved it " * 9, "hello world one two three", "who?"]
CONTEXT = "the movie was good, the plot was poor, hello world"
NAMES = {
    None: ["negative", "positive"],
    "same": ["negative", "positive"],
    "named": ["awful", "poor", "fine", "great"],
    "many": ["LABEL_0", "LABEL_1", "LABEL_2"],
}


def model_with(root, kind, task_type, head, labels=("negative", "positive")):
    """A base model and three adapters: as many labels, others with names, others without."""
    path = make_base(root / "model", kind, head, list(labels))
    options = {"target_modules": ["query_proj", "key_proj"]} if kind == "deberta-v2" else {}
    if kind in ("deberta-v2", "modernbert"):
        options["modules_to_save"] = ["pooler", "head"]
    make_adapter(path, path / "adapters" / "same", task_type, 1, 2, **options)
    if task_type in ("SEQ_CLS", "TOKEN_CLS"):
        make_adapter(path, path / "adapters" / "named", task_type, 2, NAMES["named"], **options)
        make_adapter(path, path / "adapters" / "many", task_type, 3, 3, r=2, **options)
    return path


def ask_all(path, jobs, **settings):
    """Answers of an engine to (inputs, parameters) that are all there at once."""
    settings = Settings(**settings)
    engine = load_engine(inspect(path, settings), settings)

    async def run():
        return await asyncio.gather(*(engine.predict(*job) for job in jobs))

    try:
        return asyncio.run(run())
    finally:
        engine.close()


def close(expected):
    """The same with scores that are nearly equal."""
    if isinstance(expected, dict):
        return {key: close(value) for key, value in expected.items()}
    if isinstance(expected, list):
        return [close(value) for value in expected]
    return pytest.approx(expected, abs=2e-5) if isinstance(expected, float) else expected


def scores(model, tokenizer, text):
    """All labels in the model's order."""
    import torch

    with torch.inference_mode():
        row = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1).tolist()
    return [{"label": model.config.id2label[i], "score": score} for i, score in enumerate(row)]


@pytest.mark.parametrize(
    ("kind", "packed"),
    [("bert", False), ("bert", True), *((kind, False) for kind in SIZES if kind != "bert")],
)
def test_mixed_requests_equal_each_adapter_merged(kind, packed, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    if packed:
        monkeypatch.setattr(packing, "is_faster", lambda inputs, outputs: True)
    path = model_with(tmp_path, kind, "SEQ_CLS", "AutoModelForSequenceClassification")
    tokenizer = AutoTokenizer.from_pretrained(path)
    expected = {}
    for name, labels in NAMES.items():
        adapter = path / "adapters" / name if name else None
        model = merged(path, adapter, "SEQ_CLS", labels)
        for text in TEXTS:
            expected[name, text] = scores(model, tokenizer, text)
    assert len({str(expected[name, TEXTS[0]]) for name in NAMES}) == len(NAMES)
    jobs = [(name, text) for name in NAMES for text in TEXTS] * 3
    random.Random(3).shuffle(jobs)
    calls = [([text], {"adapter_id": name, "return_all_scores": True}) for name, text in jobs]
    answers = ask_all(path, calls, batch_size=8)
    assert [answer[0] for answer in answers] == [close(expected[job]) for job in jobs]


def test_taggers_bring_their_own_tags(tmp_path):
    from transformers import AutoTokenizer, pipeline

    path = model_with(tmp_path, "bert", "TOKEN_CLS", "AutoModelForTokenClassification")
    tokenizer = AutoTokenizer.from_pretrained(path)
    jobs = [(name, text) for name in NAMES for text in TEXTS]
    answers = ask_all(path, [([text], {"adapter_id": name}) for name, text in jobs])
    for name, labels in NAMES.items():
        model = merged(path, path / "adapters" / name if name else None, "TOKEN_CLS", labels)
        reference = pipeline("token-classification", model=model, tokenizer=tokenizer)
        for job, answer in zip(jobs, answers, strict=True):
            if job[0] == name:
                wanted = [
                    {**entity, "score": float(entity["score"])} for entity in reference(job[1])
                ]
                assert answer[0] == close(wanted)


def test_answers_to_questions_and_vectors(tmp_path):
    import torch
    from transformers import AutoTokenizer

    path = model_with(tmp_path / "qa", "bert", "QUESTION_ANS", "AutoModelForQuestionAnswering")
    tokenizer = AutoTokenizer.from_pretrained(path)
    question = {"question": "what was good?", "context": CONTEXT}
    answers = ask_all(path, [([question], {"adapter_id": name}) for name in (None, "same")] * 2)
    assert answers[:2] == answers[2:]
    for name, answer in zip((None, "same"), answers, strict=False):
        model = merged(path, path / "adapters" / name if name else None, "QUESTION_ANS", ["a", "b"])
        model.save_pretrained(tmp_path / str(name))
        tokenizer.save_pretrained(tmp_path / str(name))
        assert answer == close(ask_all(tmp_path / str(name), [([question], {})])[0])
    assert answers[0] != answers[1]

    path = model_with(tmp_path / "vectors", "bert", "FEATURE_EXTRACTION", "AutoModel")
    folder = path / "adapters" / "same" / "1_Pooling"
    folder.mkdir()
    (folder / "config.json").write_text('{"pooling_mode_cls_token": true}')
    answers = ask_all(path, [(TEXTS, {"adapter_id": name}) for name in (None, "same")])
    for name, vectors in zip((None, "same"), answers, strict=True):
        model = merged(path, path / "adapters" / name if name else None, "FEATURE_EXTRACTION", [])
        for text, vector in zip(TEXTS, vectors, strict=True):
            with torch.inference_mode():
                hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            wanted = hidden[0] if name else hidden.mean(0)
            assert vector == close((wanted / wanted.norm()).tolist())


def test_a_base_without_a_head_answers_by_its_adapters_alone(tmp_path):
    """As pretrained models are; one with another task's head of the same name is no better."""
    for number, head in enumerate(("AutoModel", "AutoModelForTokenClassification")):
        path = model_with(tmp_path / str(number), "bert", "SEQ_CLS", head)
        if number:  # a tagger has no pooler either
            with pytest.raises(StartupError, match=r"does not bring bert\.pooler\.dense\.bias"):
                ask_all(path, [])
            for name in ("same", "named", "many"):
                folder = path / "adapters" / name
                options = {"exclude_modules": "pooler", "modules_to_save": ["pooler"]}
                make_adapter(path, folder, "SEQ_CLS", 1, len(NAMES[name]), **options)
        answers = ask_all(path, [(TEXTS, {"adapter_id": "named"}), (TEXTS, {"adapter_id": "same"})])
        assert {one["label"] for one in answers[0]} <= set(NAMES["named"])
        assert {one["label"] for one in answers[1]} <= {"LABEL_0", "LABEL_1"}
        with pytest.raises(BadRequest, match=r"no head .*\(many, named, same\)") as refused:
            ask_all(path, [(TEXTS, {})])
        assert refused.value.code == "adapter_required"
        with pytest.raises(NotFound, match="'other' is not loaded"):
            ask_all(path, [(TEXTS, {"adapter_id": "other"})])
        shutil.rmtree(path / "adapters")
        with pytest.raises(
            StartupError, match=r"it lacks .*\.bias, which text-classification needs"
        ):
            ask_all(path, [(TEXTS, {})], task="text-classification")


def test_adapters_that_do_not_fit_are_refused_with_their_reason(tmp_path):
    from safetensors.torch import load_file, save_file

    path = model_with(tmp_path, "bert", "SEQ_CLS", "AutoModel")
    settings = Settings()
    engine = load_engine(inspect(path, settings), settings)
    foreign = make_base(tmp_path / "foreign", "roberta", "AutoModel")
    make_adapter(foreign, tmp_path / "other", "SEQ_CLS", 4)
    make_adapter(path, tmp_path / "tags", "TOKEN_CLS", 4)
    make_adapter(path, tmp_path / "dora", "SEQ_CLS", 4, use_dora=True)
    for name, change in (
        ("headless", lambda tensors: {k: v for k, v in tensors.items() if "lora_" in k}),
        ("half", lambda tensors: {k: v for k, v in tensors.items() if "classifier.b" not in k}),
        ("narrow", lambda t: {k: v[:, :9] if "classifier.w" in k else v for k, v in t.items()}),
        ("odd", lambda tensors: {**tensors, "base_model.model.bert.x": tensors[min(tensors)]}),
    ):
        shutil.copytree(path / "adapters" / "same", tmp_path / name)
        file = tmp_path / name / "adapter_model.safetensors"
        save_file({k: v.contiguous().clone() for k, v in change(load_file(file)).items()}, file)
    shutil.copytree(path / "adapters" / "same", tmp_path / "pissa")
    config = json.loads((tmp_path / "pissa" / "adapter_config.json").read_text())
    config["init_lora_weights"] = "pissa"
    (tmp_path / "pissa" / "adapter_config.json").write_text(json.dumps(config))
    shutil.copytree(path / "adapters" / "named", tmp_path / "misnamed")
    (tmp_path / "misnamed" / "config.json").write_text('{"id2label": {"1": "a", "x": "b"}}')

    async def refusal(name):
        with pytest.raises(BadRequest) as refused:
            await engine.load_adapter("new", tmp_path / name)
        return refused.value.message

    async def run():
        assert "roberta.encoder" in await refusal("other")
        assert "served for text-classification" in await refusal("tags")
        assert "use_dora=True" in await refusal("dora")
        assert "init_lora_weights='pissa'" in await refusal("pissa")
        assert "does not bring classifier.bias" in await refusal("headless")
        assert "bias" in await refusal("half")
        assert "size mismatch" in await refusal("narrow")
        assert "bert.x" in await refusal("odd")
        assert "id2label" in await refusal("misnamed")
        assert engine.adapters() == ["many", "named", "same"]
        before = await engine.predict(TEXTS, {"adapter_id": "same"})
        await engine.load_adapter("new", path / "adapters" / "same")
        assert await engine.predict(TEXTS, {"adapter_id": "new"}) == before

    try:
        asyncio.run(run())
    finally:
        engine.close()


def test_loading_and_unloading_lose_nothing(tmp_path):
    path = model_with(tmp_path, "bert", "SEQ_CLS", "AutoModelForSequenceClassification")
    settings = Settings(batch_size=4)
    engine = load_engine(inspect(path, settings), settings)
    parameters = {name: {"adapter_id": name, "top_k": None} for name in (None, "same", "named")}

    async def client(name, expected, until):
        count = 0
        while not until.is_set():
            assert await engine.predict(TEXTS, parameters[name]) == close(expected[name])
            count += 1
        return count

    async def run():
        expected = {name: await engine.predict(TEXTS, parameters[name]) for name in parameters}
        until = asyncio.Event()
        clients = [asyncio.create_task(client(name, expected, until)) for name in parameters]
        late = 0
        for number in range(30):
            name = f"late-{number}"
            await engine.load_adapter(name, path / "adapters" / "named")
            body = {**parameters["named"], "adapter_id": name}
            waiting = [asyncio.create_task(engine.predict(TEXTS, body)) for _ in range(4)]
            await asyncio.sleep(0)
            await engine.unload_adapter(name)
            for answer in await asyncio.gather(*waiting):
                assert answer == close(expected["named"])
                late += 1
            with pytest.raises(NotFound):
                await engine.predict(TEXTS, body)
        until.set()
        assert late == 120
        assert min(await asyncio.gather(*clients)) >= 5
        assert engine.adapters() == ["many", "named", "same"]
        assert engine.health() is None

    try:
        asyncio.run(run())
    finally:
        engine.close()


def test_every_copy_of_a_model_has_every_adapter(tmp_path):
    path = model_with(tmp_path, "bert", "SEQ_CLS", "AutoModelForSequenceClassification")
    calls = [(TEXTS, {"adapter_id": "named"})] * 6
    answers = ask_all(path, calls, replicas=2)
    assert all(answer == close(answers[0]) for answer in answers)
    assert {one["label"] for one in answers[0]} <= set(NAMES["named"])


HEADER = "x_amzn_sagemaker_adapter_identifier"


def test_a_request_names_its_adapter_as_for_generation(tmp_path):
    path = model_with(tmp_path, "bert", "SEQ_CLS", "AutoModelForSequenceClassification")
    expected = ask_all(path, [(TEXTS, {"adapter_id": name}) for name in NAMES])
    expected = dict(zip(NAMES, expected, strict=True))
    shutil.copytree(path / "adapters" / "named", tmp_path / "more" / "late")
    with Server(tmp_path) as server:

        def ask(name):
            return server.invoke({"inputs": TEXTS}, **({HEADER: name} if name else {}))

        names = list(NAMES) * 8
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            for name, answer in zip(names, threads.map(ask, names), strict=True):
                assert answer.json() == close(expected[name])
            running = [threads.submit(ask, name) for name in names]
            body = {"name": "late", "src": "more/late"}
            assert server.client.post("/adapters", json=body).status_code == 200
            assert server.client.post("/adapters", json=body).status_code == 409
            assert ask("late").json() == close(expected["named"])
            leaving = [threads.submit(ask, "late") for _ in range(8)]
            assert server.client.delete("/adapters/late").status_code == 200
            for name, done in zip(names, running, strict=True):
                assert done.result().json() == close(expected[name])
            for done in leaving:
                answer = done.result()
                assert answer.status_code == 404 or answer.json() == close(expected["named"])
        assert server.client.get("/adapters").json() == {"adapters": ["many", "named", "same"]}
        by_body = {"inputs": TEXTS, "parameters": {"adapter_id": "named"}}
        assert server.invoke(by_body).json() == close(expected["named"])
        assert server.invoke(by_body, **{HEADER: "same"}).json() == close(expected["same"])
        lines = b'{"inputs": "bad", "parameters": {"adapter_id": "named"}}\n{"inputs": "bad"}'
        rows = server.invoke(lines, content_type="application/jsonlines").text.splitlines()
        first, second = (json.loads(row) for row in rows)
        assert first["label"] in NAMES["named"]
        assert second["label"] in NAMES[None]
        for answer in (ask("late"), server.invoke({**by_body, "parameters": {"adapter_id": "x"}})):
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "adapter_not_found"
            assert "many, named, same" in answer.json()["error"]["message"]
        assert server.invoke({**by_body, "parameters": {"adapter_id": 5}}).status_code == 400
        assert "/adapters" in server.client.get("/openapi.json").json()["paths"]
        assert server.ping() == 200


def test_embeddings_name_the_adapter_as_their_model(tmp_path):
    path = model_with(tmp_path, "bert", "FEATURE_EXTRACTION", "AutoModel")
    expected = ask_all(path, [(TEXTS, {"adapter_id": name}) for name in (None, "same")])
    assert expected[0] != expected[1]
    with Server(tmp_path) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        assert [model.id for model in client.models.list()] == ["model", "same"]
        for name, wanted in zip(("model", "same"), expected, strict=True):
            answer = client.embeddings.create(model=name, input=TEXTS)
            assert answer.model == name
            assert [row.embedding for row in answer.data] == close(wanted)
        by_header = client.embeddings.create(
            model="model", input=TEXTS, extra_headers={HEADER.replace("_", "-"): "same"}
        )
        assert (by_header.model, by_header.data[0].embedding) == ("same", close(expected[1][0]))
        assert server.invoke({"inputs": TEXTS}, **{HEADER: "same"}).json() == close(expected[1])
        with pytest.raises(openai.NotFoundError, match="model, same"):
            client.embeddings.create(model="other", input=TEXTS)
