"""MLflow: a job is one run, from its first step to the scores on its test rows, over interruptions.

transformers' callback logs parameters and metrics into the run that is active. By itself it would
end that run after the last step, and the scores on the test rows would begin a second one; so the
run is begun and ended here.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sm_train.contract import Paths, read_json
from sm_train.errors import StoppedBySignalError
from sm_train.job import Job
from sm_train.log import print_line
from sm_train.loop.checkpoints import last_complete
from sm_train.redaction import redact
from sm_train.settings.packages import MLFLOW
from sm_train.settings.reporters import TRACKING_URI
from sm_train.settings.tracking_server import EXPERIMENT, LOSSES, limit_waiting, quiet, refused

NAME = "mlflow_run.json"
"""Beside the checkpoints: whoever goes on from them goes on with the run."""
MODEL_URI = "SM_TRAIN_MODEL_URI"
"""Variable: where the job's model will be, with {training_job} for its name."""
_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter where it was deleted

_TRIES, _PAUSE_SECONDS = 3, 5.0
_FAREWELL_SECONDS = 4.0
"""SIGKILL comes 5 s after a step that would not end."""


@contextmanager
def tracked_run(job: Job, trainer: Any) -> Iterator[None]:
    """Within it the trainer's scores go into the job's run, where `report_to` names MLflow.

    Raises:
        UserError: the tracking server takes no run; nothing is trained yet.
    """
    if not job.is_main or MLFLOW not in trainer.args.report_to:
        with _wandb_told():
            yield
        return
    _begin(job, trainer.args)
    # Where the process has to end within a step, nothing that is below is reached.
    job.stop.farewell = partial(end_left_open, job.paths, "KILLED")
    try:
        with _wandb_told():
            yield
    except StoppedBySignalError:
        _end("KILLED")
        raise
    except BaseException:
        _end("FAILED")
        raise
    _end("FINISHED", _artifacts())


@contextmanager
def _wandb_told() -> Iterator[None]:
    """A run of Weights & Biases that fails has to end before the process does: what sends its last
    lines is a process that ends with this one, and the run would be one that crashed."""
    try:
        yield
    except BaseException:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            with suppress(Exception):
                wandb.finish(exit_code=1)
        raise


def _begin(job: Job, arguments: Any) -> None:
    """Begin the job's run, or go on with it."""
    import mlflow

    note = job.paths.checkpoints / NAME
    uri = os.environ[TRACKING_URI]
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # we print it
    limit_waiting()
    quiet(uri)
    # The callback finds our run, and begins none of its own.
    given, noted = os.environ.pop("MLFLOW_RUN_ID", None), _noted(note, uri)
    os.environ.pop("MLFLOW_NESTED_RUN", None)  # nothing is around it
    try:
        mlflow.set_tracking_uri(uri)
        run = _started(mlflow, given, noted, arguments.run_name)
        mlflow.set_tags(_tags(job))
    except Exception as error:  # MLflow's own, requests', boto3's: whatever the store is made of
        raise refused(uri, error) from error
    if run.data.params:
        # MLflow refuses a parameter that has another value by now, and all that come with it.
        os.environ["MLFLOW_MAX_LOG_PARAMS"] = "0"
        print_line("mlflow: the run goes on; its parameters stay as they were first logged")
    draft = note.with_name(f".{NAME}-{os.getpid()}")
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text(json.dumps(_note(uri, run.info.run_id)), encoding="utf-8")
    draft.replace(note)
    print_line(redact(f"mlflow run: {_address(uri, run.info)}"))


def _started(mlflow: Any, given: str | None, noted: str | None, name: str | None) -> Any:
    """The run that was given or noted, else a new one in the experiment that variables name."""
    if given:
        return mlflow.start_run(run_id=given)
    if noted:
        try:
            return mlflow.start_run(run_id=noted)
        except mlflow.MlflowException as error:
            if error.error_code not in _GONE:
                raise
            print_line(f"mlflow: the run {noted} is gone; a new one begins")
    if experiment := os.environ.get(EXPERIMENT):
        mlflow.set_experiment(experiment)
    return mlflow.start_run(run_name=name)


def _noted(note: Path, uri: str) -> str | None:
    """The run of the job that this one goes on with."""
    former = read_json(note)
    same_job = former.get("job") == os.environ.get("TRAINING_JOB_NAME")
    if former.get("uri") != redact(uri) or not (same_job or last_complete(note.parent)):
        return None
    return former.get("run")


def _note(uri: str, run: str) -> dict[str, str | None]:
    # Checkpoints are copied to S3: no password of a URL goes there.
    return {"uri": redact(uri), "run": run, "job": os.environ.get("TRAINING_JOB_NAME")}


def _tags(job: Job) -> dict[str, str]:
    name = os.environ.get("TRAINING_JOB_NAME")
    own = {"training_job": name, "method": job.config.method.name, "base_model": job.model_origin}
    return {key: value for key, value in own.items() if value}


def _artifacts() -> dict[str, str]:
    place, name = os.environ.get(MODEL_URI), os.environ.get("TRAINING_JOB_NAME", "")
    return {"model_artifacts": place.replace("{training_job}", name)} if place else {}


def _end(status: str, tags: dict[str, str] | None = None) -> None:
    """Send what is still on its way. A model that is trained is not lost for a tracker's sake."""
    import mlflow

    run = mlflow.active_run()
    # Each by itself: a run whose metrics were not all taken has ended all the same.
    for send in (mlflow.flush_async_logging, partial(mlflow.set_tags, tags or {})):
        with suppress(Exception):
            send()
    try:
        if run is not None:
            uri = mlflow.get_tracking_uri()
            _terminate(uri, run.info.run_id, status)
            print_line(redact(f"mlflow run: {_address(uri, run.info)}, {status}"))
    except Exception as error:
        print_line(
            redact(f"warning: MLflow did not take the end of the run, which stays open: {error}")
        )
    finally:
        with suppress(Exception):
            mlflow.end_run(status)
        LOSSES.tell()


def _terminate(uri: str, run: str, status: str) -> None:
    """Tell the server; once more where it is just starting anew. Raises what MLflow raises."""
    from mlflow.tracking import MlflowClient

    for left in reversed(range(_TRIES)):
        try:
            MlflowClient(uri).set_terminated(run, status)
            return
        except Exception:
            if not left:
                raise
            time.sleep(_PAUSE_SECONDS)


def end_left_open(paths: Paths, status: str) -> None:
    """End the job's run where the process that had begun it could not: killed, or cut short.

    Waits for the server a few seconds at most, and never raises.
    """
    uri, note = os.environ.get(TRACKING_URI), paths.checkpoints / NAME
    if not uri or not note.is_file():
        return
    asking = threading.Thread(target=_end_where_open, args=(uri, note, status), daemon=True)
    asking.start()
    asking.join(_FAREWELL_SECONDS)


def _end_where_open(uri: str, note: Path, status: str) -> None:
    with suppress(Exception):
        held = read_json(note)
        if held.get("uri") != redact(uri) or held.get("job") != os.environ.get("TRAINING_JOB_NAME"):
            return
        limit_waiting()
        quiet(uri)
        from mlflow.tracking import MlflowClient

        client, run = MlflowClient(uri), held["run"]
        if client.get_run(run).info.status == "RUNNING":
            client.set_terminated(run, status)
            print_line(f"mlflow run {run}: {status}")


def _address(uri: str, run: Any) -> str:
    """Where people see the run; a server's page if there is one."""
    if uri.startswith(("http://", "https://")):
        return f"{uri.rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    return f"{run.run_id} ({run.run_name}) at {uri}"
