"""Encoders in int8: they answer as the model did, and as they do alone whoever is beside them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sm_train.modelling.onnx import as_module, export_int8

pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "initializer_range": 0.2,
}
OF_DISTILBERT = {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64,
                 "initializer_range": 0.2}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "DistilBertForQuestionAnswering": ("DistilBertConfig", OF_DISTILBERT),
    "MPNetModel": ("MPNetConfig", SIZES),
}


def tensors(*lengths: int) -> dict[str, Any]:
    import torch

    width = max(lengths)
    chance = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (len(lengths), width), generator=chance)
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask + (1 - mask), "attention_mask": mask}


@pytest.mark.parametrize("name", KINDS)
def test_answers_are_near_to_the_models_own_and_the_same_in_any_company(
    name: str, tmp_path: Path
) -> None:
    import torch
    import transformers

    kind, sizes = KINDS[name]
    torch.manual_seed(3)
    model = getattr(transformers, name)(getattr(transformers, kind)(**sizes)).eval()
    names = ["input_ids", "attention_mask"]
    path = tmp_path / "onnx" / "model.onnx"
    export_int8(model, SimpleNamespace(model_input_names=names), path)
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]
    made = as_module(path, model.config)
    given = tensors(11, 3, 30, 1)
    with torch.inference_mode():
        wanted, answered = model(**given), made(**given)
        alone = [made(**{k: v[i : i + 1, :n] for k, v in given.items()}) for i, n in
                 enumerate((11, 3, 30, 1))]  # fmt: skip
    for key in answered.keys() - {"loss"}:
        rows = wanted[key].shape
        assert answered[key].shape == rows
        for index, length in enumerate((11, 3, 30, 1)):
            own = (index, slice(length)) if len(rows) > 1 and rows[1] == 30 else (index,)
            assert torch.equal(answered[key][own], alone[index][key][0])
            apart = (answered[key][own] - wanted[key][own]).square().mean().sqrt()
            assert apart < 0.2 * wanted[key].std()
