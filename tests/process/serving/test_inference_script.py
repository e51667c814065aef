"""A user's inference.py: the toolkit's functions, alone and together with our defaults."""

import json

import pytest
from serving_models import encoder, script
from serving_process import Server

pytestmark = pytest.mark.slow

ALL_FOUR = """
import json
from sagemaker_inference import content_types, decoder, default_inference_handler, encoder

def model_fn(model_dir, context=None):
    return {"factor": 3, "dir": model_dir}

def input_fn(input_data, content_type, context=None):
    return decoder.decode(input_data, content_type)

def predict_fn(data, model, context=None):
    if data.shape == (1,):
        raise ValueError("one number is not enough")
    return data * model["factor"]

def output_fn(prediction, accept, context=None):
    return encoder.encode(prediction, accept)
"""

PREDICT_ONLY = """
import os
from sagemaker_inference.errors import BaseInferenceToolkitError

def model_fn(model_dir):
    return lambda inputs, **parameters: {"echo": inputs, "parameters": parameters}

def predict_fn(data, model):
    if data == {"inputs": "boom"}:
        open("/nowhere/at/all")
    if data == {"inputs": "teapot"}:
        raise BaseInferenceToolkitError(418, "I am a teapot", "teapot")
    return model(data.pop("inputs"), **data.pop("parameters", {}))
"""

TRANSFORM = """
def model_fn(model_dir, context):
    return context.system_properties["model_dir"]

def transform_fn(model, input_data, content_type, accept, context):
    header = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    if header == "stream":
        return (f"piece {n}\\n" for n in range(3))
    context.set_response_header(0, "x-seen", header or "nothing")
    return f"{content_type}|{accept}|{input_data}", "text/plain"
"""

OUTPUT_ONLY = """
import json

def output_fn(prediction, accept):
    labels = [result["label"] for results in prediction.results for result in results]
    return json.dumps({"labels": labels}), accept
"""


HUGGING_FACE = """
from sagemaker_huggingface_inference_toolkit import content_types, decoder_encoder
from transformers import pipeline

def model_fn(model_dir, context=None):
    return pipeline("token-classification", model=model_dir, tokenizer=model_dir)

def input_fn(input_data, content_type):
    return decoder_encoder.decode(input_data, content_type)

def predict_fn(data, model):
    inputs = data.pop("inputs", data)
    parameters = data.pop("parameters", None)
    return model(inputs, **parameters) if parameters is not None else model(inputs)

def output_fn(prediction, accept):
    return decoder_encoder.encode(prediction, accept or content_types.JSON)
"""

MODEL_ONLY = """
from transformers import pipeline

def model_fn(model_dir, context):
    return pipeline("text-classification", model=model_dir)
"""

CONTEXT = """
import sys

def model_fn(model_dir, context):
    return context.system_properties["model_dir"]

def input_fn(input_data, content_type, context):
    return input_data.upper()

def predict_fn(data, model, context):
    if data == "EXIT":
        sys.exit(3)
    if data == "NO":
        context.set_response_status(422, "no")
    return data + str(context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes"))

def output_fn(prediction, accept, context):
    context.set_response_header(0, "x-length", str(len(prediction)))
    return prediction, "text/plain"
"""


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(code, **environ):
        script(tmp_path / "model", code)
        servers.append(Server(tmp_path, **environ).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def test_the_toolkits_four_functions_run_unchanged(serve):
    server = serve(ALL_FOUR)
    answer = server.invoke([1, 2], content_type="application/json; charset=utf-8")
    assert answer.json() == [3, 6]
    csv = server.invoke("1,2\n3,4", content_type="text/csv", accept="text/csv")
    assert csv.text == "3,6\n9,12\n"
    failed = server.invoke([1])
    assert failed.status_code == 500
    assert failed.json()["error"]["message"].endswith("ValueError: one number is not enough")
    unsupported = server.invoke("x", content_type="image/png")
    assert unsupported.status_code == 415
    assert "Traceback" not in failed.text + unsupported.text


def test_hugging_face_style_predict_fn_gets_the_request_as_a_dict(serve):
    server = serve(PREDICT_ONLY)
    answer = server.invoke({"inputs": "hi", "parameters": {"n": 1}})
    assert answer.json() == {"echo": "hi", "parameters": {"n": 1}}
    broken = server.invoke({"inputs": "boom"})
    assert broken.status_code == 500
    assert "nowhere" not in broken.text
    assert server.invoke({"inputs": "teapot"}).status_code == 418


def test_transform_fn_sees_its_own_request_and_may_stream(serve):
    server = serve(TRANSFORM, SAGEMAKER_MODEL_SERVER_WORKERS="4")
    answer = server.invoke("a", content_type="text/csv", accept="text/csv")
    assert answer.text == "text/csv|text/csv|a"
    assert answer.headers["content-type"] == "text/plain"
    attributes = {"x_amzn_sagemaker_custom_attributes": "stream"}
    assert server.invoke("a", **attributes).text == "piece 0\npiece 1\npiece 2\n"
    assert server.invoke("a").headers["x-seen"] == "nothing"


def test_a_script_without_model_fn_gets_our_engine(serve, classifier_dir, tmp_path):
    import shutil

    shutil.copytree(classifier_dir, tmp_path / "model")
    server = serve(OUTPUT_ONLY)
    answer = server.invoke({"inputs": ["good", "bad"]})
    labels = answer.json()["labels"]
    assert len(labels) == 2
    assert set(labels) <= {"negative", "neutral", "positive"}
    unknown = server.invoke({"inputs": "good"}, x_amzn_sagemaker_adapter_identifier="mine")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "adapter_not_found"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def model_fn(path):\n    raise RuntimeError('no card')\n", "RuntimeError: no card"),
        (
            "def model_fn(path):\n    raise SystemExit('bad')\n",
            "ended the process: SystemExit: bad",
        ),
        ("async def predict_fn(data, model):\n    return data\n", "predict_fn is async: write def"),
    ],
)
def test_a_script_that_fails_to_load_ends_the_server_with_its_reason(tmp_path, code, reason):
    given = "" if "model_fn(path)" in code else "def model_fn(path):\n    return 1\n"
    script(tmp_path / "model", given + code)
    with Server(tmp_path, wait=False) as server:
        assert server.process.wait(60) == 1
    assert reason in server.log.read_text()


