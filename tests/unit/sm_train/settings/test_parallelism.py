"""How processes share a model, what is refused, and the environment that torchrun gets."""

from __future__ import annotations

from typing import Any

import pytest

from sm_train.config import parse_config
from sm_train.contract import Cluster
from sm_train.errors import UserError
from sm_train.launch import torchrun, worker_environment
from sm_train.settings import packages
from sm_train.settings.parallelism import check_hardware, parallel_settings, uses_shards
from sm_train.settings.settings import Config


def config(**settings: Any) -> Config:
    return parse_config({"method": "sft", **settings})


def test_fsdp_becomes_fsdp2_with_its_own_recomputation() -> None:
    settings = parallel_settings(config(parallelism="fsdp"), recompute=True)
    assert settings["fsdp"] is True
    assert settings["fsdp_config"]["version"] == 2
    assert settings["fsdp_config"]["activation_checkpointing"] is True
    assert settings["activation_checkpointing"] is False


def test_transformers_own_fields_pass_through() -> None:
    given = config(fsdp="true", fsdp_config={"reshard_after_forward": False})
    settings = parallel_settings(given, recompute=False)
    assert settings["fsdp"] is True
    assert settings["fsdp_config"]["reshard_after_forward"] is False
    assert "activation_checkpointing" not in settings["fsdp_config"]
    assert uses_shards(given)


def test_copies_need_no_settings() -> None:
    for given in (config(), config(parallelism="ddp")):
        assert parallel_settings(given, recompute=True) == {}
        assert not uses_shards(given)
        check_hardware(given, gpus=0)


@pytest.mark.parametrize(("name", "stage"), [("zero2", 2), ("zero3", 3)])
def test_zero_takes_the_rest_from_the_training_arguments(
    name: str, stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "installed", lambda package: True)
    settings = parallel_settings(config(parallelism=name), recompute=True)["deepspeed"]
    assert settings["zero_optimization"]["stage"] == stage
    gathers = settings["zero_optimization"].get("stage3_gather_16bit_weights_on_model_save")
    assert gathers is (True if stage == 3 else None)
    assert settings["train_micro_batch_size_per_gpu"] == "auto"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parallelism": "fsdp", "fsdp": "true"}, "parallelism = 'fsdp': contradicts"),
        ({"parallelism": "zero3"}, "parallelism = 'zero3': needs the package deepspeed"),
        ({"parallelism": "zero"}, "parallelism = 'zero'"),
        ({"deepspeed": {"zero_optimization": {"stage": 4}}}, "deepspeed = "),
        ({"deepspeed": {"zero_optimization": 2}}, "deepspeed = "),
        ({"deepspeed": "nowhere.json"}, "deepspeed = 'nowhere.json': is neither"),
    ],
)
def test_what_cannot_be_is_refused(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "installed", lambda package: False)
    with pytest.raises(UserError) as caught:
        config(**settings)
    assert str(caught.value).startswith(message)


def test_shards_without_gpus_are_refused_not_ignored() -> None:
    with pytest.raises(UserError, match=r"parallelism = 'fsdp': needs GPUs"):
        check_hardware(config(parallelism="fsdp"), gpus=0)
    check_hardware(config(parallelism="fsdp"), gpus=8)


def test_quantised_weights_without_a_gpu_or_the_package_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = config(load_in_4bit=True, use_peft=True)
    with pytest.raises(UserError, match="load_in_4bit = True: quantised training needs an NVIDIA"):
        check_hardware(given, gpus=0)
    monkeypatch.setattr(packages, "installed", lambda package: False)
    with pytest.raises(UserError, match="load_in_4bit = True: needs the package bitsandbytes"):
        check_hardware(given, gpus=1)


def test_ranks_are_static_and_the_leader_is_where_they_meet() -> None:
    hosts = ("algo-1", "algo-2")
    command = torchrun(Cluster(hosts, "algo-2", "eth1", "ml.g5.12xlarge"), 4)
    for argument in ("--nnodes=2", "--node-rank=1", "--nproc-per-node=4", "--master-addr=algo-1"):
        assert argument in command


@pytest.mark.parametrize(
    ("instance", "efa"),
    [("ml.p5.48xlarge", True), ("ml.p4d.24xlarge", True), ("ml.g5.12xlarge", False)],
)
def test_efa_where_the_instance_has_it(
    instance: str, efa: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FI_PROVIDER", raising=False)
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    variables = worker_environment(Cluster(("a", "b"), "a", "eth1", instance))
    assert variables["NCCL_SOCKET_IFNAME"] == "eth1"
    assert (variables.get("FI_PROVIDER") == "efa") is efa
