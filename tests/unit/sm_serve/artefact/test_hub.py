"""Models of the Hub: which files are taken, and what is refused before anything starts."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub import LocalHub, running

from sm_serve.artefact import hub
from sm_serve.artefact.hub_files import SHARD, choose_files
from sm_serve.config import load_settings
from sm_serve.errors import StartupError

SHARDS = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
BINS = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
SMALL = ["config.json", "generation_config.json", "tokenizer.model", "merges.txt",
         "chat_template.jinja", "1_Pooling/config.json", "modules.json",
         "additional_chat_templates/tool_use.jinja"]  # fmt: skip
OTHERS = ["README.md", ".gitattributes", "tf_model.h5", "flax_model.msgpack",
          "model.fp16.safetensors", "consolidated.safetensors", "onnx/model.onnx",
          "onnx/config.json", "original/params.json",
          "model-Q4.gguf", "tf_model.h5.index.json", "openvino/openvino_model.bin", "rust_model.ot",
          "coreml/model.mlpackage/weights.bin", "modeling_own.py"]  # fmt: skip
SETS = [["model.safetensors"], [*SHARDS, "model.safetensors.index.json"], ["pytorch_model.bin"],
        [*BINS, "pytorch_model.bin.index.json"], ["adapter_model.safetensors"]]  # fmt: skip


@given(st.lists(st.sampled_from(SETS), unique_by=tuple), st.sets(st.sampled_from(SMALL + OTHERS)))
def test_one_whole_set_of_weights_is_taken_and_no_other_format(sets, rest):
    names = [name for each in sets for name in each] + sorted(rest)
    choice = choose_files(names, code=False)
    taken = set(choice.names)
    assert taken & set(SMALL) == rest & set(SMALL)
    assert not taken & set(OTHERS)
    weights = {name for name in taken if name.endswith((".safetensors", ".bin"))}
    wholes = [{name for name in each if "index" not in name} for each in sets]
    assert choice.weights == len(weights)
    assert weights in wholes or not sets
    assert choice.pickled == any(name.endswith(".bin") for name in weights)
    assert not choice.pickled or all(".bin" in name for each in sets for name in each)
    shards = any(re.search(SHARD, name) for name in weights)
    assert any(name.endswith(".index.json") for name in taken) == shards


def test_code_is_taken_only_where_it_may_run():
    names = ["config.json", "model.safetensors", "modeling_own.py"]
    assert choose_files(names, code=True).names == (
        "model.safetensors",
        "config.json",
        "modeling_own.py",
    )


def settings_of(tmp_path, **environ):
    base = {"SAGEMAKER_BASE_DIR": str(tmp_path), "HF_MODEL_ID": "me/tiny"}
    return load_settings(base | environ)


@pytest.mark.parametrize(
    "named", ["/models/x", "me/tiny/x", "me/tiny@main", "../tiny", "a b", "me//t"]
)
def test_what_is_no_name_of_a_model_is_refused(tmp_path, named):
    with pytest.raises(StartupError, match=re.escape(f"HF_MODEL_ID={named!r}")):
        settings_of(tmp_path, HF_MODEL_ID=named)


def test_the_models_own_folder_is_no_model_of_the_hub(tmp_path):
    assert settings_of(tmp_path, HF_MODEL_ID=f"{tmp_path}/model/").hub is None


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"SM_SERVE_NETWORK_ISOLATION": "true"}, "network isolation"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE='1'"),
        ({"TRANSFORMERS_OFFLINE": "yes"}, "TRANSFORMERS_OFFLINE='yes'"),
        ({"SAGEMAKER_MULTI_MODEL": "true"}, "multi-model"),
    ],
)
def test_a_download_that_cannot_be_is_refused_with_its_reason(tmp_path, environ, named):
    with pytest.raises(StartupError, match=named):
        hub.check(settings_of(tmp_path, **environ), environ)


def test_a_model_in_the_artefact_as_well_is_refused_and_a_script_is_not(tmp_path):
    (tmp_path / "model" / "code").mkdir(parents=True)
    hub.check(settings_of(tmp_path), {})
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(StartupError, match=r"me/tiny.*model in .*config\.json"):
        hub.check(settings_of(tmp_path), {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "environ", "said"),
    [
        ({"config.json": b"{}"}, {}, "no weights"),
        ({"pytorch_model.bin": b"x"}, {}, "SM_SERVE_ALLOW_PICKLE_WEIGHTS"),
        ({"model.safetensors": b"x"}, {"HF_MODEL_ID": "me/none"}, "no such model, or it is"),
        ({"model.safetensors": b"x"}, {"HF_MODEL_REVISION": "v9"}, "HF_MODEL_REVISION='v9'"),
        ({"model.safetensors": b"x"}, {"HF_TOKEN": "hf_wrong_secret"}, "HF_TOKEN is set"),
    ],
)  # fmt: skip
def test_what_the_hub_cannot_give_is_refused(tmp_path, monkeypatch, files, environ, said):
    token = "hf_right_secret" if "HF_TOKEN" in environ else ""
    with running(LocalHub({"me/tiny": files}, token)) as server:
        told = _download(server, tmp_path, monkeypatch, environ)
    assert said in told and "_secret" not in told


@pytest.mark.slow
def test_a_hub_that_is_not_there_and_a_full_disk_are_refused(tmp_path, monkeypatch):
    with running(LocalHub({"me/tiny": {"model.safetensors": b"x"}})) as server:
        monkeypatch.setattr(hub, "SPARE_BYTES", 1 << 60)
        assert "set HF_HOME to a folder on a larger disk" in _download(
            server, tmp_path, monkeypatch, {}
        )
    assert "cannot be downloaded" in _download(server, tmp_path, monkeypatch, {})


def _download(server, tmp_path, monkeypatch, environ):
    from huggingface_hub import constants

    for name, value in {**server.environment(tmp_path), **environ}.items():
        monkeypatch.setenv(name, value)
    # The library has read them when it was imported.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", os.environ["HF_ENDPOINT"])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(StartupError) as refused:
        hub.download(settings_of(tmp_path, **environ), lambda message: None)
    return str(refused.value)
