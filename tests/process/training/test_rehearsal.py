"""What export refuses is known before the first step."""

from __future__ import annotations

from collections.abc import Callable
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
