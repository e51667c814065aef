"""What SageMaker demands of a training container, each fact once.

Sources: the SageMaker developer guide, "How Amazon SageMaker provides training information", and
the request limits of the CreateTrainingJob API.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_train.errors import UserError

FAILURE_CHARACTERS = 1024  # DescribeTrainingJob's FailureReason holds no more
EXIT_STOPPED = 128 + 15  # not 0: a job stopped half-way is not Completed
DEFAULT_INTERFACE = "eth0"

# Hyperparameters that the SDKs and tuning jobs add of their own; they are not the user's.
RESERVED_PREFIXES = ("sagemaker_", "_tuning_objective_metric")
# Channels that are not data: taken by the SDK (code, sm_drivers, recipe) or by us (model, base,
# config).
RESERVED_CHANNELS = frozenset({"code", "sm_drivers", "recipe", "model", "base", "config"})
# The names under which people upload each split.
SPLIT_CHANNELS = {
    "train": ("train", "training"),
    "validation": (
        "validation",
        "validate",
        "valid",
        "val",
        "eval",
        "evaluate",
        "evaluation",
        "dev",
    ),
    "test": ("test", "testing"),
}
# What says nothing of a data set: `test_set` is a test channel under another name, and refused.
_NO_DATA_SET = ("set", "data", "dataset", "split", "channel", "file", "files", "rows")
DATA_SET_CHANNEL = (
    rf"^({'|'.join(name for names in SPLIT_CHANNELS.values() for name in names)})[-_.]"
    rf"(?!({'|'.join(_NO_DATA_SET)})$)(.+)$"
)
"""The name of a channel that holds one of several data sets of a split, such as train-code."""


def data_set_of(channel: str) -> tuple[str, str] | None:
    """The split and the data set that a channel's name tells: train-code is train's code.

    None for a channel of a whole split, and for any other.
    """
    match = re.match(DATA_SET_CHANNEL, channel, re.IGNORECASE)
    if match is None:
        return None
    split = next(s for s, names in SPLIT_CHANNELS.items() if match[1].lower() in names)
    return split, match[3]


@dataclass(frozen=True)
class Paths:
    """Where everything lies under the base directory (`/opt/ml`, or SAGEMAKER_BASE_DIR)."""

    base: Path
    trial: str = ""  # name of the training job, where it is one of a tuning job

    @classmethod
    def from_environment(cls) -> Paths:
        """Both SageMaker toolkits read the base directory from this variable."""
        base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
        # CreateTrainingJob's guide, "Environment Variables": the job's own name.
        name = os.environ.get("TRAINING_JOB_NAME", "")
        return cls(base, name if _is_trial(base / "input" / "config") else "")

    @property
    def config(self) -> Path:
        """The JSON files that describe the job: hyperparameters, hosts, channels, checkpoints."""
        return self.base / "input" / "config"

    @property
    def channels(self) -> Path:
        """One directory for each input channel."""
        return self.base / "input" / "data"

    @property
    def model(self) -> Path:
        """Becomes model.tar.gz, or stays a prefix with OutputCompressionType NONE."""
        return self.base / "model"

    @property
    def scratch(self) -> Path:
        """What a job unpacks or merges before it trains; nothing takes it away from the host."""
        return self.base / "scratch"

    @property
    def output_data(self) -> Path:
        """Becomes output.tar.gz."""
        return self.base / "output" / "data"

    @property
    def failure(self) -> Path:
        """Its first 1024 characters become FailureReason."""
        return self.base / "output" / "failure"

    @property
    def checkpoints(self) -> Path:
        """Synced to S3 while training when the job has a CheckpointConfig.

        All trials of a tuning job have the CheckpointConfig of its definition, so that each needs
        a folder of its own there.
        """
        return self.base / "checkpoints" / self.trial

    def channel(self, name: str) -> Path | None:
        """The directory of a channel, or None when the job does not have it."""
        path = self.channels / name
        return path if path.is_dir() else None

    def split(self, name: str) -> Path | None:
        """The channel of a split under any of the names that it goes by, in any case.

        Raises UserError when two channels are of the same split.
        """
        folders = sorted(self.channels.iterdir()) if self.channels.is_dir() else []
        matches = [p for p in folders if p.name.lower() in SPLIT_CHANNELS[name] and p.is_dir()]
        if len(matches) > 1:
            raise UserError(
                f"both are {name} data",
                field=f"channels {' and '.join(path.name for path in matches)}",
                fix=f"give the job one of them, or put their files into one channel {name}",
            )
        return matches[0] if matches else None


def _is_trial(config: Path) -> bool:
    """Whether a tuning job started this one: it then names its objective."""
    try:
        return "_tuning_objective_metric" in (config / "hyperparameters.json").read_text("utf-8")
    except (OSError, ValueError):
        return False  # what is wrong with the file is said when it is read


@dataclass(frozen=True)
class Cluster:
    """The hosts of the job, from resourceconfig.json; the rank is the place in the sorted names."""

    hosts: tuple[str, ...]
    current_host: str
    interface: str
    instance_type: str

    @property
    def rank(self) -> int:
        """0 is the leader, which other hosts connect to."""
        return self.hosts.index(self.current_host)

    @property
    def leader(self) -> str:
        """Name of the first host; resolvable by DNS inside the job."""
        return self.hosts[0]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a config file; {} when the file is absent or empty.

    Raises UserError when it is not a JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", field=path.name) from error
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not valid JSON: {error}", field=path.name) from error
    if not isinstance(value, dict):
        raise UserError(
            f"must hold a JSON object, found {type(value).__name__}",
            field=path.name,
            fix='write {"key": "value", …}',
        )
    return value


def read_text(path: Path, field: str) -> str:
    """A text file that a setting names. Raises UserError when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot be read: {error}", field=field, value=path.name, fix="write it as UTF-8"
        ) from error


