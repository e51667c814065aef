"""Which number type a job computes in, by what the machine has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sm_train.config import ModelArguments
from sm_train.modelling.model import has_bf16, mixed_precision, weight_type, widen_trained

pytestmark = pytest.mark.slow  # imports torch


@pytest.mark.parametrize(
    ("able", "computes"),
    [
        ({}, False),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
    ],
)
def test_a_cpu_that_multiplies_bfloat16_itself(
    able: dict[str, bool], computes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert has_bf16() is computes


@pytest.mark.parametrize(
    ("capability", "given", "weights", "computes"),
    [
        ((9, 0), {}, "bfloat16", {"bf16": True, "fp16": False}),
        ((8, 0), {"fp16": True}, "bfloat16", {"bf16": False, "fp16": False}),
        ((7, 5), {}, "float16", {"bf16": False, "fp16": True}),
        ((7, 0), {"bf16": True}, "float16", {"bf16": False, "fp16": False}),
    ],
)
def test_a_gpu_that_emulates_bfloat16_does_not_have_it(
    capability: tuple[int, int],
    given: dict[str, bool],
    weights: str,
    computes: dict[str, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    major, minor = capability
    card = SimpleNamespace(major=major, minor=minor)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _=0: card)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True)
    assert mixed_precision(given) == computes  # beside what is given, which comes on top
    assert weight_type(ModelArguments(use_peft=True)) == weights
    assert weight_type(ModelArguments()) == "float32"


@pytest.mark.parametrize(
    ("computed", "weights", "adapter", "widened"),
    [
        ("fp16", "float16", True, True),
        ("fp16", "bfloat16", False, True),  # float16's loss scaling takes float32 alone
        ("bf16", "bfloat16", True, True),
        ("bf16", "bfloat16", False, False),  # full training in bfloat16 was asked for
        ("no", "bfloat16", True, False),
    ],
)
def test_what_is_trained_keeps_small_steps(
    computed: str, weights: str, adapter: bool, widened: bool
) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model.to(getattr(torch, weights))[0].requires_grad_(False)
    if adapter:
        model.peft_config = {}
    arguments = SimpleNamespace(bf16=computed == "bf16", fp16=computed == "fp16")
    assert bool(widen_trained(model, arguments)) is widened
    frozen, trained = (layer.weight.dtype for layer in model)
    assert frozen == getattr(torch, weights)
    assert trained == (torch.float32 if widened else frozen)


def test_weights_on_a_cpu_stay_exact() -> None:
    assert weight_type(ModelArguments(use_peft=True)) == "float32"
    assert weight_type(ModelArguments(use_peft=True, dtype="bfloat16")) == "bfloat16"
