"""A job that begins with another job's model: SFT and then DPO, in two commands."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from sm_launch.aws.errors import LISTING, is_missing
from sm_launch.errors import UserInputError
from sm_launch.job.base_model import BaseModelSource, resolve_model
from sm_launch.job.config import JobConfig
from sm_launch.job.tasks import TASKS
from sm_launch.sessions.protocol import Session
from sm_launch.target.staging import location_of

FIELD = "training.model"
_ADAPTER, _BASE = "adapter_config.json", "base"
_LARGE = 50_000_000  # bytes


def base_model(session: Session, config: JobConfig) -> BaseModelSource:
    """The base model of a job; another job's is looked up where the job will run.

    Raises:
        UserInputError: there is no such job or it has no model, or the method cannot go on with it.
    """
    source = resolve_model(config)
    if source.job is None:
        if source.location and "://" not in source.location:
            _check_adapter(config, Path(source.location))
        return source
    job = _describe(session, source.job)
    given = {key: str(value).strip('"') for key, value in job.get("HyperParameters", {}).items()}
    _check_method(config, source.job, given)
    artefact = location_of(artefact_uri(job))
    alone = given.get("use_peft", "").lower() in ("true", "1") and given.get("export") == "adapter"
    if not alone:
        return BaseModelSource(location=artefact)
    base = _model_channel(job)
    _check_export(config, source.job)
    _check_isolation(config, source.job, base)
    return BaseModelSource(location=artefact, base=base)


def _check_adapter(config: JobConfig, path: Path) -> None:
    """An adapter alone needs its base model: beside it, as the channel `base`, or from the Hub."""
    about, with_base = _adapter_in(path)
    if about is None:
        return
    base = about.get("base_model_name_or_path")
    at_hand = with_base or "base" in config.training.channels
    if not at_hand and (not base or Path(base).is_absolute()):
        raise UserInputError(
            f"is an adapter alone, and its base model is not with it: {base or 'nobody knows it'}",
            field=FIELD,
            value=config.training.model,
            fix="name the job that made it (training.model: job:NAME), whose base model goes "
            "along, or give the base model as training.channels.base",
        )
    _check_export(config, path.name)


def _adapter_in(path: Path) -> tuple[dict[str, Any] | None, bool]:
    """The adapter_config.json of a directory or a model.tar.gz, and whether it has a base/."""
    if path.is_dir():
        about = path / _ADAPTER
        held = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else None
        return held, (path / _BASE).is_dir()
    read: dict[str, Any] | None = None
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name)
            if name == Path(_ADAPTER) and (content := archive.extractfile(member)):
                read = json.loads(content.read())
            if name.parts[:1] == (_BASE,):
                return read, True
            if read is None and member.size > _LARGE:
                break  # the weights of a whole model: an adapter's settings come before
    return read, False


def artefact_uri(description: dict[str, Any]) -> str:
    """Where a completed training job left its model (a prefix ends with a slash)."""
    uri: str = description["ModelArtifacts"]["S3ModelArtifacts"]
    return uri if uri.endswith((".tar.gz", "/")) else f"{uri}/"


def _describe(session: Session, name: str) -> dict[str, Any]:
    try:
        job: dict[str, Any] = session.describe_training_job(TrainingJobName=name)
    except Exception as error:
        if not is_missing(error):
            raise
        raise UserInputError(
            "there is no such training job at this target",
            field=FIELD,
            value=name,
            fix=f"{LISTING}; of a job at another target name the model.tar.gz",
        ) from None
    status = job["TrainingJobStatus"]
    if status != "Completed":
        raise UserInputError(
            f"has no model: it is {status}",
            field=FIELD,
            value=name,
            fix="name a job that is Completed, or wait for its end",
        )
    return job


def _check_method(config: JobConfig, name: str, given: dict[str, str]) -> None:
    """An encoder does not generate, and a language model has no head for labels."""
    before, now = given.get("method", ""), config.training.method
    kinds = {task: facts.encoder for task, facts in TASKS.items() if task in (before, now)}
    if len(set(kinds.values())) > 1:
        raise UserInputError(
            f"was trained by {before}, and {now} cannot go on with such a model",
            field=FIELD,
            value=name,
            fix="name the job of " + ("an encoder" if TASKS[now].encoder else "a language model"),
        )


def _check_export(config: JobConfig, name: str) -> None:
    if config.training.hyperparameters.get("export") == "adapter":
        raise UserInputError(
            f"would leave an adapter of a model that nobody has: {name} left an adapter, which is "
            "merged into its base first",
            field="training.hyperparameters.export",
            value="adapter",
            fix="set it to merged or both",
        )


def _check_isolation(config: JobConfig, name: str, base: str | None) -> None:
    if base is None and config.training.network.isolation:
        raise UserInputError(
            f"forbids the Hub, which the base model of {name}'s adapter comes from",
            field="training.network.isolation",
            value=True,
            fix="set it to false, or train that job again with export merged",
        )


def _model_channel(job: dict[str, Any]) -> str | None:
    """Where the `model` channel of a job is; None where it had its base from the Hub."""
    for channel in job.get("InputDataConfig", ()):
        if channel["ChannelName"] == "model":
            return location_of(channel["DataSource"]["S3DataSource"]["S3Uri"])
    return None