def test_npy_is_read_but_never_unpickled(serve):
    import io

    import numpy as np

    server = serve(ALL_FOUR.replace("def input_fn", "def unused_input_fn"))

    def npy(array):
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()

    good = server.invoke(npy(np.array([1, 2])), content_type="application/x-npy")
    assert good.json() == [3, 6]
    bad = server.invoke(npy(np.array([{}, {}])), content_type="application/x-npy")
    assert bad.status_code == 400
    assert json.loads(bad.text)["error"]["message"].startswith("the body is not a plain npy array")


def test_scripts_of_stock_hugging_face_endpoints_run_unchanged(serve, pool, tmp_path):
    """With the toolkit's own decoders, pipelines, numpy scores, and requirements that are met."""
    import shutil

    from transformers import pipeline

    labels = ["O", "B-PER", "I-PER"]
    make = lambda path: encoder(path, "BertForTokenClassification", labels)  # noqa: E731
    model = pool.model("script-tagger", make)
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "code").mkdir()
    (tmp_path / "model" / "code" / "requirements.txt").write_text(
        "# pinned\ntransformers>=4.40\nnumpy ; python_version > '3'\nsafetensors # yes\n-i x\n"
    )
    server = serve(HUGGING_FACE)
    body = {"inputs": "hello world", "parameters": {"aggregation_strategy": "simple"}}
    answer = server.invoke(body)
    assert answer.status_code == 200, answer.text
    expected = pipeline("token-classification", str(model))(
        "hello world", aggregation_strategy="simple"
    )
    assert [group["word"] for group in answer.json()] == [group["word"] for group in expected]
    assert answer.json()[0]["score"] == pytest.approx(float(expected[0]["score"]), abs=1e-5)
    by_row = server.invoke("inputs\nhello\nworld\n", content_type="text/csv", accept="*/*")
    assert len(by_row.json()) == 2
    assert server.invoke("x", content_type="image/png").status_code == 415
    assert "requirements.txt" not in server.log.read_text()


def test_a_model_fn_alone_is_called_with_inputs_and_parameters(serve, classifier_dir, tmp_path):
    import shutil

    shutil.copytree(classifier_dir, tmp_path / "model")
    server = serve(MODEL_ONLY)
    lone = server.invoke({"inputs": "good"}).json()
    assert set(lone[0]) == {"label", "score"}
    listed = server.invoke({"inputs": ["good", "bad"], "parameters": {"top_k": 2}}).json()
    assert [len(labels) for labels in listed] == [2, 2]


def test_every_function_may_take_the_context(serve):
    server = serve(CONTEXT)
    sent = {"content_type": "text/csv", "x_amzn_sagemaker_custom_attributes": "!"}
    answer = server.invoke("hello", **sent)
    assert (answer.text, answer.headers["x-length"]) == ("HELLO!", "6")
    assert server.invoke("no", **sent).status_code == 422
    ended = server.invoke("exit", **sent)
    assert (ended.status_code, ended.json()["error"]["message"][-13:]) == (500, "SystemExit: 3")
    assert server.invoke("hello", **sent).text == "HELLO!"


def test_requirements_that_the_image_lacks_are_named(tmp_path):
    script(tmp_path / "model", "import no_such_module_at_all\n")
    wanted = "no-such-package-at-all==1.0\nnumpy<0.1\n"
    (tmp_path / "model" / "code" / "requirements.txt").write_text(wanted)
    with Server(tmp_path, wait=False) as server:
        assert server.process.wait(60) == 1
        log = server.log.read_text()
    assert "needs the module 'no_such_module_at_all'" in log
    assert "requirements.txt asks for no-such-package-at-all==1.0, numpy<0.1 (" in log
    assert "put it into the image" in log
    assert "Traceback" not in log
