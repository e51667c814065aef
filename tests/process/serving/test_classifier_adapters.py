"""Artefacts that are a classifier's adapter alone, its base model in base/."""

import asyncio
import json
import shutil

import pytest
from serving_adapters import make_adapter, make_base, merged
from serving_models import encoder
from serving_process import Server, base_with

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines.registry import load_engine

pytestmark = pytest.mark.slow

TEXTS = ["the movie was good", "bad", "we loved it"]


@pytest.fixture(scope="module")
def adapter_dir(pool):
    """A LoRA with a head of four labels, trained on a base model that has no head."""

    def make(path):
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForSequenceClassification

        base = encoder(path / "base", "BertModel", ["a"])
        torch.manual_seed(5)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=4)
        tuned = get_peft_model(
            model, LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
        )
        for name, parameter in tuned.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        tuned.save_pretrained(path)
        return path

    return pool.model("classifier-adapter", make)


def expected(path, labels):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = AutoModelForSequenceClassification.from_pretrained(path / "base", num_labels=4)
    model = PeftModel.from_pretrained(base, path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path / "base")
    answers = []
    for text in TEXTS:
        with torch.inference_mode():
            scores = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        answers.append((labels[int(scores.argmax())], pytest.approx(float(scores.max()), abs=1e-5)))
    return answers


def test_the_head_comes_from_the_adapter(adapter_dir, tmp_path):
    with Server(base_with(adapter_dir, tmp_path)) as server:
        answers = server.invoke({"inputs": TEXTS}).json()
        log = server.log.read_text()
    pairs = [(answer["label"], answer["score"]) for answer in answers]
    assert pairs == expected(adapter_dir, [f"LABEL_{index}" for index in range(4)])
    assert "does not name its 4 labels" in log


def test_label_names_are_those_of_the_base_models_config(adapter_dir, tmp_path):
    base = base_with(adapter_dir, tmp_path)
    file = base / "model" / "base" / "config.json"
    config = json.loads(file.read_text())
    names = ["awful", "poor", "fine", "great"]
    config["id2label"] = {str(index): name for index, name in enumerate(names)}
    config["label2id"] = {name: index for index, name in enumerate(names)}
    file.write_text(json.dumps(config))
    with Server(base) as server:
        answers = server.invoke({"inputs": TEXTS}).json()
        assert "does not name" not in server.log.read_text()
    assert [(a["label"], a["score"]) for a in answers] == expected(adapter_dir, names)


def test_an_adapter_s_own_head_and_names_go_before_its_base_models(tmp_path):
    """Merged: as `replace_head` trains it, and as `export: adapter` writes it."""
    from transformers import AutoTokenizer, pipeline

    names = ["awful", "poor", "fine", "great"]
    base = make_base(tmp_path / "base", "bert", "AutoModelForSequenceClassification", ["a", "b"])
    folder = make_adapter(base, tmp_path / "one" / "model", "SEQ_CLS", 3, names)
    base.rename(folder / "base")
    model = merged(folder / "base", folder, "SEQ_CLS", names)
    reference = pipeline(
        "text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder / "base")
    )
    settings = Settings()
    engine = load_engine(inspect(folder, settings), settings)
    answers = asyncio.run(engine.predict(TEXTS, {}))
    engine.close()
    wanted = reference(TEXTS)
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in wanted]
    assert [a["score"] for a in answers] == pytest.approx([a["score"] for a in wanted], abs=1e-5)


def test_an_adapter_that_cannot_answer_is_refused_with_its_reason(adapter_dir, tmp_path):
    from safetensors.torch import load_file, save_file

    headless = base_with(adapter_dir, tmp_path / "headless")
    file = headless / "model" / "adapter_model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "lora_" in k}, file)
    other = base_with(adapter_dir, tmp_path / "other")
    wide = {k: v.repeat(1, 2) if "lora_A" in k else v for k, v in load_file(
        other / "model" / "adapter_model.safetensors").items()}  # fmt: skip
    save_file(wide, other / "model" / "adapter_model.safetensors")
    several = base_with(adapter_dir, tmp_path / "several")
    shutil.copytree(adapter_dir, several / "model" / "adapters" / "one")
    for base, message in (
        (headless, "without a head"),
        (other, "does not fit its base model"),
        (several, "put all of them into adapters/NAME/"),
    ):
        with Server(base, wait=False) as server:
            assert server.process.wait(60) == 1
            log = server.log.read_text()
        assert message in log
        assert "Traceback" not in log
