"""What export refuses is known before the first step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sm_train.errors import UserError
from sm_train.loop import rehearsal

pytestmark = pytest.mark.slow

SETTINGS = {"method": "sft", "max_steps": 1, "report_to": "none", "bf16": False}
LORA = {"use_peft": True, "lora_dropout": 0}
ROWS = [{"prompt": f"w{i}", "completion": f" w{i + 1}"} for i in range(8)]
NewJob = Callable[..., Any]


def refused(job: Any) -> str:
    """Why; nothing was trained, and nothing is left behind."""
    with pytest.raises(UserError) as raised:
        job.train_here()
    assert not (job.path / "output" / "data" / "training_log.jsonl").exists() or not job.log
    assert not list(job.checkpoints.glob("checkpoint-*"))
    assert not list(job.path.glob(".model*"))
    return str(raised.value)


def test_a_place_that_cannot_be_written(new_job: NewJob, decoder: Path) -> None:
    job = new_job(SETTINGS, train=ROWS, model=decoder)
    job.model.symlink_to("/proc/self")
    assert "model directory = " in (told := refused(job))
    assert "the trained model could not be written" in told


@pytest.mark.parametrize("own", [{}, LORA, {**LORA, "export": "adapter"}])
def test_a_disk_that_the_model_does_not_fit_on(
    own: dict[str, Any], new_job: NewJob, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=500))
    monkeypatch.setattr(rehearsal, "shutil", free)
    job = new_job({**SETTINGS, **own}, train=ROWS, model=decoder)
    assert "not enough disk for the trained model" in refused(job)


def test_an_adapter_that_cannot_be_merged(
    new_job: NewJob, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora import Linear

    def merge(*_: Any, **__: Any) -> None:
        raise NotImplementedError("not of this kind of layer")

    monkeypatch.setattr(Linear, "merge", merge)
    job = new_job({**SETTINGS, **LORA}, train=ROWS, model=decoder)
    assert "the adapter could not be merged" in refused(job)


def test_a_tokenizer_that_cannot_be_saved(
    new_job: NewJob, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedTokenizerFast

    def save(*_: Any, **__: Any) -> None:
        raise TypeError("Object of type dtype is not JSON serializable")

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", save)
    job = new_job(SETTINGS, train=ROWS, model=decoder)
    assert "could not be saved once it is trained: TypeError" in refused(job)


QLORA = {**LORA, "lora_target_modules": ["q_proj", "down_proj"]}


def spoil_nothing(base: Any, source: Path) -> None:
    """As it is."""


def quantise_files(base: Any, source: Path) -> None:
    """As the many bases that are published in four bits: their files say so."""
    path = source / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    path.write_text(json.dumps(config))


def describe_less(base: Any, source: Path) -> None:
    base.config.intermediate_size //= 2


def describe_fewer_layers(base: Any, source: Path) -> None:
    base.config.num_hidden_layers -= 1


def enlarge_a_weight(base: Any, source: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(source / "model.safetensors")
    weights["model.norm.weight"][0] = 1e6
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "own", "message"),
    [
        (spoil_nothing, {}, ""),
        (spoil_nothing, {"dtype": "float16"}, ""),
        (quantise_files, {}, "export = 'merged': cannot be merged: the base model's files hold"),
        (describe_less, {}, "down_proj has no place in a LlamaForCausalLM of the base model's"),
        (describe_fewer_layers, {}, "q_proj has no place"),
        (enlarge_a_weight, {"dtype": "float16"}, "dtype = 'float16': a weight of 1e"),
    ],
)
def test_a_merge_into_files_that_could_not_take_it(
    spoil: Callable[[Any, Path], None],
    own: dict[str, Any],
    message: str,
    new_job: NewJob,
    decoder: Path,
    tmp_path: Path,
) -> None:
    """As with four bits and shards, whose merge runs in a process of its own at the end."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sm_train.contract import Paths
    from sm_train.entry import checked_job
    from sm_train.platform.stopping import StopRequest

    shutil.copytree(decoder, source := tmp_path / "base")
    job = new_job({**SETTINGS, **QLORA, **own}, train=ROWS, model=source)
    checked = checked_job(Paths(job.path), StopRequest(), 0.0)
    read = Path(checked.model_source)
    model = AutoModelForCausalLM.from_pretrained(read)
    lora = LoraConfig(target_modules=QLORA["lora_target_modules"])
    spoil(model, read)
    tuned, tokenizer = get_peft_model(model, lora), AutoTokenizer.from_pretrained(read)
    dtype = getattr(torch, own.get("dtype", "float32"))
    with pytest.raises(UserError, match=message) if message else nullcontext():
        rehearsal._check_reloads(checked, tuned, tokenizer, tmp_path / "described", dtype)


def test_a_weight_that_the_files_lack_is_not_drawn(tmp_path: Path) -> None:
    from sm_train.results.reloading import Plan, _check_read

    (tmp_path / "adapter_config.json").write_text('{"modules_to_save": ["score"]}')
    values = {f.name: "" for f in fields(Plan)} | {"adapter": str(tmp_path), "export": "merged"}
    plan = Plan(**values)
    _check_read({"missing_keys": {"score.weight"}, "mismatched_keys": set()}, plan)
    loading_info = {"missing_keys": {"score.weight", "model.norm.weight"}, "mismatched_keys": set()}
    with pytest.raises(UserError, match=r"lack 1 weights of .*, such as model\.norm"):
        _check_read(loading_info, plan)
