"""A job that begins with what another one left: its archive, or an adapter and its base."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

TEXT = "w1 w2 good w3 bad w4 w5"


def adapted(base: Path, folder: Path, kind: str, task: str, **settings: Any) -> Any:
    """A LoRA model whose adapter changes the answers, saved as a job leaves it."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = getattr(transformers, kind).from_pretrained(base, **settings)
    model = get_peft_model(model, LoraConfig(task_type=task, target_modules="all-linear", r=4))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return model.eval()


def logits(model: Any, tokenizer_of: Path) -> Any:
    import torch
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(tokenizer_of)(TEXT, return_tensors="pt")
    with torch.no_grad():
        return model(tokens["input_ids"]).logits


def test_dpo_goes_on_with_a_packed_adapter(new_job: Any, decoder: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    former = adapted(decoder, tmp_path / "adapter", "AutoModelForCausalLM", "CAUSAL_LM")
    (tmp_path / "channel").mkdir()
    with tarfile.open(tmp_path / "channel" / "model.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "adapter", arcname=".")
    rows = [{"prompt": "w1", "chosen": "good w2", "rejected": "bad w3"}] * 8
    settings = {"method": "dpo", "max_steps": 1, "learning_rate": 1e-12, "num_processes": 2,
                "use_peft": True, "report_to": "none"}  # fmt: skip
    job = new_job(settings, train=rows, model=tmp_path / "channel", base=decoder)
    code, log = job.train()
    assert code == 0, log
    assert log.count("merging the adapter") == 1
    assert log.count("unpacking model.tar.gz") == 1
    trained = AutoModelForCausalLM.from_pretrained(job.model)
    assert torch.allclose(logits(trained, job.model), logits(former, decoder), atol=1e-4)
    assert not torch.allclose(
        logits(trained, job.model),
        logits(AutoModelForCausalLM.from_pretrained(decoder), decoder),
        atol=1e-2,
    )


def test_a_classifiers_adapter_brings_its_head(
    new_job: Any, encoders: dict[str, Path], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    from sm_train.config import load_config
    from sm_train.contract import Paths
    from sm_train.modelling.base_model import resolve_base_model
    from sm_train.results.chaining import whole_model

    folder = tmp_path / "model"
    kind = "AutoModelForSequenceClassification"
    former = adapted(encoders["bert"], folder, kind, "SEQ_CLS", num_labels=3)
    (folder / "base").symlink_to(encoders["bert"])
    former.get_base_model().config.save_pretrained(folder)
    job = new_job({"method": "text-classification"}, model=folder)
    paths = Paths(job.path)
    config = load_config(paths)
    merged = whole_model(paths, resolve_base_model(paths, config), config)
    model = AutoModelForSequenceClassification.from_pretrained(merged).eval()
    assert model.config.num_labels == 3
    assert torch.allclose(logits(model, Path(merged)), logits(former, encoders["bert"]), atol=1e-4)
