"""Settings and model directories: what is accepted, and what the refusals say."""

import json
import shutil

import pytest

from sm_serve import contract
from sm_serve.artefact.artefact import find_task, inspect
from sm_serve.config import Settings, load_settings
from sm_serve.errors import StartupError
from sm_serve.protocol import Task
from sm_serve.stock_variables import unheeded
from sm_serve.telemetry.health import Health

NO_TENSORS = b"\x02" + bytes(7) + b"{}"
"""The least that is a safetensors file."""


def test_defaults_are_the_contracts():
    settings = load_settings({})
    assert settings == Settings()
    assert settings.port == 8080
    assert settings.max_payload_bytes == 6_291_456
    assert settings.request_timeout < contract.INVOCATION_SECONDS
    assert settings.stream_timeout < contract.STREAM_SECONDS
    assert settings.drain_timeout + settings.lame_duck < contract.STOP_SECONDS


def test_batch_transform_gets_its_own_limits():
    settings = load_settings({"SAGEMAKER_BATCH": "true"})
    assert settings.max_payload_bytes == 100 * 1024 * 1024
    assert settings.request_timeout == 3600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "0"),
        ("SAGEMAKER_BIND_TO_PORT", "80.5"),
        ("SAGEMAKER_BATCH", "perhaps"),
        ("SM_SERVE_DTYPE", "float8"),
        ("SM_SERVE_BATCH_SIZE", "-1"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "nan"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "LOUD"),
    ],
)
def test_wrong_values_are_named(name, value):
    with pytest.raises(StartupError, match=f"{name}='{value}'"):
        load_settings({name: value})


def test_variables_of_stock_containers_that_change_nothing_are_named_with_what_does():
    told = list(
        unheeded(
            {
                "HF_API_TOKEN": "hf_secret",
                "HF_MODEL_REVISION": "main",
                "HF_TASK": "text-classification",
                "OPTION_ROLLING_BATCH": "auto",
                "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                "TS_MAX_REQUEST_SIZE": "1",
            },
            load_settings({}),
        )
    )
    names = ["HF_API_TOKEN", "OPTION_ROLLING_BATCH", "TS_MAX_REQUEST_SIZE", "HF_MODEL_REVISION"]
    assert [line.split()[0] for line in told] == names
    assert "SAGEMAKER_MAX_PAYLOAD_IN_MB" in told[2]
    assert "hf_secret" not in told[0]
    elsewhere = {"SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/code.tar.gz"}
    assert "/opt/ml/model/code" in next(unheeded(elsewhere, load_settings({})))


def test_log_levels_may_be_the_toolkits_numbers():
    assert load_settings({"SAGEMAKER_CONTAINER_LOG_LEVEL": "30"}).log_level == "WARNING"


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("RobertaForSequenceClassification", Task.TEXT_CLASSIFICATION),
        ("LlamaForSequenceClassification", Task.TEXT_CLASSIFICATION),
        ("BertForTokenClassification", Task.TOKEN_CLASSIFICATION),
        ("BertForQuestionAnswering", Task.QUESTION_ANSWERING),
        ("BertModel", Task.EMBEDDING),
        ("GPT2LMHeadModel", Task.TEXT_GENERATION),
        ("Qwen3ForCausalLM", Task.TEXT_GENERATION),
        ("T5ForConditionalGeneration", Task.TEXT_GENERATION),
        ("MarianMTModel", Task.TEXT_GENERATION),
        ("EncoderDecoderModel", Task.TEXT_GENERATION),
    ],
)
def test_the_architecture_tells_the_task(architecture, task, tmp_path):
    assert find_task({"architectures": [architecture]}, tmp_path, None) is task


def test_hf_task_overrides_and_is_checked(tmp_path):
    config = {"architectures": ["BertModel"]}
    assert find_task(config, tmp_path, "ner") is Task.TOKEN_CLASSIFICATION
    with pytest.raises(StartupError, match="HF_TASK='summon'"):
        find_task(config, tmp_path, "summon")


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    (folder / "model.safetensors").write_bytes(NO_TENSORS)
    return folder


def test_links_out_of_the_model_directory_are_refused(model, tmp_path):
    (tmp_path / "secret").touch()
    (model / "inside").symlink_to(model / "config.json")
    assert inspect(model, Settings()).task is Task.EMBEDDING
    (model / "outside").symlink_to(tmp_path / "secret")
    with pytest.raises(StartupError, match="is a link out of the model directory"):
        inspect(model, Settings())


