"""Memory, suggestion and price: the arithmetic, and the guard that keeps to it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import estimate
from sm_launch.job.config import JobConfig
from sm_launch.job.instances import Prices, bundled_prices, has_gpu, table

BUNDLED = bundled_prices()


def test_parameters_are_counted_or_read_off_the_name(tmp_path: Path) -> None:
    header = json.dumps(
        {"__metadata__": {"a": "b"}, "w": {"shape": [10, 20]}, "b": {"shape": [7]}}
    ).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert estimate.parameter_count("org/thing-7B", tmp_path) == 207
    assert estimate.parameter_count("meta-llama/Llama-3.1-8B-Instruct") == 8e9
    assert estimate.parameter_count("org/tiny-500m") == 5e8
    assert estimate.parameter_count("distilbert-base-uncased") == 66e6
    assert estimate.parameter_count("org/who-knows") is None


def test_memory_of_full_training_and_of_lora() -> None:
    full = estimate.memory(7e9, {"per_device_train_batch_size": 1})
    assert full.total_gib == pytest.approx(7e9 * (4 + 12 + 0.35) / 2**30)
    small = estimate.memory(
        7e9, {"use_peft": True, "load_in_4bit": True, "per_device_train_batch_size": 1}
    )
    assert small.total_gib < 8
    assert "LoRA" in small.lines[1]
    assert estimate.suggest(small.total_gib, BUNDLED).gpus == 1
    assert estimate.suggest(full.total_gib, BUNDLED).gpus == 4
    with pytest.raises(LaunchError, match="no single instance"):
        estimate.suggest(10_000, BUNDLED)


def test_the_suggestion_is_the_cheapest_that_fits() -> None:
    suggestion = estimate.suggest(20, BUNDLED)
    fitting = [i for i in table().values() if i.gpu_memory_gib * estimate.USABLE >= 20]
    assert suggestion.price == min(i.price for i in fitting)


def test_only_what_has_a_price_there_is_suggested() -> None:
    there = Prices({"ml.g5.12xlarge": 9.0, "ml.p4d.24xlarge": 40.0}, {}, "sa-east-1", "2026-11-30")
    assert estimate.suggest(20, there).type == "ml.g5.12xlarge"
    assert estimate.suggest(20, there).price == 9.0
    assert estimate.cost(job(instances={"type": "ml.g5.xlarge"}), there) is None


def job(**training: object) -> JobConfig:
    return JobConfig.model_validate({"name": "mine", "training": training})


def test_the_cost_guard() -> None:
    hour = {"max_runtime_seconds": 3600, "instances": {"type": "ml.g5.xlarge", "count": 2}}
    priced = estimate.cost(job(**hour), BUNDLED)
    assert priced is not None
    assert priced.dollars == pytest.approx(2.816)
    spot = estimate.require_cost(job(**hour, spot=True), BUNDLED, 2.0)
    assert spot is not None
    assert spot.dollars < 2
    with pytest.raises(UserInputError, match=r"could cost more than \$2\.00"):
        estimate.require_cost(job(**hour), BUNDLED, 2.0)
    unknown = job(instances={"type": "ml.x9.large"})
    assert estimate.require_cost(unknown, BUNDLED, None) is None
    with pytest.raises(UserInputError, match="not in the table"):
        estimate.require_cost(unknown, BUNDLED, 2.0)


def test_what_an_endpoint_costs() -> None:
    second = {"name": "b", "model_data": "s3://b/m.tar.gz", "instance_type": "ml.m5.large"}
    document = {"instances": {"type": "ml.g5.xlarge", "count": 2}, "variants": [second]}
    config = JobConfig.model_validate({"name": "mine", "endpoint": document})
    priced = estimate.hosting_cost(config, BUNDLED)
    assert priced is not None
    assert priced.line.startswith("2 x ml.g5.xlarge + 1 x ml.m5.large = $2.93 an hour")
    serverless = JobConfig.model_validate({"name": "mine", "endpoint": {"serverless": {}}})
    assert estimate.hosting_cost(serverless, BUNDLED) is None


@pytest.mark.parametrize(
    ("kind", "gpu"),
    [("ml.g5.xlarge", True), ("ml.p4d.24xlarge", True), ("ml.m5.large", False),
     ("ml.c6g.large", False), ("ml.inf2.xlarge", False), ("local", False)],
)  # fmt: skip
def test_gpu_families(kind: str, gpu: bool) -> None:
    assert has_gpu(kind) is gpu
