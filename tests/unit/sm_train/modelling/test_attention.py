"""Which attention is taken, by what the machine has, and why."""

from __future__ import annotations

import pytest

from sm_train.modelling.model import choose_attention
from sm_train.settings.arguments import ModelArguments

pytestmark = pytest.mark.slow  # imports torch


@pytest.mark.parametrize(
    ("capability", "installed", "name", "why"),
    [
        (None, (), None, "no GPU"),
        (7, (2,), None, "FlashAttention needs compute capability 8, this GPU has 7"),
        (8, (), None, "not installed: flash-attn 2, for compute capability 8"),
        (8, (2, 3, 4), "flash_attention_2", "flash-attn 2 is installed"),
        (8, (4,), None, "not installed: flash-attn 2, for compute capability 8"),
        (9, (2, 4), "flash_attention_2", "flash-attn 2 is installed"),
        (9, (2, 3, 4), "flash_attention_3", "flash-attn 3 is installed"),
        (9, (4,), "flash_attention_4", "flash-attn 4 is installed"),
        (10, (2, 3, 4), "flash_attention_4", "flash-attn 4 is installed"),
        (10, (2, 3), "flash_attention_2", "flash-attn 2 is installed"),
        (12, (3, 4), None, "not installed: flash-attn 2, for compute capability 12"),
        (11, (2,), None, "not installed: none known, for compute capability 11"),
    ],
)
def test_the_best_that_is_there(
    capability: int | None,
    installed: tuple[int, ...],
    name: str | None,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    import transformers.utils

    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (capability, 0))
    for number in (2, 3, 4):
        monkeypatch.setattr(
            transformers.utils,
            f"is_flash_attn_{number}_available",
            lambda number=number: number in installed,
        )
    chosen = choose_attention(ModelArguments())
    assert (chosen.name, chosen.why) == (name, why)
    forced = choose_attention(ModelArguments(attn_implementation="eager"))
    assert (forced.name, forced.why) == ("eager", "as attn_implementation says")
