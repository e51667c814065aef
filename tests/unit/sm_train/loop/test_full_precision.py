"""Test rows are scored as a server on CPUs computes, whatever training computes in."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402

from sm_train.loop.full_precision import in_full_precision  # noqa: E402

pytestmark = pytest.mark.slow  # imports torch


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """accelerate keeps one state a process, which other tests have made or will make."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def prepared(model: Any, **kind: bool) -> Any:
    """A trainer's view of a model that accelerate has wrapped in autocast."""
    trainer = {"is_fsdp_enabled": False, "is_deepspeed_enabled": False, **kind}
    made = Accelerator(mixed_precision="bf16", cpu=True).prepare_model(model)
    return SimpleNamespace(model=made, **trainer)


@pytest.fixture
def layer() -> Any:
    torch.manual_seed(1)
    return torch.nn.Linear(64, 3)


ROWS = torch.randn(8, 64, generator=torch.Generator().manual_seed(2))


def test_autocast_is_left_out_and_comes_back(layer: Any) -> None:
    wanted = layer(ROWS)
    trainer = prepared(layer)
    halved = trainer.model(ROWS)
    assert not torch.equal(halved, wanted)
    with pytest.raises(KeyError), in_full_precision(trainer):
        assert torch.equal(trainer.model(ROWS), wanted)
        raise KeyError
    assert torch.equal(trainer.model(ROWS), halved)


@pytest.mark.parametrize("kind", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_shards_keep_their_own(layer: Any, kind: str) -> None:
    trainer = prepared(layer, **{kind: True})
    halved = trainer.model(ROWS)
    with in_full_precision(trainer):
        assert torch.equal(trainer.model(ROWS), halved)


def test_weights_of_several_types_need_autocast() -> None:
    mixed = torch.nn.Sequential(torch.nn.Linear(64, 8, dtype=torch.bfloat16), torch.nn.Linear(8, 3))
    trainer = prepared(mixed)
    with in_full_precision(trainer):
        assert trainer.model(ROWS).shape == (8, 3)
