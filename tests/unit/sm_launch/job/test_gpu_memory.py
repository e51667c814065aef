"""GPU memory of a training: what is loaded counts, as values or as text."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import yaml

from sm_launch.job.config import load_config
from sm_launch.job.estimate import other_models
from sm_launch.job.memory import memory

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


def test_an_encoder_decoder_holds_what_it_reads_and_what_it_writes():
    own = {"method": "seq2seq", "per_device_train_batch_size": 8}
    lengths = {"max_source_length": 512, "max_target_length": 128}
    whole = gib(**own, **lengths)
    assert whole == gib(**own)  # the method's own defaults
    assert gib(**own, **{**lengths, "max_source_length": 256}) < whole
    assert gib(**own, **{**lengths, "max_target_length": "64"}) < whole


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


@pytest.mark.parametrize(
    ("setting", "named", "expected"),
    [
        ("teacher_model_name_or_path", "org/big-14B", 14e9),
        ("reward_model_name_or_path", '"org/judge-3b"', 3e9),
        ("teacher_model_name_or_path", "channel:teacher", 6),
        ("teacher_model_name_or_path", "files/teacher", 6),
        ("teacher_model_name_or_path", "org/mystery", None),
    ],
)
def test_other_models_in_memory_count(setting, named, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "files" / "teacher"
    folder.mkdir(parents=True)
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}})
    content = struct.pack("<Q", len(header)) + header.encode() + bytes(24)
    (folder / "model.safetensors").write_bytes(content)
    training = {"model": "org/tiny-1b", "channels": {"train": "t.jsonl", "teacher": str(folder)}}
    training["hyperparameters"] = {setting: named}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({"name": "mine", "training": training}))
    models = other_models(load_config(Path("job.yaml"), ()))
    assert list(models.values()) == [expected]
    more = memory(SIZE, {}, models).total_gib - memory(SIZE, {}).total_gib
    assert more * 2**30 >= 2 * (expected or 0)
    unknown = any("size unknown" in line for line in memory(SIZE, {}, models).lines)
    assert unknown is (expected is None)
