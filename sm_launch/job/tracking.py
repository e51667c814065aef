"""Where a job's curves go besides its log, as far as the launcher has a part in it: MLflow.

Names of variables are MLflow's own ("Environment Variables" in its Python API), the form of the
ARNs is SageMaker's service model's (TrackingServerArn, MlflowAppArn).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sm_launch.errors import UserInputError
from sm_launch.job.hyperparameter_names import PROGRAM
from sm_launch.job.naming import LOCAL_TRAINING_IMAGE

if TYPE_CHECKING:
    from sm_launch.job.config import JobConfig

URI = "MLFLOW_TRACKING_URI"
TAGS = "MLFLOW_TAGS"
MODEL_URI = "SM_TRAIN_MODEL_URI"
"""What the training container tags a run with: where its model is, by the job's name."""
SERVER_ARN = re.compile(
    r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:(mlflow-tracking-server|mlflow-app)/\S+"
)
_REMOTE = ("http://", "https://", "databricks", "arn:")
_LATE = ("env:", "secret:")  # known when the job starts
_FIELD = "training.environment"
_FIX = (
    f"set {_FIELD}.{URI} to the URL of an MLflow server, or to the ARN of SageMaker's tracking "
    "server; or remove mlflow from report_to"
)


def trackers(hyperparameters: Mapping[str, Any]) -> set[str]:
    """The names in `report_to`, whether it is one, a list, or a list as JSON."""
    given = hyperparameters.get("report_to")
    return set(re.findall(r"\w+", given if isinstance(given, str) else json.dumps(given or "")))


def tracks(config: JobConfig) -> bool:
    """Whether the job's training logs to MLflow."""
    values = config.training.hyperparameters
    named = trackers(values)
    everywhere = "all" in named and URI in config.training.environment
    return PROGRAM not in values and ("mlflow" in named or everywhere)


def check_tracking(config: JobConfig, image: str) -> None:
    """Refuse a run that would be written where nobody finds it.

    Args:
        config: the job.
        image: of its training.

    Raises:
        UserInputError: no tracking URI, one that ends with the container, or one out of reach.
    """
    if not tracks(config):
        return
    uri = config.training.environment.get(URI, "")
    field = f"{_FIELD}.{URI}"
    if not uri:
        raise UserInputError(
            "is missing: MLflow would write into the container, which is gone after the job",
            field=field,
            fix=_FIX,
        )
    _check_tags(config.training.environment.get(TAGS, "{}"))
    if uri.startswith(_LATE):
        return
    if uri.startswith("arn:") and not SERVER_ARN.fullmatch(uri):
        form = "arn:aws:sagemaker:REGION:ACCOUNT:mlflow-tracking-server/NAME"
        raise UserInputError("is no ARN of an MLflow server", field=field, value=uri,
                             fix=f"write {form}")  # fmt: skip
    remote = uri.startswith(_REMOTE)
    if not remote and image != LOCAL_TRAINING_IMAGE:
        raise UserInputError(
            "is a place in the container, which is gone after the job", field=field, value=uri,
            fix=_FIX,
        )  # fmt: skip
    if remote and config.training.network.isolation:
        raise UserInputError(
            "cannot be reached: training.network.isolation lets nothing out",
            field=field, value=uri, fix="leave one of the two out",
        )  # fmt: skip


def _check_tags(text: str) -> None:
    if text.startswith(_LATE):
        return
    try:
        tags = json.loads(text)
    except ValueError:
        tags = None
    if not isinstance(tags, dict):
        raise UserInputError("must be a JSON object", field=f"{_FIELD}.{TAGS}", value=text,
                             fix='such as {"team": "nlp"}')  # fmt: skip


def environment(config: JobConfig, output: str) -> dict[str, str]:
    """The variables of a training container.

    Args:
        config: the job.
        output: URI that the jobs' outputs lie under.

    Returns:
        Those of job.yaml; where MLflow is told of the job, also its experiment (by default the
        job's name), and where the model will be.
    """
    given = config.training.environment
    if not tracks(config):
        return dict(given)
    file = "model.tar.gz" if config.training.compress_model else "model/"
    return {
        "MLFLOW_EXPERIMENT_NAME": config.name,
        MODEL_URI: f"{output.rstrip('/')}/{{training_job}}/output/{file}",
        **given,
    }
