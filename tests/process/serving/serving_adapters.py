"""Adapters of encoders made by PEFT, and the models that they give when merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serving_models import tokenizer

SMALL = {"vocab_size": 400, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
SIZES: dict[str, dict[str, Any]] = {
    "bert": {**SMALL, "intermediate_size": 64, "max_position_embeddings": 128},
    "roberta": {**SMALL, "intermediate_size": 64, "max_position_embeddings": 130},
    "distilbert": {
        "vocab_size": 400, "dim": 32, "n_heads": 2, "n_layers": 2, "hidden_dim": 64,
        "max_position_embeddings": 128,
    },
    "deberta-v2": {
        **SMALL, "intermediate_size": 64, "max_position_embeddings": 128,
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True,
    },
    "modernbert": {
        **SMALL, "intermediate_size": 64, "max_position_embeddings": 128,
        "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
    },
    "llama": {
        **SMALL, "intermediate_size": 64, "max_position_embeddings": 128,
        "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip
HEADS = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
    "CAUSAL_LM": "AutoModelForCausalLM",
}


def make_base(path: Path, kind: str, head: str, labels: list[str] | None = None) -> Path:
    """A tiny random model of two layers with large weights, so that answers differ."""
    import torch
    import transformers

    names = dict(enumerate(labels or ["no", "yes"]))
    config = transformers.AutoConfig.for_model(
        kind, **SIZES[kind], pad_token_id=0, initializer_range=0.5, id2label=names,
        label2id={name: number for number, name in names.items()},
    )  # fmt: skip
    torch.manual_seed(7)
    getattr(transformers, head).from_config(config).save_pretrained(path)
    tokenizer(path, bert=kind != "llama")
    if kind in ("roberta", "distilbert", "modernbert"):
        file = path / "tokenizer_config.json"
        values = json.loads(file.read_text())
        values["model_input_names"] = ["input_ids", "attention_mask"]
        file.write_text(json.dumps(values))
    return path


def make_adapter(
    base: Path, path: Path, task_type: str, seed: int, labels: int | list[str] = 2, **options: Any
) -> Path:
    """A LoRA with large weights and its own head; names beside it where labels are named."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    count = labels if isinstance(labels, int) else len(labels)
    model = headed(base, task_type, count)
    settings = {
        "r": 4, "lora_alpha": 8, "target_modules": "all-linear",
        "exclude_modules": ["classifier", "pre_classifier", "qa_outputs"], **options,
    }  # fmt: skip
    tuned = get_peft_model(model, LoraConfig(task_type=task_type, **settings))
    for name, parameter in tuned.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    tuned.save_pretrained(path)
    if not isinstance(labels, int):
        names = {str(number): name for number, name in enumerate(labels)}
        (path / "config.json").write_text(json.dumps({"id2label": names}))
    return path


def headed(base: Path, task_type: str, count: int) -> Any:
    """The base model with a head of so many labels."""
    import transformers

    options: dict[str, Any] = {}
    if task_type in ("SEQ_CLS", "TOKEN_CLS"):
        options = {"num_labels": count, "ignore_mismatched_sizes": True}
    kind = getattr(transformers, HEADS[task_type])
    return kind.from_pretrained(base, dtype="float32", **options)


def merged(base: Path, adapter: Path | None, task_type: str, labels: list[str]) -> Any:
    """What answers should equal: the adapter alone, merged by PEFT."""
    from peft import PeftModel

    model = headed(base, task_type, len(labels))
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {name: number for number, name in enumerate(labels)}
    return model.eval()
