"""Which model is deployed, and how a model of the Hub becomes a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sm_launch.errors import UserInputError
from sm_launch.evaluation.job import artefacts
from sm_launch.hosting import requests as hosting_requests
from sm_launch.hosting import served_models
from sm_launch.hosting.served_models import UNKNOWN_BYTES
from sm_launch.job.config import JobConfig
from sm_launch.job.hub_models import HubModel
from sm_launch.target.context import JobContext

COMMIT = "c" * 40


def place(directory: Path, target: Any = "process", **endpoint: object) -> JobContext:
    config = JobConfig.model_validate({"name": "mine", "endpoint": endpoint})
    config.directory = directory
    return JobContext(config, target)


def find(where: JobContext, **options: Any) -> served_models.ServedModel:
    given = {"job": None, "model_data": None, "upload": False, **options}
    return served_models.find(where, **given)


def test_a_model_of_the_hub_is_no_data_but_environment(tmp_path: Path) -> None:
    where = place(tmp_path, model=f"me/tiny@{COMMIT}", environment={"HF_TOKEN": "env:HF_TOKEN"})
    served = find(where)
    assert served == served_models.ServedModel(f"hf://me/tiny@{COMMIT}", UNKNOWN_BYTES)
    request = hosting_requests.create_model(where.config, "m", model_data=served.uri, image="i")
    container = request["PrimaryContainer"]
    assert container == {
        "Image": "i",
        "Environment": {
            "HF_MODEL_ID": "me/tiny",
            "HF_MODEL_REVISION": COMMIT,
            "HF_TOKEN": "env:HF_TOKEN",
        },
    }

    class Session:
        def describe_endpoint(self, **_: str) -> dict[str, Any]:
            return {"EndpointConfigName": "c"}

        def describe_endpoint_config(self, **_: str) -> dict[str, Any]:
            return {"ProductionVariants": [{"ModelName": "m"}]}

        def describe_model(self, **_: str) -> dict[str, Any]:
            return {"PrimaryContainer": container}

    assert artefacts.model_uri(Session(), "e") == served.uri  # type: ignore[arg-type]


def test_a_revision_that_may_move_is_said_where_the_hub_was_not_asked(tmp_path: Path) -> None:
    (warning,) = find(place(tmp_path, model="me/tiny@main")).warnings
    assert "hf://me/tiny@main is not pinned" in warning
    (warning,) = find(place(tmp_path), model_data="hf://me/tiny").warnings
    assert "hf://me/tiny is not pinned" in warning


def test_a_directory_is_served_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    where = place(tmp_path, model="base")
    with pytest.raises(UserInputError, match=r"endpoint\.model.*no config\.json|no config\.json"):
        find(where)
    (tmp_path / "base" / "config.json").write_text("{}")
    assert find(where).uri == f"{(tmp_path / 'base').as_uri()}/"
    named = find(where, model_data=str(tmp_path / "base"))
    assert named.warnings == (
        "endpoint.model (base) is passed over: --model-data names another model",
    )


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        ({"model": "./absent"}, "endpoint.model"),
        ({"model": "me/tiny@"}, "endpoint.model"),
        ({"model": "hf://me/../tiny"}, "endpoint.model"),
        ({"model": "me/tiny", "network": {"isolation": True}}, "endpoint.network.isolation"),
        ({"model": "me/tiny", "environment": {"HF_MODEL_ID": "me/other"}},
         "endpoint.environment.HF_MODEL_ID"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused(
    tmp_path: Path, endpoint: dict[str, Any], field: str
) -> None:
    where = place(tmp_path, **endpoint)
    with pytest.raises(UserInputError) as refused:
        hosting_requests.create_model(where.config, "m", model_data=find(where).uri, image="i")
    assert refused.value.field == field and refused.value.fix


def test_a_model_on_s3_is_fetched_when_it_is_deployed(tmp_path: Path) -> None:
    assert find(place(tmp_path, model="s3://bucket/model/")).uri == "s3://bucket/model/"


def test_other_containers_way_to_name_the_artefact_stays_possible(tmp_path: Path) -> None:
    config = place(tmp_path, environment={"HF_MODEL_ID": "/opt/ml/model"}).config
    request = hosting_requests.create_model(
        config, "m", model_data="s3://b/model.tar.gz", image="i"
    )
    assert request["PrimaryContainer"]["ModelDataUrl"] == "s3://b/model.tar.gz"
    assert HubModel.of("me/tiny", "f").environment == {"HF_MODEL_ID": "me/tiny"}
