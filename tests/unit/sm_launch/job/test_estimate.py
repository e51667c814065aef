"""Memory, suggestion and price: the arithmetic, and the guard that keeps to it."""

from __future__ import annotations

import gzip
import importlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import moto.ec2
import pytest

from sm_launch.aws.service_model import service_model
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import costs, estimate
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameters import default_of, methods
from sm_launch.job.instances import Prices, bundled_prices, gpu_instances, has_gpu
from sm_launch.job.memory import FORMER_NAMES, IN_MEMORY, LORA_RANK, Memory, memory
from sm_train.settings import keys

BUNDLED = bundled_prices()


def test_parameters_are_counted_or_read_off_the_name(tmp_path: Path) -> None:
    header = json.dumps(
        {"__metadata__": {"a": "b"}, "w": {"shape": [10, 20]}, "b": {"shape": [7]}}
    ).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert estimate.parameter_count("org/thing-7B", tmp_path) == 207
    assert estimate.parameter_count("meta-llama/Llama-3.1-8B-Instruct") == 8e9
    assert estimate.parameter_count("org/tiny-500m") == 5e8
    assert estimate.parameter_count("distilbert-base-uncased") == 67e6
    assert estimate.parameter_count("answerdotai/ModernBERT-large") == 396e6
    assert estimate.parameter_count("distilbert/distilroberta-base") == 82e6
    assert estimate.parameter_count("org/some-8x7B") is None
    assert estimate.parameter_count("org/who-knows") is None


def test_memory_of_full_training_and_of_lora() -> None:
    one = {"method": "sft", "per_device_train_batch_size": 1}
    full = memory(7e9, one)
    assert full.total_gib == pytest.approx(7e9 * (4 + 12) / 2**30, rel=0.03)
    small = memory(7e9, {**one, "use_peft": True, "load_in_4bit": True})
    assert small.total_gib < 8
    assert "LoRA" in small.lines[1]
    assert estimate.suggest(small, BUNDLED).gpus == 1
    with pytest.raises(LaunchError, match="no single instance"):
        estimate.suggest(memory(7e11, {}), BUNDLED)


def test_copies_need_the_memory_of_each_gpu_and_shards_a_part_of_it() -> None:
    settings = {"method": "sft", "per_device_train_batch_size": 1}
    copies = memory(13e9, settings)
    assert copies.on(8) == copies.total_gib
    with pytest.raises(LaunchError, match="on each GPU"):
        estimate.suggest(copies, BUNDLED)
    shards = memory(13e9, {**settings, "parallelism": "fsdp"})
    assert shards.total_gib == copies.total_gib
    assert shards.on(8) < copies.total_gib / 6
    assert estimate.suggest(shards, BUNDLED).gpus == 8
    half = memory(13e9, {**settings, "parallelism": "zero2"})
    assert shards.on(8) < half.on(8) < copies.total_gib
    told = estimate.estimate(job(model="org/m-13b", method="sft", hyperparameters=SHORT), BUNDLED)
    assert told.suggestion and told.suggestion.gpus == 8
    assert told.advice == "with parallelism: fsdp"


SHORT = {"per_device_train_batch_size": 1}


def test_lora_of_eight_billion_fits_one_cheap_gpu() -> None:
    lora = {"use_peft": True}
    told = estimate.estimate(job(model="org/L-8B", method="sft", hyperparameters=lora), BUNDLED)
    assert told.suggestion
    assert (told.suggestion.type, told.suggestion.gpus) == ("ml.g6e.xlarge", 1)
    kept = estimate.Described(config=LLAMA_8B)
    told = estimate.estimate(
        job(model="org/mine", method="sft", hyperparameters=lora), BUNDLED, described=kept
    )
    assert told.parameters == pytest.approx(8.03e9, rel=0.001)
    assert told.suggestion and told.suggestion.type == "ml.g6e.xlarge"


LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fits"),
    [("ml.g5.xlarge", False), ("ml.g6e.xlarge", True), ("ml.g5.48xlarge", False),
     ("ml.p5.48xlarge", True), ("ml.m5.xlarge", None)],
)  # fmt: skip
def test_the_jobs_own_instance_is_judged(kind: str, fits: bool | None) -> None:
    settings = {"method": "sft", "hyperparameters": {"use_peft": True}, "instances": {"type": kind}}
    own = estimate.estimate(job(model="org/L-8B", **settings), BUNDLED).own
    assert own.fits is fits
    assert kind in own.line


def test_the_suggestion_is_the_cheapest_that_fits() -> None:
    needed = Memory(20, ())
    suggestion = estimate.suggest(needed, BUNDLED)
    fitting = [
        BUNDLED.training[kind]
        for kind, each in gpu_instances().items()
        if each.gpu_memory_gib * estimate.USABLE >= 20 and kind in BUNDLED.training
    ]
    assert suggestion.price == min(fitting)


def test_only_what_has_a_price_there_is_suggested() -> None:
    there = Prices({"ml.g5.12xlarge": 9.0, "ml.p4d.24xlarge": 40.0}, {}, "sa-east-1", "2026-11-30")
    assert estimate.suggest(Memory(20, ()), there).type == "ml.g5.12xlarge"
    assert estimate.suggest(Memory(20, ()), there).price == 9.0
    assert costs.cost(job(instances={"type": "ml.g5.xlarge"}), there) is None


@pytest.mark.slow
def test_gpus_are_those_that_ec2_describes() -> None:
    recorded = Path(moto.ec2.__file__).parent / "resources" / "instance_types.json.gz"
    described = json.loads(gzip.decompress(recorded.read_bytes()))
    known = service_model("sagemaker").shape_for("TrainingInstanceType").enum
    unrecorded = {"ml.p2.", "ml.p3.", "ml.p6e-"}
    for kind in known:
        gpu = described.get(kind.removeprefix("ml."), {}).get("GpuInfo")
        if gpu and gpu["Gpus"][0]["Manufacturer"] == "NVIDIA":
            mine, theirs = gpu_instances()[kind], gpu["Gpus"][0]
            assert mine.gpus == theirs["Count"]
            assert mine.gpu_memory_gib == round(theirs["MemoryInfo"]["SizeInMiB"] / 1024, 1)
        elif has_gpu(kind):
            assert any(kind.startswith(prefix) for prefix in unrecorded), kind
            assert kind in gpu_instances()


def test_the_arithmetic_is_of_the_trainers_defaults() -> None:
    for method in methods():
        declared = importlib.import_module(f"sm_train.methods.{method.replace('-', '_')}").METHOD
        assert IN_MEMORY.get(method) == declared.in_memory
        batch = declared.defaults.get("per_device_train_batch_size", 8)
        lines = "\n".join(memory(1e9, {"method": method}).lines)
        assert f"activations  {batch} rows" in lines
        if length := default_of(method, "max_length"):
            assert f"x {length} tokens" in lines
        assert ("recomputed" in lines) is declared.training_config.startswith("trl")
        assert "(gradients, AdamW)" in lines
    assert FORMER_NAMES.items() <= keys.FORMER_NAMES.items()
    assert default_of("sft", "lora_r") == LORA_RANK


def job(**training: object) -> JobConfig:
    return JobConfig.model_validate({"name": "mine", "training": training})


def test_a_size_that_is_given_has_no_other_models_layers(tmp_path: Path) -> None:
    config = {"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 16, "vocab_size": 99,
              "num_attention_heads": 2, "intermediate_size": 32, "type_vocab_size": 2,
              "max_position_embeddings": 8}  # fmt: skip
    known = estimate.Described(config=config)
    small = estimate.estimate(job(model="org/m"), BUNDLED, None, known)
    assert "x 2 layers" in "\n".join(small.memory.lines)
    large = estimate.estimate(job(model="org/m"), BUNDLED, 8e9, known)
    assert "x 2 layers" not in "\n".join(large.memory.lines)


