"""The `data` section of a job, with what the rest of job.yaml says; here or on SageMaker."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from sm_launch import processing, requests
from sm_launch.aws_clients import raw_data_clients
from sm_launch.config import JobConfig
from sm_launch.data.config import DataConfig
from sm_launch.data.pipeline import fetch_by_default
from sm_launch.data.sources import Fetch
from sm_launch.errors import UserInputError
from sm_launch.progress import progress
from sm_launch.workplace import Workplace


def data_section(config: JobConfig) -> DataConfig:
    """The section to prepare data by; `tokens.tokenizer` is settled.

    Raises:
        UserInputError: there is no such section, or no tokenizer for `tokens`.
    """
    if config.data is None:
        raise UserInputError(
            "is needed to prepare data",
            field="data",
            fix="name the raw file in job.yaml; `sm-launch init` shows how",
        )
    if config.data.tokens is None:
        return config.data
    named = config.data.tokens.tokenizer
    location = str(config.path(named)) if named else _of_the_model(config)
    tokens = config.data.tokens.model_copy(update={"tokenizer": location})
    return config.data.model_copy(update={"tokens": tokens})


@contextmanager
def fetching(config: JobConfig) -> Iterator[Fetch]:
    """What brings s3:// sources here, with the job's region and buckets; copies go at the end."""
    with ExitStack() as stack:
        yield partial(fetch_by_default, stack, clients=raw_data_clients(config.aws))


def _of_the_model(config: JobConfig) -> str:
    from sm_launch.staging import resolve_model

    location = resolve_model(config).location if config.training.model else None
    if location is None or "://" in location or not (Path(location) / "tokenizer.json").is_file():
        raise UserInputError(
            "the tokenizer of training.model is not on this machine",
            field="data.tokens.tokenizer",
            value=config.training.model,
            fix="name a model directory with a tokenizer.json, or that file",
        )
    return location


def processing_request(place: Workplace, *, upload: bool) -> tuple[str, requests.Request, str]:
    """Name and request of a processing job, and where it will write; its inputs are on S3 then.

    Args:
        place: the job, for the target sagemaker.
        upload: False names the URIs without sending anything.
    """
    config = place.config
    section = data_section(config)
    stage = place.stage(upload=upload)
    uris = {
        split: stage.channel(f"raw-{split}", _absolute(config, location))
        for split, location in section.sources.items()
    }
    if section.tokens is not None and section.tokens.tokenizer:
        found = Path(section.tokens.tokenizer)
        file = found / "tokenizer.json" if found.is_dir() else found
        uris[processing.TOKENIZER] = stage.channel(processing.TOKENIZER, str(file))
    with tempfile.TemporaryDirectory(prefix="sm-launch-code-") as directory:
        processing.write_code(config, Path(directory))
        uris[processing.CODE] = stage.channel(processing.CODE, directory)
    name = requests.unique_name(config.name)
    output = stage.output(f"prepared/{name}")
    inputs = processing.ProcessingInputs(
        uris=uris, output=output, image=place.training_image, role=place.training_role
    )
    return name, processing.build_request(config, name, inputs), output


def _absolute(config: JobConfig, location: str) -> str:
    if location.startswith("s3://"):
        return location
    if location.startswith("hf://"):
        raise UserInputError(
            "a Processing job reads files and S3, not the Hub",
            field="data",
            value=location,
            fix="prepare it here, without --processing-job, or download the file and name it",
        )
    path = config.path(location)
    if not path.exists():
        raise UserInputError("no such file or directory", field="data", value=location)
    return str(path)


def run_processing_job(config: JobConfig, name: str, request: requests.Request) -> None:
    """Start a processing job and wait for its end.

    Raises:
        LaunchError: it failed.
    """
    from sm_launch.aws_clients import make_client

    client = make_client("sagemaker", config.aws.region)
    client.create_processing_job(**request)
    with progress(f"Processing job {name}") as bar:
        processing.wait(
            client,
            name,
            lambda seen: bar.update(
                description=f"Processing job {name}: {seen['ProcessingJobStatus']}"
            ),
        )