def test_pickles_and_remote_code_need_a_flag(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(StartupError, match="SM_SERVE_ALLOW_PICKLE_WEIGHTS"):
        inspect(model, Settings())
    assert inspect(model, Settings(allow_pickle_weights=True))
    (model / "config.json").write_text('{"architectures": ["BertModel"], "auto_map": {}}')
    with pytest.raises(StartupError, match="SM_SERVE_TRUST_REMOTE_CODE"):
        inspect(model, Settings(allow_pickle_weights=True))
    assert inspect(model, Settings(allow_pickle_weights=True, trust_remote_code=True))


def test_an_adapter_finds_its_base(model, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": str(model)}))
    artefact = inspect(adapter, Settings())
    assert artefact.is_adapter
    assert artefact.base == model


def test_health_tells_the_phase_then_what_the_engine_says():
    health = Health()
    assert "loading" in health.problem()
    reasons = [None, "stuck"]
    health.ready(lambda: reasons.pop(0))
    assert health.problem() is None
    assert health.problem() == "stuck"
    health.drain()
    assert "stopping" in health.problem()
    health.ready(lambda: None)
    assert health.problem() is not None


def model_with_adapters(folder, architecture):
    (folder / "adapters" / "rude").mkdir(parents=True)
    (folder / "adapters" / "rude" / "adapter_config.json").write_text("{}")
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    (folder / "base" / "model.safetensors").write_bytes(NO_TENSORS)


def test_adapters_are_found_beside_their_base(tmp_path):
    model_with_adapters(tmp_path, "LlamaForCausalLM")
    artefact = inspect(tmp_path, Settings())
    assert artefact.base == tmp_path / "base"
    assert artefact.adapters == {"rude": tmp_path / "adapters" / "rude"}
    assert not artefact.is_adapter


def test_adapters_that_could_not_be_told_apart_are_refused(tmp_path):
    model_with_adapters(tmp_path, "LlamaForCausalLM")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "base"}')
    with pytest.raises(StartupError, match="is an adapter and holds more"):
        inspect(tmp_path, Settings())
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(StartupError, match="rude has the model's own name"):
        inspect(tmp_path, Settings(served_name="rude"))


@pytest.mark.parametrize(
    ("architecture", "types", "task"),
    [
        ("BertForSequenceClassification", [None], "text-classification"),
        ("BertForMaskedLM", ["SEQ_CLS", "SEQ_CLS"], "text-classification"),
        ("BertModel", ["TOKEN_CLS", None], "token-classification"),
        ("LlamaForCausalLM", ["SEQ_CLS"], "text-classification"),
        ("LlamaForCausalLM", ["CAUSAL_LM"], "text-generation"),
        ("BertModel", ["FEATURE_EXTRACTION"], "feature-extraction"),
        ("BertForSequenceClassification", ["SEQ_CLS", "TOKEN_CLS"], "b is an adapter for token-"),
    ],
)
def test_adapters_tell_the_task_of_their_base(tmp_path, architecture, types, task):
    model_with_adapters(tmp_path, architecture)
    for name, kind in zip("ab", types, strict=False):
        (tmp_path / "adapters" / name).mkdir()
        config = tmp_path / "adapters" / name / "adapter_config.json"
        config.write_text(json.dumps({"task_type": kind}))
    if task.startswith("b is"):
        with pytest.raises(StartupError, match=task):
            inspect(tmp_path, Settings())
        return
    assert inspect(tmp_path, Settings()).task == task
    other = "token-classification" if task != "token-classification" else "text-classification"
    if any(types):
        with pytest.raises(StartupError, match=f"served for {other}: leave it out"):
            inspect(tmp_path, Settings(task=other))


def test_beside_an_adapter_config_json_names_its_labels(tmp_path):
    model_with_adapters(tmp_path, "BertModel")
    shutil.move(tmp_path / "adapters" / "rude", tmp_path / "one")
    config = {"base_model_name_or_path": "/elsewhere", "task_type": "TOKEN_CLS"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"1": "B", "0": "O"}}))
    shape = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    header = json.dumps({"base_model.model.classifier.weight": shape}).encode()
    (tmp_path / "adapter_model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(32)
    )
    artefact = inspect(tmp_path, Settings())
    assert (artefact.base, artefact.task) == (tmp_path / "base", "token-classification")
    assert artefact.is_adapter
    assert artefact.head["id2label"] == {0: "O", 1: "B"}
