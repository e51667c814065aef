"""Multi-model endpoints: the platform's routes over several classifiers in one process."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from serving_adapters import make_adapter
from serving_process import Hasty, Server

pytestmark = pytest.mark.slow


def test_models_come_and_go(tmp_path, classifier_dir):
    folders = [tmp_path / "models" / name / "model" for name in ("first", "second")]
    for folder in folders:
        shutil.copytree(classifier_dir, folder)
    make_adapter(folders[1], folders[1] / "adapters" / "mood", "SEQ_CLS", 1, ["low", "high"])
    environ = {"SAGEMAKER_MULTI_MODEL": "true", "SM_SERVE_MAX_MODELS": "2", "SM_SERVE_EMF": "true"}
    with Server(tmp_path, **environ) as server:

        def load(name, folder=folders[0]):
            body = {"model_name": name, "url": str(folder)}
            return server.client.post("/models", json=body)

        assert server.client.get("/models").json() == {"models": []}
        assert load("a").status_code == 200
        assert load("a").status_code == 409
        assert load("b", folders[1]).status_code == 200
        assert load("c").status_code == 507
        listed = server.client.get("/models").json()["models"]
        assert [model["modelName"] for model in listed] == ["a", "b"]
        assert server.client.get("/models/b").json()["modelUrl"] == str(folders[1])
        answer = server.client.post("/models/b/invoke", json={"inputs": "good"})
        assert set(answer.json()[0]) == {"label", "score"}
        body, header = {"inputs": "good"}, {"X-Amzn-SageMaker-Adapter-Identifier": "mood"}
        answer = server.client.post("/models/b/invoke", json=body, headers=header)
        assert answer.json()[0]["label"] in ("low", "high")
        answer = server.client.post("/models/a/invoke", json=body, headers=header)
        assert answer.status_code == 404
        assert server.client.delete("/models/b").status_code == 200
        assert server.client.delete("/models/b").status_code == 404
        gone = server.client.post("/models/b/invoke", json={"inputs": "good"})
        assert gone.status_code == 404
        assert load("x", "/etc").status_code == 400
        assert load("x", tmp_path).status_code == 400
        assert server.invoke({"inputs": "good"}).status_code == 400
        assert server.ping() == 200


def test_unloading_waits_for_the_last_answer(tmp_path, language_model_dir):
    shutil.copytree(language_model_dir, tmp_path / "models" / "lm")
    with Server(tmp_path, SAGEMAKER_MULTI_MODEL="true") as server, ThreadPoolExecutor() as threads:
        where = {"model_name": "lm", "url": str(tmp_path / "models" / "lm")}
        assert server.client.post("/models", json=where).status_code == 200
        parameters = {"max_new_tokens": 300, "ignore_eos_token": True}
        body = {"inputs": "hello", "parameters": parameters, "stream": True}
        with server.client.stream("POST", "/models/lm/invoke", json=body) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data:")
            unloading = threads.submit(server.client.delete, "/models/lm")
            whole = list(lines)
        assert json.loads(whole[-2][5:])["details"]["generated_tokens"] == 300
        assert unloading.result(10).status_code == 200
        assert server.client.get("/models").json() == {"models": []}


def test_an_adapter_is_never_silently_the_base_model(classifier, language_model):
    for server in (classifier, language_model):
        answer = server.invoke({"inputs": "good"}, x_amzn_sagemaker_adapter_identifier="mine")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "adapter_not_found"
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    headers = {"X-Amzn-SageMaker-Adapter-Identifier": "mine"}
    answer = language_model.client.post("/v1/chat/completions", json=chat, headers=headers)
    assert answer.status_code == 404


def test_cloudwatch_lines_hold_the_interval():
    from sm_serve.telemetry.emf import Publisher
    from sm_serve.telemetry.metrics import Metrics

    metrics = Metrics()
    publisher = Publisher(metrics, "m")
    metrics.finished("/invocations", 200, 0.2)
    metrics.finished("/invocations", 500, 0.4)
    line = json.loads(publisher.line(1.5, {"queue_items": 3}))
    assert line["_aws"]["Timestamp"] == 1500
    directive = line["_aws"]["CloudWatchMetrics"][0]
    assert directive["Dimensions"] == [["Model"]]
    assert {metric["Name"] for metric in directive["Metrics"]} == {
        "Requests", "Errors", "Disconnects", "InFlight", "Latency", "QueueItems",
    }  # fmt: skip
    assert (line["Requests"], line["Errors"], line["Latency"]) == (2, 1, 300)
    metrics.first_byte.observe(0.05)
    engine = {"generated_tokens_total": 10, "batches_total": 4, "batch_items_total": 6}
    later = json.loads(publisher.line(3.5, engine))
    assert (later["Requests"], later["TokensPerSecond"], later["BatchSize"]) == (0, 5, 1.5)
    assert later["TimeToFirstByte"] == 50


MEMBER = """
from helper import word

def model_fn(model_dir):
    return word()

def transform_fn(model, data, content_type, accept):
    if data == '"stream"':
        return (piece for piece in ["one ", model])
    return f"{model}:{data}", "text/plain"
"""


def test_members_run_their_own_scripts_apart(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / "models" / name / "model"
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "inference.py").write_text(MEMBER)
        (folder / "code" / "helper.py").write_text(f"def word():\n    return '{name}'\n")
    (tmp_path / "models" / "bad" / "code").mkdir(parents=True)
    (tmp_path / "models" / "bad" / "code" / "inference.py").write_text("def handle(d, c): ...\n")
    with Hasty(tmp_path, SAGEMAKER_MULTI_MODEL="true") as server:

        def load(name, folder):
            body = {"model_name": name, "url": str(tmp_path / "models" / folder)}
            return server.client.post("/models", json=body)

        assert [load("a", "a/model").status_code, load("b", "b/model").status_code] == [200, 200]
        refused = load("bad", "bad")
        assert (refused.status_code, "TorchServe" in refused.text) == (400, True)
        for name in ("a", "b"):
            answer = server.client.post(f"/models/{name}/invoke", json=1)
            assert (answer.text, answer.headers["content-type"]) == (f"{name}:1", "text/plain")
            answer = server.client.post(f"/models/{name}/invoke", json="stream")
            assert answer.text == f"one {name}"
        assert server.client.delete("/models/b").status_code == 200
        assert server.client.post("/models/b/invoke", json=1).status_code == 404
        assert server.client.post("/models/a/invoke", json=2).text == "a:2"
        # A member that dies is there again, and no other.
        (member,) = [
            child
            for child in psutil.Process(server.process.pid).children()
            if "sm_serve.member_main" in child.cmdline()
        ]
        member.kill()
        server.wait_anew()
        assert server.client.post("/models/a/invoke", json=3).text == "a:3"
        assert server.client.post("/models/b/invoke", json=1).status_code == 404
