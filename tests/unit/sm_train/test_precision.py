"""Which number type a job computes in, by what the machine has."""

from __future__ import annotations

import pytest

from sm_train.config import ModelArguments
from sm_train.model import has_bf16, weight_type

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


def test_weights_on_a_cpu_stay_exact() -> None:
    assert weight_type(ModelArguments(use_peft=True)) == "float32"
    assert weight_type(ModelArguments(use_peft=True, dtype="bfloat16")) == "bfloat16"
