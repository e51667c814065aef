"""Settings whose package is not installed are refused, here and on the laptop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sm_launch.errors import UserInputError
from sm_launch.job.hyperparameters import check_image_has
from sm_train.config import parse_config
from sm_train.errors import UserError
from sm_train.settings import packages
from sm_train.settings.reporters import KNOWN

LOCKS = Path(__file__).resolve().parents[4] / "containers" / "train" / "locks"
SAMPLING = {"method": "grpo"}
CASES = [
    ({**SAMPLING, "use_vllm": "true"}, "use_vllm", "vllm"),
    ({"method": "rloo", "use_vllm": True}, "use_vllm", "vllm"),
    ({"method": "sft", "parallelism": "zero3"}, "parallelism", "deepspeed"),
    ({"method": "sft", "deepspeed": {"zero_optimization": {"stage": 2}}}, "deepspeed", "deepspeed"),
    ({"method": "dpo", "optim": "galore_adamw_8bit"}, "optim", "galore_torch"),
    ({"method": "sft", "optim": "adamw_bnb_8bit"}, "optim", "bitsandbytes"),
    ({"method": "sft", "optim": "paged_lion_32bit"}, "optim", "bitsandbytes"),
    ({"method": "sft", "use_liger_kernel": True}, "use_liger_kernel", "liger_kernel"),
    ({"method": "sft", "attn_implementation": "flash_attention_2"}, "attn_implementation",
     "flash_attn"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "key", "package"), CASES)
def test_the_container_refuses_it(
    settings: dict[str, Any], key: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "installed", lambda module: False)
    with pytest.raises(UserError, match=f"^{key} = .*: needs the package {package}"):
        parse_config(settings)
    monkeypatch.setattr(packages, "installed", lambda module: True)
    assert parse_config(settings)


@pytest.mark.parametrize("value", [False, "false"])
def test_what_is_off_needs_nothing(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed", lambda module: False)
    assert parse_config({**SAMPLING, "use_vllm": value, "optim": "adamw_torch_fused"})


@pytest.mark.parametrize(("settings", "key", "package"), CASES)
def test_the_laptop_refuses_what_no_image_of_ours_has(
    settings: dict[str, Any], key: str, package: str
) -> None:
    refused = {module for each in packages.missing_in_images() for module in each["modules"]}
    registry = "1.dkr.ecr.eu-west-1.amazonaws.com"
    for image in ("sm-train:abc-gpu", f"{registry}/sm-train@sha256:1", f"{registry}/ml/sm-train:a"):
        if package in refused:
            with pytest.raises(UserInputError, match=f"{key}.*needs the package {package}"):
                check_image_has(image, settings)
        else:
            check_image_has(image, settings)
    for other in ("sm-train:process", f"{registry}/mine:abc", f"{registry}/my-sm-train-vllm:abc"):
        check_image_has(other, settings)


def test_what_is_no_package_no_image_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed", lambda module: True)
    told = "needs the server of a Kubeflow TrainJob"
    for given in ("kubeflow", ["tensorboard", "kubeflow"], '["kubeflow"]'):
        with pytest.raises(UserError, match=told):
            parse_config({"method": "sft", "report_to": given})
        for image in ("sm-train:abc", "sm-train:process", "registry/mine:abc"):
            with pytest.raises(UserInputError, match=told):
                check_image_has(image, {"report_to": given})


def test_every_tracker_is_one_that_the_images_have_or_refused_by_name() -> None:
    refused = [need for need in packages.missing_in_images() if need["key"] == "report_to"]
    for name in KNOWN:
        lacking = [need for need in refused if re.fullmatch(need["values"], name)]
        assert len(lacking) == (name not in {"all", "none", "tensorboard", "mlflow"}), name


def test_the_locks_agree_with_what_images_are_said_to_have() -> None:
    text = "".join((LOCKS / f"{flavor}.txt").read_text() for flavor in ("cpu", "gpu"))
    locked = {name.replace("-", "_") for name in re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)}
    for need in packages.NEEDS:
        if not need.in_images:
            assert not locked & set(need.modules)
    assert {"bitsandbytes", "liger_kernel"} <= locked
