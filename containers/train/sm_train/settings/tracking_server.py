"""The MLflow server of a job: asked before anything is loaded, and heard through the log once."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from sm_train.errors import UserError, shorten
from sm_train.log import print_line
from sm_train.redaction import redact
from sm_train.settings.packages import MLFLOW
from sm_train.settings.reporters import TRACKING_URI, named_reporters

if TYPE_CHECKING:
    from sm_train.settings.settings import Config

EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
_HEADERS = "mlflow.tracking.request_header.registry"
_QUEUE = "mlflow.utils.async_logging.async_logging_queue"
_RETRIES = "urllib3.connectionpool"


def check_server(config: Config) -> None:
    """Ask the server for the job's experiment, before torch is imported.

    Raises:
        UserError: it does not answer, or not to us.
    """
    uri = os.environ.get(TRACKING_URI, "")
    if MLFLOW not in named_reporters(config) or not uri.startswith(("http", "arn:")):
        return
    limit_waiting()
    quiet(uri)
    from mlflow.tracking import MlflowClient

    try:
        MlflowClient(uri).get_experiment_by_name(os.environ.get(EXPERIMENT, "Default"))
    except Exception as error:  # MLflow's own, requests', boto3's: whatever stands there
        raise refused(uri, error) from error


def limit_waiting() -> None:
    """By itself MLflow tries seven times, two minutes each: an instance would wait for a server
    that is no more."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def refused(uri: str, error: Exception) -> UserError:
    """Why there is no run."""
    return UserError(
        f"MLflow begins no run there: {type(error).__name__}: {shorten(str(error), 400)}",
        field=TRACKING_URI,
        value=uri,
        fix="check the address, the credentials (MLFLOW_TRACKING_USERNAME and _PASSWORD, or "
        "MLFLOW_TRACKING_TOKEN) and the role's permissions, or remove mlflow from report_to",
    )


class Losses(logging.Filter):
    """Counts what the server did not take: MLflow has an error of its own for each, and its HTTP
    client four warnings before it. The first is said, and at the end how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Never lets a record through."""
        if record.levelno >= logging.ERROR:
            self.count += 1
            if self.count == 1:
                told = shorten(record.getMessage(), 300)
                print_line(redact(f"warning: MLflow loses metrics, training goes on: {told}"))
        return False

    def tell(self) -> None:
        """How many there were, if any."""
        if self.count:
            print_line(f"warning: MLflow did not take {self.count} batches of metrics or settings")


LOSSES = Losses()


def quiet(uri: str) -> None:
    """Keep what would be written for each request out of the log."""
    logging.getLogger(_RETRIES).setLevel(logging.ERROR)
    logging.getLogger(_QUEUE).addFilter(LOSSES)
    if not uri.startswith("arn:"):
        # SageMaker's plugin takes each tracking URI for an ARN, and fails for every other.
        logging.getLogger(_HEADERS).addFilter(_is_of_another_plugin)


def _is_of_another_plugin(record: logging.LogRecord) -> bool:
    return "list index out of range" not in record.getMessage()
