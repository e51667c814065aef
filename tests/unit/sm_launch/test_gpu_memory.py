"""GPU memory of a training: what is loaded counts, as values or as text."""

from __future__ import annotations

import pytest

from sm_launch.job.estimate import memory

SIZE = 7e9


def gib(**hyperparameters) -> float:
    return memory(SIZE, hyperparameters).total_gib


@pytest.mark.parametrize("name", ["use_peft", "load_in_4bit", "load_in_8bit"])
@pytest.mark.parametrize(("on", "off"), [(True, False), ("true", "false"), ("1", "0"), (1, 0)])
def test_a_flag_means_the_same_as_text(name, on, off):
    peft = {} if name == "use_peft" else {"use_peft": True}
    assert gib(**peft, **{name: on}) < gib(**peft)
    assert gib(**peft, **{name: off}) == gib(**peft)
    assert gib(**peft, **{name: on}) == gib(**peft, **{name: True})


def test_fewer_bits_take_less():
    eight, four = gib(use_peft=True, load_in_8bit=True), gib(use_peft=True, load_in_4bit=True)
    assert four < eight < gib(use_peft=True) == gib(use_peft=True, dtype="bfloat16")
    assert gib(use_peft=True, dtype="float32") > gib(use_peft=True)
    assert gib(dtype="bfloat16") < gib()


@pytest.mark.parametrize(
    ("settings", "has_one"),
    [
        ({"method": "dpo"}, True),
        ({"method": "kto"}, True),
        ({"method": "dpo", "use_peft": "true"}, False),
        ({"method": "dpo", "precompute_ref_log_probs": "true"}, False),
        ({"method": "grpo"}, False),
        ({"method": "grpo", "beta": "0.04"}, True),
        ({"method": "rloo"}, True),
        ({"method": "sft"}, False),
    ],
)
def test_the_reference_model_counts(settings, has_one):
    lines = memory(SIZE, settings).lines
    assert any(line.startswith("reference ") for line in lines) is has_one
