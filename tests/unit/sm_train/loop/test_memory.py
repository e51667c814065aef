"""What a job does when memory runs out, and when it dares to keep activations."""

from __future__ import annotations

from pathlib import Path

import pytest

from sm_train.config import parse_config
from sm_train.loop import memory
from sm_train.loop.activations import Shape, needed_bytes
from sm_train.loop.memory import HALVINGS, RECOMPUTE, WHILE_TRAINING, follow_note, note_for_launcher
from sm_train.loop.memory import retry as next_try
from sm_train.methods import load_method

GIB = 2**30
LLAMA_1B = Shape(2048, 16, 8192, 128_256, 1_240_000_000)
LLAMA_8B = Shape(4096, 32, 14_336, 128_256, 8_030_000_000)


def out_of_memory(*, training: bool = True) -> RuntimeError:
    error = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if training:
        error.add_note(WHILE_TRAINING)
    return error


@pytest.mark.parametrize(
    ("settings", "training", "expected"),
    [
        ({"method": "sft"}, True, [RECOMPUTE]),
        ({"method": "sft"}, False, []),
        ({"method": "sft", "auto_find_batch_size": True}, True, [RECOMPUTE, *[HALVINGS] * 3]),
        ({"method": "sft", "auto_find_batch_size": True}, False, [HALVINGS] * 3),
        ({"method": "dpo", "activation_checkpointing": False}, True, []),
        ({"method": "sft", "gradient_checkpointing": True}, True, []),
        ({"method": "text-classification"}, True, []),
    ],
)
def test_what_takes_less_memory_is_tried_before_what_changes_the_batch(
    settings: dict[str, object],
    training: bool,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name in (RECOMPUTE, HALVINGS):
        monkeypatch.setenv(name, "0")
    memory.set_mark(tmp_path / "mark")
    config = parse_config({"per_device_train_batch_size": 8, **settings})
    tried = []
    while change := next_try(config, out_of_memory(training=training)):
        tried += list(change.environment)
        note_for_launcher(change)  # as a worker does, and the process that started it
        assert follow_note(tmp_path / "mark")
    assert tried == expected
    assert not follow_note(tmp_path / "mark")
    assert next_try(config, ValueError("of another kind")) is None


@pytest.mark.parametrize(
    ("shape", "method", "rows", "adapters", "gib", "fits"),
    [
        (LLAMA_1B, "sft", 8, False, 139, True),
        (LLAMA_1B, "sft", 8, False, 22, False),
        (LLAMA_1B, "sft", 1, True, 22, True),
        (LLAMA_8B, "sft", 1, True, 139, True),
        (LLAMA_8B, "sft", 8, True, 79, False),
        (LLAMA_8B, "dpo", 8, True, 139, False),
    ],
)
def test_activations_are_kept_where_they_clearly_fit(
    shape: Shape, method: str, rows: int, adapters: bool, gib: int, fits: bool
) -> None:
    held = load_method(method).in_memory
    assert held is not None
    needed = needed_bytes(shape, held, rows * 1024, adapters=adapters, width=2, half=True)
    assert (needed < 0.7 * gib * GIB) is fits