def test_the_cost_guard() -> None:
    hour = {"max_runtime_seconds": 3600, "instances": {"type": "ml.g5.xlarge", "count": 2}}
    priced = costs.cost(job(**hour), BUNDLED)
    assert priced is not None
    assert priced.dollars == pytest.approx(2.816)
    with pytest.raises(UserInputError, match="spot's is not known"):
        costs.require_cost(job(**hour, spot=True), BUNDLED, 2.0)
    known = replace(BUNDLED, spot={"ml.g5.xlarge": 0.6})
    spot = costs.require_cost(job(**hour, spot=True), known, 2.0)
    assert spot is not None
    assert spot.dollars == pytest.approx(1.2)
    with pytest.raises(UserInputError, match=r"could cost more than \$2\.00"):
        costs.require_cost(job(**hour), BUNDLED, 2.0)
    unknown = job(instances={"type": "ml.x9.large"})
    assert costs.require_cost(unknown, BUNDLED, None) is None
    with pytest.raises(UserInputError, match="not in the table"):
        costs.require_cost(unknown, BUNDLED, 2.0)


HOUR = {"max_runtime_seconds": 3600, "instances": {"type": "ml.g5.xlarge"}}


@pytest.mark.parametrize(
    ("fields", "dollars"),
    [
        ({"ResourceConfig": {"InstanceType": "ml.p4d.24xlarge"}}, 37.688),
        ({"ResourceConfig": {"InstanceCount": 3}}, 4.224),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 7200}}, 2.816),
        ({"StoppingCondition": None}, 24 * 1.408),
        ({"ResourceConfig": {"KeepAlivePeriodInSeconds": 1800}}, 2.112),
        ({"ResourceConfig": {"InstanceGroups": [
            {"InstanceGroupName": "a", "InstanceType": "ml.m5.large", "InstanceCount": 2},
            {"InstanceGroupName": "b", "InstanceType": "ml.g5.xlarge", "InstanceCount": 1}]}},
         1.638),
        ({"ResourceConfig": {"InstanceType": None, "InstanceCount": None, "InstancePreferences": [
            {"InstanceType": "ml.m5.large", "InstanceCount": 2},
            {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2}]}}, 2.816),  # the dearest of them
    ],
)  # fmt: skip
def test_the_limit_holds_for_what_is_really_sent(fields: dict[str, Any], dollars: float) -> None:
    config = JobConfig.model_validate(
        {"name": "mine", "training": HOUR, "sagemaker": {"training": fields}}
    )
    priced = costs.cost(config, BUNDLED)
    assert priced and priced.dollars == pytest.approx(dollars)
    with pytest.raises(UserInputError, match="could cost more"):
        costs.require_cost(config, BUNDLED, dollars - 0.01)


def test_what_an_endpoint_costs() -> None:
    second = {"name": "b", "model_data": "s3://b/m.tar.gz", "instance_type": "ml.m5.large"}
    document = {"instances": {"type": "ml.g5.xlarge", "count": 2}, "variants": [second]}
    config = JobConfig.model_validate({"name": "mine", "endpoint": document})
    priced = costs.hosting_cost(config, BUNDLED)
    assert priced is not None
    assert priced.line.startswith("2 x ml.g5.xlarge + 1 x ml.m5.large = $2.93 an hour")
    serverless = JobConfig.model_validate({"name": "mine", "endpoint": {"serverless": {}}})
    assert costs.hosting_cost(serverless, BUNDLED) is None


@pytest.mark.parametrize(
    ("kind", "gpu"),
    [("ml.g5.xlarge", True), ("ml.p4d.24xlarge", True), ("ml.m5.large", False),
     ("ml.c6g.large", False), ("ml.inf2.xlarge", False), ("local", False)],
)  # fmt: skip
def test_gpu_families(kind: str, gpu: bool) -> None:
    assert has_gpu(kind) is gpu
