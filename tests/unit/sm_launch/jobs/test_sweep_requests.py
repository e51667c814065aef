"""Sweeps: SageMaker's own service model accepts the request, and contradictions are refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from sm_launch.errors import UserInputError
from sm_launch.job import costs
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameters import metric_definitions
from sm_launch.job.instances import bundled_prices
from sm_launch.jobs import requests, tuning_requests
from sm_launch.sessions.validation import RequestValidator

LISTS = {"lr_scheduler_type": ["linear", "cosine"], "use_peft": [True, False]}
RANGES = {
    "learning_rate": {"min": 1e-5, "max": 1e-3, "scale": "log"},
    "lora_r": {"min": 4, "max": 64},
    "num_train_epochs": {"min": 1, "max": 3},
}
INPUTS = requests.TrainingInputs(
    channels={"train": "s3://bucket/train/"},
    output="s3://bucket/jobs",
    checkpoints="s3://bucket/checkpoints",
    model="org/tiny",
    metric_definitions=metric_definitions("text-classification"),
    image="123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1",
)


def job(sweep: dict[str, Any], **training: Any) -> JobConfig:
    return JobConfig.model_validate({"name": "a-long-name", "sweep": sweep, "training": training})


def tuning(config: JobConfig) -> dict[str, Any]:
    name = tuning_requests.unique_name(config.name)
    assert len(name) <= 32
    training = requests.create_training_job(config, name, INPUTS)
    return tuning_requests.create_tuning_job(config, name, training)


def test_requests_are_valid() -> None:
    validator = RequestValidator("sagemaker")
    more = {"seed": 3, "target": 0.1, "max_runtime_seconds": 600}
    for strategy, spot in itertools.product(("random", "grid", "bayesian", "hyperband"), (0, 1)):
        parameters = LISTS if strategy == "grid" else {**LISTS, **RANGES}
        sweep = {"parameters": parameters, "strategy": strategy, **more}
        network = {"subnets": ["subnet-1"], "security_groups": ["sg-1"], "isolation": True}
        config = job(
            sweep,
            spot=bool(spot),
            retries=2,
            network=network,
            environment={"A": "b"},
            hyperparameters={"learning_rate": 1e-4, "seed": 7},
        )
        request = tuning(config)
        validator.check("CreateHyperParameterTuningJob", request)
        search = request["HyperParameterTuningJobConfig"]
        assert ("MaxNumberOfTrainingJobs" in search["ResourceLimits"]) is (strategy != "grid")
        static = request["TrainingJobDefinition"]["StaticHyperParameters"]
        assert static["seed"] == "7"
        assert ("learning_rate" in static) is (strategy == "grid")


def test_types_follow_the_hyperparameter() -> None:
    ranges = tuning(job({"parameters": {**LISTS, **RANGES}}))["HyperParameterTuningJobConfig"][
        "ParameterRanges"
    ]
    (whole,) = ranges["IntegerParameterRanges"]
    assert (whole["Name"], whole["MinValue"], whole["MaxValue"]) == ("lora_r", "4", "64")
    names = [each["Name"] for each in ranges["ContinuousParameterRanges"]]
    assert names == ["learning_rate", "num_train_epochs"]  # whole ends of a real number stay real
    assert ranges["ContinuousParameterRanges"][0]["ScalingType"] == "Logarithmic"
    assert ranges["CategoricalParameterRanges"][1]["Values"] == ["true", "false"]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"parameters": {}}, "at least 1"),
        ({"parameters": {"seed": []}}, "names no value"),
        ({"parameters": {"seed": [1, 1]}}, "twice"),
        ({"parameters": {"learning_rate": {"min": 1, "max": 1}}}, "less than max"),
        ({"parameters": {"learning_rate": {"min": 0, "max": 1, "scale": "log"}}}, "greater than 0"),
        ({"parameters": RANGES, "strategy": "grid"}, "lists of values only; learning_rate"),
        ({"parameters": LISTS, "strategy": "hyperband", "early_stopping": True}, "hyperband"),
        ({"parameters": LISTS, "max_jobs": 1}, "must not exceed max_jobs"),
    ],
)
def test_contradictions_are_refused(sweep: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        job(sweep)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"parameters": {"learning_rte": [1, 2]}}, "did you mean 'learning_rate'"),
        ({"parameters": {"lora_r": {"min": 0.5, "max": 2}}}, "lora_r: 0.5"),
        ({"parameters": LISTS, "objective": "eval:acc"}, "no metric that the method"),
    ],
)
def test_what_the_method_does_not_know_is_refused(sweep: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        tuning(job(sweep))


def test_the_cost_of_many_trainings() -> None:
    hour: dict[str, Any] = {"max_runtime_seconds": 3600}
    config = job({"parameters": LISTS, "strategy": "grid"}, **hour)
    assert config.sweep is not None
    assert config.sweep.job_count == 4
    priced = costs.require_cost(config, bundled_prices(), 6.0, config.sweep.job_count)
    assert priced is not None
    assert priced.dollars == pytest.approx(4 * 1.408)
    with pytest.raises(UserInputError, match="4 jobs"):
        costs.require_cost(config, bundled_prices(), 5.0, config.sweep.job_count)
    with pytest.raises(UserInputError, match="together"):
        costs.require_cost_of_all([config] * 3, bundled_prices(), 2.0)
    assert costs.require_cost_of_all([config] * 3, bundled_prices(), 5.0).startswith(
        "3 jobs = $4.22 at most (list prices of us-east-1, 20"
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"endpoint.image": ["a"]}, "only keys below training"),
        ({"training.spot": [True], "training.model": list("abcdefghij") * 11}, "110 values"),
        ({f"training.{key}": list(range(11)) for key in ("a", "b")}, "121 combinations"),
    ],
)
def test_a_matrix_has_limits(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JobConfig.model_validate({"name": "mine", "matrix": {"parameters": parameters}})
