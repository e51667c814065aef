"""What a job may begin with: files, an archive of them, an adapter and its base."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.config import load_config
from sm_train.contract import Paths
from sm_train.errors import UserError
from sm_train.modelling.base_model import BaseModel, resolve_base_model

LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "org/base"}
Hyperparameters = Callable[..., None]


def whole(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def adapter(folder: Path, **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**LORA, **settings}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def pack(folder: Path, archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=".")


def resolve(paths: Paths, hyperparameters: Hyperparameters, **given: Any) -> BaseModel:
    hyperparameters(method="sft", **given)
    return resolve_base_model(paths, load_config(paths))


def test_an_archive_is_unpacked_once(
    paths: Paths, hyperparameters: Hyperparameters, tmp_path: Path
) -> None:
    archive = paths.channels / "model" / "model.tar.gz"
    pack(whole(tmp_path / "made"), archive)
    pack(tmp_path / "made", archive.with_name("output.tar.gz"))  # of the same job, in local mode
    first = resolve(paths, hyperparameters)
    mark = Path(first.source) / "mark"
    mark.touch()
    assert resolve(paths, hyperparameters) == first
    assert mark.exists()
    assert first.adapter is None
    (paths.channels / "model" / "model.tar.gz").unlink()
    pack(whole(tmp_path / "other" / "inside").parent, archive)
    again = resolve(paths, hyperparameters)
    assert again != first
    assert Path(again.source).name == "inside"


def test_an_archive_that_cannot_be_one_is_refused(
    paths: Paths, hyperparameters: Hyperparameters, tmp_path: Path
) -> None:
    folder = paths.channels / "model"
    pack(whole(tmp_path / "made"), folder / "a.tar.gz")
    data = (folder / "a.tar.gz").read_bytes()
    pack(tmp_path / "made", folder / "b.tgz")
    with pytest.raises(UserError, match=r"holds 2 archives: a\.tar\.gz, b\.tgz"):
        resolve(paths, hyperparameters)
    (folder / "b.tgz").unlink()
    for broken in (data[:40], b"no archive", b""):
        (folder / "a.tar.gz").write_bytes(broken)
        with pytest.raises(UserError, match="cannot be unpacked"):
            resolve(paths, hyperparameters)
    for name in ("../outside", "/outside"):
        with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        with pytest.raises(UserError, match="outside, which is no file"):
            resolve(paths, hyperparameters)
    assert not list(paths.scratch.iterdir())


def test_the_base_of_an_adapter(
    paths: Paths, hyperparameters: Hyperparameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    folder = adapter(paths.channels / "model")
    assert resolve(paths, hyperparameters) == BaseModel("org/base", folder)
    channel = whole(paths.channels / "base")
    assert resolve(paths, hyperparameters) == BaseModel(str(channel), folder)
    inside = whole(folder / "base")
    assert resolve(paths, hyperparameters) == BaseModel(str(inside), folder)
    # Merged weights with the adapter beside them are a whole model.
    whole(folder)
    adapter(folder / "adapter")
    assert resolve(paths, hyperparameters) == BaseModel(str(folder))


@pytest.mark.parametrize(
    ("settings", "hyper", "message"),
    [
        ({"base_model_name_or_path": "/opt/ml/input/data/model"}, {}, "this job does not have"),
        ({"base_model_name_or_path": None}, {}, "not named"),
        ({"peft_type": "IA3"}, {}, "is no LoRA adapter"),
        ({}, {"use_peft": "true", "export": "adapter"}, "which nobody has"),
    ],
)
def test_an_adapter_that_cannot_be_gone_on_with_is_refused(
    paths: Paths,
    hyperparameters: Hyperparameters,
    settings: dict[str, Any],
    hyper: dict[str, str],
    message: str,
) -> None:
    adapter(paths.channels / "model", **settings)
    with pytest.raises(UserError, match=message):
        resolve(paths, hyperparameters, **hyper)


def test_an_adapter_is_no_teacher(paths: Paths, hyperparameters: Hyperparameters) -> None:
    from sm_train.modelling.base_model import resolve_model

    adapter(paths.channels / "teacher")
    with pytest.raises(UserError, match="holds an adapter alone"):
        resolve_model(paths, "channel:teacher", "teacher_model_name_or_path")
