"""Where a job's curves go besides its log: `report_to`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sm_train.errors import UserError
from sm_train.settings.packages import KUBEFLOW, MLFLOW, TRACKERS, installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sm_train.settings.settings import Config

KNOWN = ("all", "none", "tensorboard", *TRACKERS, KUBEFLOW)
"""What transformers takes; a test holds it against transformers."""
TRACKING_URI = "MLFLOW_TRACKING_URI"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def check_reporters(config: Config) -> None:
    """Raise UserError for a name that transformers would refuse once the model is loaded."""
    for name in named_reporters(config):
        if name not in KNOWN:
            close = get_close_matches(name, KNOWN, n=1)
            raise UserError(
                f"{name!r} is no tracker",
                field="report_to",
                value=config.training["report_to"],
                fix=f"did you mean {close[0]!r}?" if close else f"choose of {', '.join(KNOWN)}",
            )


def check_tracking(config: Config, variables: Mapping[str, str]) -> None:
    """Refuse MLflow without a place that outlives the container, before torch is imported.

    Args:
        config: of the job.
        variables: the environment.

    Raises:
        UserError: no place is named, or one that needs what the image lacks.
    """
    if MLFLOW not in named_reporters(config):
        return
    uri = variables.get(TRACKING_URI, "")
    if not uri:
        raise UserError(
            "is not set, and MLflow would write into the container, which is gone after the job",
            field=TRACKING_URI,
            fix="set it to a server's URL, or to the ARN of SageMaker's tracking server",
        )
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in _DATABASES and not installed("sqlalchemy"):
        raise UserError(
            "needs the package sqlalchemy, which is not installed",
            field=TRACKING_URI,
            value=uri,
            fix="start `mlflow server` in front of the database, and give its URL",
        )


def reporters(given: Any, variables: Mapping[str, str]) -> list[str]:
    """`report_to` as a list: TensorBoard is always among them, unless the user wants none.

    `all` are those that are installed; MLflow only where its place is named.
    """
    names = _names(given)
    if names == ["none"]:
        return []
    if "all" in names:
        from transformers.integrations.integration_utils import (
            get_available_reporting_integrations,
        )

        names = [
            name
            for name in get_available_reporting_integrations()
            if name != MLFLOW or variables.get(TRACKING_URI)
        ]
    return list(dict.fromkeys([*(name for name in names if name != "none"), "tensorboard"]))


def named_reporters(config: Config) -> list[str]:
    """What `report_to` names, whether it is one or a list."""
    return _names(config.training.get("report_to"))


def _names(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else [str(name) for name in given or []]
