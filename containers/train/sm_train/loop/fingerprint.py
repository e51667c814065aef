"""What a checkpoint is a checkpoint of: method, base model, data and hyperparameters.

A folder of checkpoints outlives its job on purpose, so that an interrupted one goes on. Another job
that is given the same folder would take the finished model for its own, and end at once with
yesterday's weights. Every checkpoint therefore carries the fingerprint of its job, and a job takes
up none but its own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sm_train.contract import Paths, read_json
from sm_train.errors import UserError, shorten
from sm_train.loop.checkpoints import last_complete
from sm_train.loop.digests import folder_digest
from sm_train.redaction import redact_value
from sm_train.settings.settings import Config

NAME = "fingerprint.json"
# What may differ between a job and the one that goes on with it: it changes nothing that is learnt.
_WITHOUT_EFFECT = frozenset(
    {
        "config",  # its keys are compared one by one
        "model_name_or_path",  # compared by content, or by id and revision
        "method",
        "export",
        "generation_max_new_tokens",
        "generation_rows",
        "predict_with_generate",
        "max_rejected_share",
        "save_total_limit",
        "save_steps",
        "save_strategy",
        "report_to",
        "run_name",
        "project",
    }
)
_WITHOUT_EFFECT_PREFIXES = ("logging_", "log_", "dataloader_", "trackio_", "hub_")
# Whoever goes on with a job may have mended the code of a reward or a script.
_CODE = frozenset({"code", "sm_drivers"})
_SHOWN_DIFFERENCES = 5
_DIGITS = 12


def settle(paths: Paths, config: Config, source: str) -> None:
    """Refuse the checkpoints of another job; write down whose the coming ones are.

    Raises:
        UserError: the last checkpoint is that of another job; names every difference.
    """
    own = fingerprint(paths, config, source)
    last = last_complete(paths.checkpoints)
    if last is not None:
        _require_same(last, own)
    paths.checkpoints.mkdir(parents=True, exist_ok=True)
    draft = paths.checkpoints / f".{NAME}-{os.getpid()}"
    draft.write_text(json.dumps(own, indent=1, sort_keys=True), encoding="utf-8")
    draft.replace(paths.checkpoints / NAME)


def carry(checkpoint: Path) -> None:
    """Put the job's fingerprint into one of its checkpoints, before that is sealed."""
    source = checkpoint.parent / NAME
    if source.is_file():
        shutil.copyfile(source, checkpoint / NAME)


def fingerprint(paths: Paths, config: Config, source: str) -> dict[str, Any]:
    """The identity of a job, in words that can be compared and shown.

    Args:
        paths: where its channels lie.
        config: its settings.
        source: Hub id or directory of the base model.
    """
    revision = config.model.model_revision
    model = folder_digest(Path(source)) if Path(source).is_dir() else f"{source}@{revision}"
    modes = read_json(paths.config / "inputdataconfig.json")
    return {
        "method": config.method.name,
        "model": model,
        "data": {
            channel.name: folder_digest(channel, streamed=_is_streamed(modes.get(channel.name)))
            for channel in _channels(paths)
            if channel != Path(source) and channel not in Path(source).parents
        },
        "hyperparameters": _hyperparameters(config),
    }


def differences(theirs: Mapping[str, Any], own: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Every field that differs: its name, the checkpoint's value and this job's."""
    before, now = _flat(theirs), _flat(own)
    return [
        (name, before.get(name), now.get(name))
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def _require_same(checkpoint: Path, own: dict[str, Any]) -> None:
    theirs = _read(checkpoint / NAME) or _read(checkpoint.parent / NAME)
    if theirs is None:
        sys.stdout.write(
            f"warning: {checkpoint.name} has no fingerprint (another tool or an older version "
            "wrote it): whether it is a checkpoint of this job cannot be told\n"
        )
        return
    changes = differences(theirs, json.loads(json.dumps(own)))
    if not changes:
        return
    shown = [f"{name} was {_shown(old)} and is {_shown(new)}" for name, old, new in changes]
    more = (
        f", and {len(shown) - _SHOWN_DIFFERENCES} more" if len(shown) > _SHOWN_DIFFERENCES else ""
    )
    raise UserError(
        f"{checkpoint.name} is of another job: {'; '.join(shown[:_SHOWN_DIFFERENCES])}{more}",
        field="checkpoints",
        value=str(checkpoint.parent),
        fix="train anew in a place of its own (without --resume, or with another "
        "CheckpointConfig), or give the values and data of the former job to go on with it",
    )


def _hyperparameters(config: Config) -> dict[str, Any]:
    # Written down and shown: a token among from_pretrained's arguments is neither.
    groups = (config.job, config.model, config.own, config.dataset)
    values = {name: value for group in groups for name, value in asdict(group).items()}
    kept = {
        name: value
        for name, value in {**values, **config.training}.items()
        if name not in _WITHOUT_EFFECT and not name.startswith(_WITHOUT_EFFECT_PREFIXES)
    }
    return dict(redact_value(kept))


def _channels(paths: Paths) -> Iterable[Path]:
    if not paths.channels.is_dir():
        return []
    return sorted(p for p in paths.channels.iterdir() if p.is_dir() and p.name not in _CODE)


def _is_streamed(channel: Any) -> bool:
    return isinstance(channel, dict) and channel.get("TrainingInputMode") == "FastFile"


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters by their own names, channels as data.NAME."""
    flat = {key: values.get(key) for key in ("method", "model")}
    flat |= {f"data.{name}": value for name, value in dict(values.get("data") or {}).items()}
    return flat | dict(values.get("hyperparameters") or {})


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[: len("sha256:") + _DIGITS]
    return shorten(repr(value), 60)
