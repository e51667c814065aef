"""What `sm-launch optimize` asks of the job, and what it refuses on the laptop."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sm_launch.errors import UserInputError
from sm_launch.evaluation.job.optimizing import check_precision
from sm_launch.job.config import JobConfig
from sm_launch.jobs.optimization import optimizing
from sm_launch.jobs.training import tell_single_try

S3 = "s3://b/m/model.tar.gz"


def config(folder: Path, method: str = "sft", **optimization: Any) -> JobConfig:
    channels = {name: f"s3://b/{name}/" for name in ("train", "validation", "test")}
    made = JobConfig.model_validate(
        {
            "name": "m",
            "training": {"method": method, "channels": channels},
            "optimization": optimization,
        }
    )
    made.directory = folder
    return made


@pytest.mark.parametrize(
    ("method", "precision", "expected"),
    [
        ("sft", "int4", {"test", "validation", "model"}),
        ("dpo", "int8", {"test", "validation", "model"}),
        ("sft", "fp8", {"test", "model"}),
        ("text-classification", "int8", {"test", "model"}),
        ("embedding", "bfloat16", {"test", "model"}),
    ],
)
def test_rows_to_calibrate_by_go_along_where_the_precision_asks_for_them(
    tmp_path: Path, method: str, precision: str, expected: set[str]
) -> None:
    job = optimizing(config(tmp_path, method, precision=precision), S3)
    assert set(job.training.channels) == expected
    assert job.training.hyperparameters["precision"] == precision


def test_how_the_training_was_run_is_not_how_it_is_optimized(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/own.py").touch()
    made = config(tmp_path)
    ways = {"fallback": [{"type": "ml.g6.xlarge"}], "restarts": 3, "spot": True}
    trained = {**made.training.model_dump(), **ways, "script": "own.py", "source_dir": "code"}
    made = JobConfig.model_validate({"name": "m", "training": trained})
    made.directory = tmp_path
    given = optimizing(made, S3).training
    assert (given.fallback, given.restarts, given.spot) == ([], 0, False)
    assert (given.script, given.source_dir) == (None, None)
    told: list[str] = []
    tell_single_try(SimpleNamespace(config=made, warn=told.append), "this job runs")
    assert told == [
        "training.fallback and training.restarts: for `train` alone; this job runs once, as "
        "training.instances says"
    ]


def test_speculation_goes_along_with_the_draft(tmp_path: Path) -> None:
    wanted = {"precision": "fp8", "speculation": {"lookup": 3}}
    given = optimizing(config(tmp_path, **wanted), S3).training
    assert given.hyperparameters["speculation"] == "ngram"
    assert (given.hyperparameters["speculative_tokens"], given.channels.get("draft")) == (5, None)
    assert given.hyperparameters["speculative_lookup"] == 3
    (tmp_path / "small").mkdir()
    wanted = {"precision": "fp8", "speculation": {"method": "draft", "draft": "small", "tokens": 2}}
    given = optimizing(config(tmp_path, **wanted), S3).training
    assert given.channels["draft"] == str(tmp_path / "small")
    assert "speculative_lookup" not in given.hyperparameters
    wanted["speculation"]["draft"] = "missing"  # type: ignore[index]
    with pytest.raises(UserInputError, match="no such file") as refused:
        optimizing(config(tmp_path, **wanted), S3)
    assert refused.value.field == "optimization.speculation.draft"


@pytest.mark.parametrize(
    "speculation",
    [{"method": "draft"}, {"draft": "x"}, {"method": "draft", "draft": "x", "lookup": 2},
     {"tokens": 0}, {"method": "eagle"}],
)  # fmt: skip
def test_speculation_that_contradicts_itself_is_refused(
    tmp_path: Path, speculation: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"speculation|draft|lookup|tokens"):
        config(tmp_path, speculation=speculation)


def context(made: JobConfig, target: str = "process") -> Any:
    return SimpleNamespace(config=made, target=target)


def test_a_language_model_on_sagemaker_wants_an_instance_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="8 GiB") as refused:
        check_precision(context(config(tmp_path, "sft", precision="fp8"), "sagemaker"), S3)
    assert refused.value.field == "optimization.instance_type"
    named = config(tmp_path, "dpo", precision="fp8", instance_type="ml.g5.xlarge")
    check_precision(context(named, "sagemaker"), S3)
    check_precision(context(config(tmp_path, "embedding"), "sagemaker"), S3)


@pytest.mark.parametrize("place", ["here", "s3"])
@pytest.mark.parametrize(
    ("method", "architecture", "optimization", "field"),
    [
        ("text-classification", "BertForSequenceClassification", {"precision": "fp8"},
         "optimization.precision"),
        ("embedding", "BertModel", {"precision": "int4"}, "optimization.precision"),
        ("reward", "LlamaForSequenceClassification", {"precision": "int4"},
         "optimization.precision"),
        ("token-classification", "BertForTokenClassification", {"speculation": {}},
         "optimization.speculation"),
    ],
)  # fmt: skip
def test_what_only_language_models_have_is_refused_on_the_laptop(
    tmp_path: Path,
    place: str,
    method: str,
    architecture: str,
    optimization: dict[str, Any],
    field: str,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    former = S3 if place == "s3" else str(tmp_path)
    with pytest.raises(UserInputError) as refused:
        check_precision(context(config(tmp_path, method, **optimization)), former)
    assert refused.value.field == field
    assert refused.value.fix


@pytest.mark.parametrize("precision", ["fp8", "int8", "int4", "bfloat16"])
def test_language_models_and_encoders_take_theirs(tmp_path: Path, precision: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    wanted = config(tmp_path, "sft", precision=precision, speculation={})
    check_precision(context(wanted), str(tmp_path))
    check_precision(context(wanted), S3)


@pytest.mark.parametrize("place", ["here", "s3"])
def test_an_adapter_alone_is_refused_on_the_laptop(tmp_path: Path, place: str) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    made = config(tmp_path, "sft", precision="fp8")
    made.training.hyperparameters["export"] = "adapter"
    with pytest.raises(UserInputError, match="adapter without its base model") as refused:
        check_precision(context(made), S3 if place == "s3" else str(tmp_path))
    assert "export: merged" in str(refused.value.fix)
