"""`data prepare` as a SageMaker Processing job, in the training image.

The image has pydantic, pyarrow and the like, but not this package: its source travels as an input,
together with the few pure-Python packages that the image lacks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from sm_launch.data import aligned, beir
from sm_launch.data.sources import choose_files, list_files
from sm_launch.data.split import SPLITS
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import local_storage, naming
from sm_launch.job.config import JobConfig
from sm_launch.job.data import DataConfig
from sm_launch.job.hyperparameters import OUR_IMAGE
from sm_launch.job.passthrough import merged
from sm_launch.sessions.watching import watch

BASE = "/opt/ml/processing"
CODE, TOKENIZER, PIPELINE = "code", "tokenizer", "presidio"
JOB_FILE = "job.yaml"
_FINAL = frozenset({"Completed", "Failed", "Stopped"})
_ALWAYS = ("ftfy", "wcwidth")
"""Pure-Python packages that every preparation needs and the training image lacks."""


@dataclass(frozen=True)
class ProcessingInputs:
    """What the request needs that is not in job.yaml as such.

    Attributes:
        uris: input name to s3:// URI: `code`, the raw files, maybe `tokenizer`.
        output: s3:// URI that gets what is prepared.
        image: URI of the training image.
        role: ARN of the execution role.
    """

    uris: dict[str, str]
    output: str
    image: str
    role: str


def build_request(config: JobConfig, name: str, inputs: ProcessingInputs) -> naming.Request:
    """CreateProcessingJob."""
    section = _section(config)
    settings = section.processing
    cluster: naming.Request = {
        "InstanceCount": settings.instance_count,
        "InstanceType": settings.instance_type,
        "VolumeSizeInGB": local_storage.volume_size(settings.instance_type, settings),
    }
    output: naming.Request = {"Outputs": [_output(inputs.output)]}
    if config.aws.kms_key:
        output["KmsKeyId"] = config.aws.kms_key
        if settings.instance_type not in local_storage.table():
            cluster["VolumeKmsKeyId"] = config.aws.kms_key
    request: naming.Request = {
        "ProcessingJobName": name,
        "AppSpecification": {
            "ImageUri": inputs.image,
            "ContainerEntrypoint": entrypoint(hosts=settings.instance_count),
        },
        "Environment": environment(),
        "ProcessingInputs": [
            _input(key, uri, sharded=settings.instance_count > 1 and key in section.sources)
            for key, uri in sorted(inputs.uris.items())
        ],
        "ProcessingOutputConfig": output,
        "ProcessingResources": {"ClusterConfig": cluster},
        "RoleArn": inputs.role,
        "StoppingCondition": {"MaxRuntimeInSeconds": settings.max_runtime_seconds},
        "Tags": naming.tags(config),
    }
    if network := _network(config):
        request["NetworkConfig"] = network
    return merged(request, config.sagemaker.processing)


def _network(config: JobConfig) -> naming.Request:
    settings = config.training.network
    network: naming.Request = {}
    if settings.subnets:
        network["VpcConfig"] = {
            "Subnets": settings.subnets,
            "SecurityGroupIds": settings.security_groups,
        }
    if settings.encrypt_between_instances and _section(config).processing.instance_count > 1:
        network["EnableInterContainerTrafficEncryption"] = True
    return network


def check_instances(config: JobConfig, request: naming.Request) -> None:
    """Refuse machines that would have nothing to do, or would not know of each other.

    Args:
        config: names the raw files.
        request: CreateProcessingJob.

    Raises:
        UserInputError: with what to set instead.
    """
    section = _section(config)
    wanted = section.processing.instance_count
    cluster = request.get("ProcessingResources", {}).get("ClusterConfig", {})
    real = cluster.get("InstanceCount", wanted)
    if real != wanted:
        raise UserInputError(
            f"each of these machines would prepare the data by itself: "
            f"data.processing.instance_count is {wanted}",
            field="sagemaker.processing.ProcessingResources.ClusterConfig.InstanceCount",
            value=real,
            fix=f"set data.processing.instance_count: {real}, and leave it out here",
        )
    counts = [_file_count(config, split) for split in section.sources]
    files = sum(count for count in counts if count is not None)
    if wanted > 1 and None not in counts and files < wanted:
        raise UserInputError(
            f"the data is {files} file(s), which {wanted} machines cannot share: each file is "
            "prepared by one",
            field="data.processing.instance_count",
            value=wanted,
            fix=f"set at most {files}, or name a directory of more files",
        )


def _file_count(config: JobConfig, split: str) -> int | None:
    """Raw files of a location; None for a prefix of S3, which nobody has listed."""
    section = _section(config)
    location = section.sources[split]
    if location.startswith("s3://"):
        return None if location.endswith("/") else 1
    path = config.path(location)
    return (
        len(choose_files(section, split, list_files(section, split, path))) if path.is_dir() else 1
    )


def _input(name: str, uri: str, *, sharded: bool) -> naming.Request:
    source = {
        "S3Uri": uri,
        "LocalPath": f"{BASE}/input/{name}",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": "ShardedByS3Key" if sharded else "FullyReplicated",
    }
    return {"InputName": name, "S3Input": source}


def _output(uri: str) -> naming.Request:
    target = {"S3Uri": uri, "LocalPath": f"{BASE}/output", "S3UploadMode": "EndOfJob"}
    return {"OutputName": "prepared", "S3Output": target}


def entrypoint(base: str = BASE, *, hosts: int = 1) -> list[str]:
    """What each container runs."""
    job = f"{base}/input/{CODE}/{JOB_FILE}"
    if hosts > 1:
        return ["python3", "-m", "sm_launch.jobs.processing_host", job]
    return ["python3", "-m", "sm_launch", "data", "prepare", "--config", job]


def environment(base: str = BASE) -> dict[str, str]:
    """How the container finds the code; it must not look for credentials to choose a target."""
    return {"PYTHONPATH": f"{base}/input/{CODE}"}


def pipeline(config: JobConfig) -> Path | None:
    """The directory of spaCy's pipeline for `data.presidio`; a package's name is no directory."""
    presidio = _section(config).presidio
    folder = config.path(presidio.model) if presidio is not None and presidio.model else None
    return folder if folder is not None and folder.is_dir() else None


def check_masking(config: JobConfig, image: str) -> None:
    """Refuse presidio in an image that lacks it: compiled packages cannot travel with the code.

    An image made from ours may have it: one whose repository has another name is taken to know.

    Raises:
        UserInputError: with what to do instead.
    """
    if _section(config).presidio is not None and OUR_IMAGE.search(image):
        raise UserInputError(
            f"needs presidio and spaCy, which the image {image} does not have",
            field="data.presidio",
            fix="prepare the data on this machine; or add `presidio-analyzer` and `spacy` to an "
            "image made from this one, and name that as training.image, under another name",
        )


def check_format(config: JobConfig) -> None:
    """Refuse formats of which a file means others beside it: a job gets the named files.

    Raises:
        UserInputError: with what to do instead.
    """
    section = _section(config)
    if section.format in (aligned.FORMAT, beir.FORMAT):
        raise UserInputError(
            "reads files beside those that are named, which a Processing job does not get",
            field="data.format",
            value=section.format,
            fix="prepare the data on this machine, without --processing-job",
        )


def write_code(config: JobConfig, directory: Path, base: str = BASE) -> None:
    """Write the input `code`: this package, what the image lacks, and the job.yaml of the job.

    Raises:
        UserInputError: a step needs a package that is not installed here.
    """
    section = _section(config)
    directory.mkdir(exist_ok=True)
    for package in ("sm_launch", *_packages(section)):
        shutil.copytree(
            _source(package), directory / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    data = section.model_dump(mode="json", exclude_defaults=True, exclude={"processing"})
    for split, location in section.sources.items():
        data[split] = local_path(config, split, location, base)
    if section.tokens is not None:
        data["tokens"]["tokenizer"] = f"{base}/input/{TOKENIZER}/tokenizer.json"
    if pipeline(config) is not None:
        data["presidio"]["model"] = f"{base}/input/{PIPELINE}"
    document = {
        "name": config.name,
        "target": "process",
        "work_dir": f"{base}/output",
        "data": data,
    }
    (directory / JOB_FILE).write_text(yaml.safe_dump(document), encoding="utf-8")


def local_path(config: JobConfig, split: str, location: str, base: str = BASE) -> str:
    """Where a raw file or directory lies in the container."""
    folder = f"{base}/input/{split}"
    if location.startswith("s3://"):
        return folder if location.endswith("/") else f"{folder}/{location.rpartition('/')[2]}"
    path = config.path(location)
    return folder if path.is_dir() else f"{folder}/{path.name}"


def _packages(section: DataConfig) -> list[str]:
    wanted = list(_ALWAYS)
    if section.language is not None:
        wanted.append("py3langid")
    if "stem" in section.effective_steps:
        wanted.append("snowballstemmer")
    if "lemmatize" in section.effective_steps:
        wanted.append("simplemma")
    return wanted


def _source(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserInputError(
            f"needs the package {package} on this machine too",
            field="data",
            fix="pip install 'sm-launch[text]'",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _section(config: JobConfig) -> DataConfig:
    if config.data is None:
        raise UserInputError("is needed to prepare data", field="data", fix="name the raw file")
    return config.data


def channels(config: JobConfig, output: str) -> dict[str, str]:
    """Where the channels of a finished job are; those that it has no rows for are missing there."""
    section = _section(config)
    shares = {"train": 1.0, "validation": section.split.validation, "test": section.split.test}
    named = [s for s in SPLITS if shares[s] > 0 or getattr(section, s)]
    return {split: f"{output}/{config.name}/data/{split}/" for split in named}


def wait(
    session: Any, name: str, on_description: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Look at a processing job until it has ended.

    Raises:
        LaunchError: it failed or was stopped; with the reasons that SageMaker and the job gave.
    """
    description: dict[str, Any]
    for description in watch(
        lambda: session.describe_processing_job(ProcessingJobName=name),
        lambda seen: seen["ProcessingJobStatus"] in _FINAL,
        session.seconds_between_looks,
    ):
        on_description(description)
    if description["ProcessingJobStatus"] == "Completed":
        return description
    reasons = [description.get(key, "") for key in ("FailureReason", "ExitMessage")]
    told = "; ".join(filter(None, reasons)) or "no reason given"
    raise LaunchError(
        f"processing job {name}: {description['ProcessingJobStatus']}: {told}",
        fix="see its log in CloudWatch, group /aws/sagemaker/ProcessingJobs; "
        "`sm-launch data validate` checks the same data here",
    )
