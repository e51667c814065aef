"""Encoders that compute no padding: the same answers, and models that cannot are left alone."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from sm_serve.engines.encoders import unpadding  # noqa: E402
from sm_serve.engines.encoders.unpadding import remove_padding  # noqa: E402

pytestmark = pytest.mark.slow  # imports torch

SIZES = {
    "vocab_size": 90, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 40,
}  # fmt: skip
DISTILBERT = {"vocab_size": 90, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}
GPT2 = {"vocab_size": 90, "n_embd": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0}


def make_model(config: str, sizes: dict[str, Any], head: str = "SequenceClassification") -> Any:
    import transformers

    torch.manual_seed(5)
    made = getattr(transformers, f"{config}Config")(**sizes, num_labels=3)
    made.bos_token_id = made.eos_token_id = None
    suffix = f"For{head}" if head else ""
    return getattr(transformers, f"AutoModel{suffix}").from_config(made).eval()


def answers(model: Any, lengths: list[int]) -> list[Any]:
    """Each text's rows of the first output, and what a head of the whole text says."""
    width = max(lengths)
    mask = torch.tensor([[1] * n + [0] * (width - n) for n in lengths])
    ids = (torch.arange(mask.numel()).view_as(mask) * 7 % 80 + 5) * mask
    with torch.inference_mode():
        output = model(input_ids=ids, attention_mask=mask)
    first = output[0]
    return [row[:n] if row.dim() == 2 else row for row, n in zip(first, lengths, strict=True)]


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        ("Bert", SIZES),
        ("Roberta", SIZES),
        ("XLMRoberta", SIZES),
        ("Electra", {**SIZES, "embedding_size": 16}),
        ("Albert", {**SIZES, "embedding_size": 16}),
        ("DistilBert", DISTILBERT),
    ],
)
@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification", ""])
def test_answers_are_those_of_a_padded_batch(config: str, sizes: dict[str, Any], head: str) -> None:
    model = make_model(config, sizes, head)
    batches = [[7, 2, 19, 1, 7], [4, 4, 4], [11]]
    before = [answers(model, lengths) for lengths in batches]
    assert remove_padding(model)
    for rows, lengths in zip(before, batches, strict=True):
        for one, other in zip(rows, answers(model, lengths), strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_the_layers_see_no_padding() -> None:
    model = make_model("Bert", SIZES)
    assert remove_padding(model)
    seen = []
    model.bert.encoder.layer[1].register_forward_pre_hook(
        lambda _, values: seen.append(tuple(values[0].shape))
    )
    answers(model, [7, 2, 19, 1])
    assert seen == [(1, 29, 32)]


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        pytest.param("DebertaV2", SIZES, id="has attention of its own"),
        pytest.param("MPNet", SIZES, id="adds positions within its stack"),
        pytest.param("GPT2", GPT2, id="has no stack of bidirectional layers"),
    ],
)
def test_other_models_stay_as_they_are(config: str, sizes: dict[str, Any]) -> None:
    model = make_model(config, sizes)
    before, implementation = answers(model, [7, 2, 19]), model.config._attn_implementation
    assert not remove_padding(model)
    assert model.config._attn_implementation == implementation
    for one, other in zip(before, answers(model, [7, 2, 19]), strict=True):
        assert torch.equal(one, other)


def test_a_model_that_answers_otherwise_is_left_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    def across_texts(module: Any, query: Any, key: Any, value: Any, _: Any, **__: Any) -> Any:
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2), None

    monkeypatch.setattr(unpadding, "attend", across_texts)
    model = make_model("Bert", SIZES)
    before = answers(model, [7, 2, 19])
    assert not remove_padding(model)
    for one, other in zip(before, answers(model, [7, 2, 19]), strict=True):
        assert torch.equal(one, other)
