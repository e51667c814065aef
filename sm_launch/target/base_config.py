"""The config.json of a job's base model, wherever that is: files, an archive, S3 or the Hub."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

from sm_launch.aws.uris import split_s3
from sm_launch.job.base_model import resolve_model
from sm_launch.job.config import JobConfig
from sm_launch.job.estimate import Described, read_config
from sm_launch.target.context import JobContext

_NAME = "config.json"
_HUB = "https://huggingface.co"
_SECONDS = 5.0


def describe(context: JobContext, config: JobConfig | None = None) -> Described:
    """What can be found out of the base model without loading it; never an error but for a path.

    Args:
        context: where the job runs.
        config: default: the context's.

    Raises:
        UserInputError: job.yaml names a path or a package that does not exist.
    """
    config = config or context.config
    source = resolve_model(config)
    try:
        if source.location and source.location.startswith("s3://"):
            return _on_s3(context, source.location)
        if source.location:
            return _in_files(Path(source.location))
        if source.hub_id:
            revision = config.training.hyperparameters.get("model_revision")
            return _on_hub(source.hub_id, str(revision or "main"))
    except Exception as error:  # credentials, networks, archives: a size may be given instead
        return Described(problem=f"{type(error).__name__}: {str(error)[:200]}")
    return Described()


def _in_files(path: Path) -> Described:
    if path.is_dir():
        return Described(read_config(path / _NAME), path)
    with tarfile.open(path) as archive:
        for member in archive:
            if Path(member.name) == Path(_NAME) and (content := archive.extractfile(member)):
                return Described(_parsed(content.read()))
    return Described(problem=f"{path.name} holds no {_NAME}")


def _on_s3(context: JobContext, uri: str) -> Described:
    if uri.endswith(".gz"):
        return Described(problem="an archive on S3 is not opened for it")
    bucket, key = split_s3(uri)
    answer = context.clients("s3").get_object(Bucket=bucket, Key=f"{key.rstrip('/')}/{_NAME}")
    return Described(_parsed(answer["Body"].read()))


def _on_hub(repository: str, revision: str) -> Described:
    import httpx

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return Described(problem="HF_HUB_OFFLINE is set")
    host = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    token = os.environ.get("HF_TOKEN")
    answer = httpx.get(
        f"{host}/{repository}/resolve/{revision}/{_NAME}",
        headers={"Authorization": f"Bearer {token}"} if token else {},
        follow_redirects=True,
        timeout=_SECONDS,
    )
    answer.raise_for_status()
    return Described(_parsed(answer.content))


def _parsed(content: bytes) -> dict[str, Any] | None:
    parsed = json.loads(content)
    return parsed if isinstance(parsed, dict) else None