def read_cluster(paths: Paths) -> Cluster:
    """The job's hosts. A missing resourceconfig.json means one host.

    Raises UserError when hosts or current_host do not fit.
    """
    config = read_json(paths.config / "resourceconfig.json")
    current = config.get("current_host", "localhost")
    hosts = config.get("hosts", [current])
    if not isinstance(hosts, list) or not hosts or not all(isinstance(h, str) for h in hosts):
        raise UserError(
            "must be a list of host names", field="resourceconfig.json hosts", value=hosts
        )
    if current not in hosts:
        raise UserError(
            f"is not one of hosts {hosts}", field="resourceconfig.json current_host", value=current
        )
    return Cluster(
        hosts=tuple(sorted(set(hosts))),
        current_host=current,
        interface=str(config.get("network_interface_name") or DEFAULT_INTERFACE),
        instance_type=str(config.get("current_instance_type") or "local"),
    )


def check_input_modes(paths: Paths) -> None:
    """Refuse Pipe mode, which has no files to read; File and FastFile look the same to us."""
    for name, channel in read_json(paths.config / "inputdataconfig.json").items():
        mode = channel.get("TrainingInputMode", "File") if isinstance(channel, dict) else "File"
        if mode == "Pipe":
            raise UserError(
                "Pipe mode is not supported",
                field=f"channel {name} TrainingInputMode",
                value=mode,
                fix="use File or FastFile",
            )


def channel_file(paths: Paths, name: str, field: str) -> Path:
    """A file by its path, or by its name in one of the channels. Raises UserError."""
    if Path(name).is_absolute() and Path(name).is_file():
        return Path(name)
    matches = sorted(p for p in paths.channels.glob(f"*/**/{Path(name).name}") if p.is_file())
    matches = [p for p in matches if p.as_posix().endswith(f"/{name.removeprefix('./')}")]
    if len(matches) == 1:
        return matches[0]
    where = [str(p.relative_to(paths.channels)) for p in matches]
    raise UserError(
        f"is in several channels: {where}" if matches else "is in none of the channels",
        field=field,
        value=name,
        fix="name it as CHANNEL/FILE"
        if matches
        else "upload it, for example to the channel config",
    )
