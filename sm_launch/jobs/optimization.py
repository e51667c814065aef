"""Optimization: a training job that makes another artefact from a trained one, or fails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.job import naming
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameters import OPTIMIZE
from sm_launch.job.optimization import Optimization
from sm_launch.job.tasks import TASKS
from sm_launch.job.training import Instances
from sm_launch.jobs import training
from sm_launch.target.channels import resolve_channels
from sm_launch.target.context import JobContext
from sm_launch.target.data_sets import COLUMNS, as_object, channels_of, data_set_of
from sm_launch.target.staging import location_of

_KEPT = ("columns", "max_rejected_share")
"""Hyperparameters of training by which rows are read."""
_CALIBRATED = ("int8", "int4")
"""Precisions for which a language model is asked on rows beside those that are held out."""


def prepare(
    context: JobContext, artefact: str, *, max_cost: float | None = None, upload: bool = True
) -> naming.Request:
    """Check, price and stage the job; its CreateTrainingJob request under a new name.

    Args:
        context: the job whose model is optimized, and where.
        artefact: URI of that model.
        max_cost: US dollars; default: job.yaml's limit, if it has one.
        upload: False names the URIs on S3 without sending anything.

    Raises:
        LaunchError: a value that SageMaker does not take, no held-out data, or too high a price.
    """
    own = replace(context, config=optimizing(context.config, artefact))
    training.check_early(own)
    training.tell_price(own, max_cost)
    training.tell_single_try(context, "this job runs")
    name = naming.unique_name(context.config.name, suffix=OPTIMIZE)
    return training.request_of(own, own.stage(upload=upload), name)


def optimizing(config: JobConfig, artefact: str) -> JobConfig:
    """The job that optimizes an artefact of `config`: its held-out rows, and the settings.

    Raises:
        UserInputError: there is no held-out data.
    """
    wanted = config.optimization
    given = config.training.hyperparameters
    rows = {**calibrating(config), **held_out(config)}
    settings = {
        "precision": wanted.precision,
        "max_drop": wanted.max_drop,
        "metric": wanted.metric,
        **_speculation(wanted),
    }
    section = config.training.model_copy(
        update={
            "method": OPTIMIZE,
            "model": None,
            "hyperparameters": {
                **{key: given[key] for key in _KEPT if key in given},
                **_columns_apart(given.get(COLUMNS), rows),
                **{key: value for key, value in settings.items() if value is not None},
            },
            "channels": {
                **rows,
                **_draft(config),
                "model": location_of(artefact),
            },
            "instances": Instances(type=wanted.instance_type, volume_size_gb=wanted.volume_size_gb),
            "max_runtime_seconds": wanted.max_runtime_seconds,
            "spot": False,
            "max_wait_seconds": None,
            "checkpoints": None,
            "script": None,
            "source_dir": None,
            "fallback": [],
            "restarts": 0,
        }
    )
    return config.model_copy(update={"training": section})


def _columns_apart(given: object, channels: Iterable[str]) -> dict[str, Any]:
    """The renamings of those data sets that the job reads."""
    read = {told[1] for told in map(data_set_of, channels) if told is not None}
    kept = {name: value for name, value in as_object(given).items() if name in read}
    return {COLUMNS: kept} if kept else {}


def _speculation(wanted: Optimization) -> dict[str, str | int | None]:
    given = wanted.speculation
    if given is None:
        return {}
    lookup = given.lookup if given.method == "ngram" else None
    return {
        "speculation": given.method,
        "speculative_tokens": given.tokens,
        "speculative_lookup": lookup,
    }


def _draft(config: JobConfig) -> dict[str, str]:
    given = config.optimization.speculation
    if given is None or given.draft is None:
        return {}
    if given.draft.startswith(("s3://", "file://")):
        return {"draft": location_of(given.draft)}
    path = config.path(given.draft)
    if not path.exists():
        raise UserInputError(
            "no such file or directory",
            field="optimization.speculation.draft",
            value=str(path),
            fix="correct the path; relative paths start at the directory of job.yaml",
        )
    return {"draft": str(path)}


def calibrating(config: JobConfig) -> dict[str, str]:
    """The validation channel, where the precision is calibrated by it and the model is a decoder.

    Without one the job calibrates by half of the held-out rows.
    """
    named = config.training.channels or config.evaluation.data is None
    method = TASKS.get(config.training.method)
    encoder = method is not None and method.encoder
    if encoder or config.optimization.precision not in _CALIBRATED or not named:
        return {}
    return _channel(config, "validation")


def _channel(config: JobConfig, split: str) -> dict[str, str]:
    """The channel of a split, by the split's own name, or those of its data sets by theirs."""
    locations = resolve_channels(config)
    return {
        split if data_set_of(name) is None else name: locations[name]
        for name in channels_of(locations, split)
    }


def held_out(config: JobConfig) -> dict[str, str]:
    """The test channel, else the validation channel: paths or s3:// URIs.

    `evaluation.data`, where job.yaml names it, is the test channel.

    Raises:
        UserInputError: there is neither.
    """
    named = config.evaluation.data
    if named:
        return {"test": named if "://" in named else str(config.path(named))}
    for split in ("test", "validation"):
        if channel := _channel(config, split):
            return channel
    raise UserInputError(
        "there is neither a test nor a validation channel, so that nothing could prove that the "
        "optimized model is as good",
        field="training.channels",
        fix="prepare data with a held-out split, or name rows in evaluation.data",
    )
