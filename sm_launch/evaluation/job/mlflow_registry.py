"""A registered model is a version in MLflow's registry too, where the training logs to MLflow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.job import tracking
from sm_launch.sessions.references import resolve
from sm_launch.target.context import JobContext

_MISSING = "RESOURCE_DOES_NOT_EXIST"
# By itself MLflow tries a server that does not answer seven times, two minutes each.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_HEADERS = "mlflow.tracking.request_header.registry"


def wanted(context: JobContext) -> bool:
    """Whether the job tracks, and MLflow's client is here; says so where it is not."""
    if not tracking.tracks(context.config):
        return False
    try:
        import mlflow  # noqa: F401
    except ImportError:
        context.warn("not registered in MLflow, whose client is not installed here: "
                     "pip install 'sm-launch[mlflow]'")  # fmt: skip
        return False
    return True


def register(
    context: JobContext,
    group: str,
    described: Mapping[str, Any],
    document: Mapping[str, Any] | None,
) -> str:
    """Make the version; its place, for people.

    Args:
        context: the job.
        group: the model package group, which MLflow's registered model is called as.
        described: DescribeModelPackage's answer.
        document: evaluation.json, if the model was measured.

    Raises:
        LaunchError: MLflow did not take it. In SageMaker's registry it is.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    given = resolve(context.config.training.environment)
    if not given[tracking.URI].startswith("arn:"):
        logging.getLogger(_HEADERS).addFilter(_is_of_another_plugin)
    with _variables(given):
        try:
            client = MlflowClient(given[tracking.URI], given[tracking.URI])
            return _version(client, group, described, document)
        except (MlflowException, OSError) as error:
            raise LaunchError(
                f"registered in SageMaker, and not in MLflow: {error}",
                field=f"training.environment.{tracking.URI}",
                fix="mend it, and register the model there: "
                f"mlflow.register_model({_source(described)!r}, {group!r})",
            ) from error


def _version(
    client: Any, group: str, described: Mapping[str, Any], document: Mapping[str, Any] | None
) -> str:
    _ensure(client, group)
    properties = dict(described.get("CustomerMetadataProperties", {}))
    run = _run(client, properties.get("training-job", ""))
    metrics = {} if document is None else document["metrics"]
    measured = {key: f"{value:.6g}" for key, value in metrics.items() if value is not None}
    tags = {**properties, **measured, "model-package": str(described["ModelPackageArn"])}
    made = client.create_model_version(
        group,
        source=_source(described),
        run_id=run,
        tags=tags,
        description=described.get("ModelPackageDescription", ""),
    )
    return f"{group} version {made.version}"


def _ensure(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != _MISSING:
            raise
        client.create_registered_model(name, tags={"sm-launch": "register"})


def _run(client: Any, job: str) -> str | None:
    """The run of a training job, by the tag that the container gives it."""
    if not job:
        return None
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.training_job = '{job}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _source(described: Mapping[str, Any]) -> str:
    (container,) = described["InferenceSpecification"]["Containers"]
    source = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
    return str(source or container["ModelDataUrl"])


def _is_of_another_plugin(record: logging.LogRecord) -> bool:
    """SageMaker's plugin takes each tracking URI for an ARN, and warns of all others."""
    return "list index out of range" not in record.getMessage()


@contextmanager
def _variables(given: Mapping[str, str]) -> Iterator[None]:
    """MLflow takes its log-in from the environment, and how long it waits."""
    ours = {key: value for key, value in _PATIENCE.items() if key not in os.environ}
    ours |= {key: value for key, value in given.items() if key.startswith("MLFLOW_")}
    before = {key: os.environ.get(key) for key in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
