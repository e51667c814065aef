"""What an organisation sets for all its jobs: a defaults file, and the SageMaker SDK's own.

The weakest first: the SDK's config.yaml of the machine, then of the user, then sm-launch's
defaults.yaml, which has the keys of job.yaml. A job.yaml and --set take precedence over all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.job.file import read_document

Document = dict[str, Any]
DEFAULTS_VARIABLE = "SM_LAUNCH_DEFAULTS"

# Keys of the SDK's config.yaml to ours. SageMaker Python SDK, "Configuring and using defaults";
# sagemaker.core.config.config_schema.
_OF_SDK = {
    "PythonSDK.Modules.Session.DefaultS3Bucket": "aws.bucket",
    "PythonSDK.Modules.Session.DefaultS3ObjectKeyPrefix": "aws.prefix",
    "TrainingJob.RoleArn": "aws.training_role",
    "TrainingJob.OutputDataConfig.KmsKeyId": "aws.kms_key",
    "TrainingJob.VpcConfig.Subnets": "training.network.subnets",
    "TrainingJob.VpcConfig.SecurityGroupIds": "training.network.security_groups",
    "TrainingJob.EnableNetworkIsolation": "training.network.isolation",
    "TrainingJob.EnableInterContainerTrafficEncryption":
        "training.network.encrypt_between_instances",
    "Model.ExecutionRoleArn": "aws.hosting_role",
    "Model.VpcConfig.Subnets": "endpoint.network.subnets",
    "Model.VpcConfig.SecurityGroupIds": "endpoint.network.security_groups",
    "Model.EnableNetworkIsolation": "endpoint.network.isolation",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A file of defaults that is there.

    Attributes:
        path: where it is.
        document: what it sets, with the keys of job.yaml.
    """

    path: Path
    document: Document


def with_defaults(document: Document) -> tuple[Document, tuple[str, ...]]:
    """A job.yaml over the defaults, and what was taken from which file, for the user.

    Raises:
        UserInputError: a file of defaults cannot be read, or names a job.
    """
    merged, notes = document, []
    for source in reversed(sources()):
        taken = [key for key in _keys(source.document) if _value(merged, key) is None]
        if taken:
            notes.append(f"defaults of {source.path}: {', '.join(taken)}")
        merged = _over(source.document, merged)
    return merged, tuple(notes)


def sources() -> list[Source]:
    """The files of defaults that are there, the weakest first.

    Raises:
        UserInputError: one cannot be read, or is named by a variable and not there.
    """
    read = [Source(path, _translated(read_document(path))) for path in _sdk_files()]
    path = _own_file()
    if path is not None:
        document = read_document(path)
        if "name" in document:
            raise UserInputError(
                "defaults are for all jobs, and name none",
                field="name",
                value=document["name"],
                fix=f"take it out of {path}",
            )
        read.append(Source(path, document))
    return [source for source in read if source.document]


def _own_file() -> Path | None:
    """sm-launch's; the variable names another one, which must be there, and empty means none."""
    named = os.environ.get(DEFAULTS_VARIABLE)
    if named is not None:
        return Path(named).expanduser() if named else None
    usual = _config_home() / "sm-launch" / "defaults.yaml"
    return usual if usual.is_file() else None


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _sdk_files() -> Iterator[Path]:
    """Where the SDK looks: platformdirs' places, or a variable's."""
    places = {
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": Path("/etc/xdg/sagemaker/config.yaml"),
        "SAGEMAKER_USER_CONFIG_OVERRIDE": _config_home() / "sagemaker" / "config.yaml",
    }
    for variable, usual in places.items():
        path = Path(os.environ.get(variable) or usual)
        path = path / "config.yaml" if path.is_dir() else path
        if path.is_file():  # an s3:// URI is the SDK's own to read
            yield path


def _translated(document: Document) -> Document:
    ours: Document = {}
    sagemaker = document.get("SageMaker") or {}
    for theirs, key in _OF_SDK.items():
        value = _value(sagemaker, theirs)
        if value is not None:
            _set(ours, key, value)
    tags = _value(sagemaker, "TrainingJob.Tags")
    if isinstance(tags, list):
        _set(ours, "aws.tags", {str(tag["Key"]): str(tag.get("Value", "")) for tag in tags})
    return ours


def _value(document: Any, key: str) -> Any:
    for part in key.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    return document


def _set(document: Document, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        document = document.setdefault(parent, {})
    document[last] = value


def _keys(document: Document, above: str = "") -> Iterator[str]:
    for key, value in document.items():
        place = f"{above}{key}"
        if isinstance(value, dict) and value:
            yield from _keys(value, f"{place}.")
        else:
            yield place


def _over(weaker: Document, stronger: Document) -> Document:
    """Section by section; a list or value takes the other's place, null leaves it."""
    result = dict(weaker)
    for key, value in stronger.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            result[key] = _over(before, value)
        elif value is not None or key not in result:
            result[key] = value
    return result
