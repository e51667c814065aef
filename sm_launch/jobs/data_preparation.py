"""The `data` section of a job, with what the rest of job.yaml says; here or on SageMaker."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sm_launch.aws.clients import raw_data_clients
from sm_launch.data import inspection, pipeline
from sm_launch.data.inspection import FileReport
from sm_launch.data.pipeline import fetch_by_default
from sm_launch.data.report import PreparationReport
from sm_launch.data.sources import Fetch
from sm_launch.errors import UserInputError
from sm_launch.job import local_storage, naming
from sm_launch.job.config import JobConfig
from sm_launch.job.costs import processing_cost
from sm_launch.job.data import DataConfig
from sm_launch.jobs import processing
from sm_launch.progress import progress
from sm_launch.target.context import JobContext
from sm_launch.target.reach import NOWHERE


def data_section(config: JobConfig) -> DataConfig:
    """The section to prepare data by; `tokens.tokenizer` and `presidio.model` are settled.

    Raises:
        UserInputError: there is no such section, or no tokenizer for `tokens`.
    """
    if config.data is None:
        raise UserInputError(
            "is needed to prepare data",
            field="data",
            fix="name the raw file in job.yaml; `sm-launch init` shows how",
        )
    settled: dict[str, Any] = {}
    if (tokens := config.data.tokens) is not None:
        named = tokens.tokenizer
        location = str(config.path(named)) if named else _of_the_model(config)
        settled["tokens"] = tokens.model_copy(update={"tokenizer": location})
    if (presidio := config.data.presidio) is not None and presidio.model:
        folder = config.path(presidio.model)
        model = str(folder) if folder.is_dir() else presidio.model
        settled["presidio"] = presidio.model_copy(update={"model": model})
    return config.data.model_copy(update=settled)


def prepare(config: JobConfig) -> PreparationReport:
    """Clean and split the raw data of a job into channels."""
    with fetching(config) as fetch:
        return pipeline.prepare(
            data_section(config), config.prepared_path, base_directory=config.directory, fetch=fetch
        )


def validate(config: JobConfig) -> PreparationReport:
    """What `prepare` would do, without writing."""
    with fetching(config) as fetch:
        return pipeline.validate(
            data_section(config), config.prepared_path, base_directory=config.directory, fetch=fetch
        )


def inspect(config: JobConfig) -> list[FileReport]:
    """What the raw files hold."""
    with fetching(config) as fetch:
        return inspection.inspect(
            data_section(config), base_directory=config.directory, fetch=fetch
        )


def upload(context: JobContext, *, send: bool = True) -> dict[str, str]:
    """Send the prepared channels to S3; channel name to URI. `send=False` only names them."""
    from sm_launch.data.upload import upload as send_channels
    from sm_launch.target.buckets import s3_stage

    return send_channels(s3_stage(context.config, upload=send), context.config.prepared_path)


@contextmanager
def fetching(config: JobConfig) -> Iterator[Fetch]:
    """What brings s3:// sources here, with the job's region and buckets; copies go at the end."""
    with ExitStack() as stack:
        yield partial(fetch_by_default, stack, clients=raw_data_clients(config.aws))


def _of_the_model(config: JobConfig) -> str:
    from sm_launch.job.base_model import resolve_model

    location = resolve_model(config).location if config.training.model else None
    if location is None or "://" in location or not (Path(location) / "tokenizer.json").is_file():
        raise UserInputError(
            "the tokenizer of training.model is not on this machine",
            field="data.tokens.tokenizer",
            value=config.training.model,
            fix="name a model directory with a tokenizer.json, or that file",
        )
    return location


@dataclass(frozen=True)
class Processing:
    """A processing job that has not begun.

    Attributes:
        request: CreateProcessingJob.
        output: URI below which it will write.
    """

    request: naming.Request
    output: str

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.request["ProcessingJobName"])


def prepare_processing(context: JobContext, *, upload: bool = True) -> Processing:
    """Stage what a processing job needs; its inputs are on S3 then.

    Args:
        context: the job, for the target sagemaker.
        upload: False names the URIs without sending anything.
    """
    config = context.config
    section = data_section(config)
    _check_processing(context, section)
    stage = context.stage(upload=upload)
    uris = {
        split: stage.channel(f"raw-{split}", _absolute(config, location))
        for split, location in section.sources.items()
    }
    if section.tokens is not None and section.tokens.tokenizer:
        path = Path(section.tokens.tokenizer)
        file = path / "tokenizer.json" if path.is_dir() else path
        uris[processing.TOKENIZER] = stage.channel(processing.TOKENIZER, str(file))
    if (folder := processing.pipeline(config)) is not None:
        uris[processing.PIPELINE] = stage.channel(processing.PIPELINE, str(folder))
    with tempfile.TemporaryDirectory(prefix="sm-launch-code-") as directory:
        # The directory's name is part of the key: a random one would be sent anew each time.
        code = Path(directory) / processing.CODE
        processing.write_code(config, code)
        uris[processing.CODE] = stage.channel(processing.CODE, str(code))
    name = naming.unique_name(config.name)
    output = stage.output(f"prepared/{name}")
    inputs = processing.ProcessingInputs(
        uris=uris, output=output, image=context.training_image, role=context.training_role
    )
    return Processing(processing.build_request(config, name, inputs), output)


def _check_processing(context: JobContext, section: DataConfig) -> None:
    """Refuse what SageMaker would refuse, before anything is uploaded."""
    config, settings = context.config, section.processing
    places = processing.ProcessingInputs(
        uris={processing.CODE: f"{NOWHERE}/code"}
        | {
            split: location
            for split, location in section.sources.items()
            if location.startswith("s3://")
        },
        output=context.place("prepared"),
        image=context.training_image,
        role=context.training_role,
    )
    for location in section.sources.values():
        _absolute(config, location)
    processing.check_masking(config, context.training_image)
    processing.check_format(config)
    request = processing.build_request(config, naming.unique_name(config.name), places)
    processing.check_instances(config, request)
    context.check(("CreateProcessingJob", request))
    kind, key = settings.instance_type, config.aws.kms_key
    context.warn(*local_storage.notes(kind, key, settings, "data.processing"))
    if (priced := processing_cost(request, context.prices)) is not None:
        context.notify(f"price: {priced.line}")


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


def run_processing(context: JobContext, job: Processing) -> dict[str, str]:
    """Start a processing job and wait for its end; channel name to URI.

    Raises:
        LaunchError: it failed.
    """
    session: Any = context.session
    session.create_processing_job(**job.request)
    context.notify(f"processing job {job.name} started ({context.target})")
    title = f"Processing job {job.name}"
    with progress(title) as bar:
        processing.wait(
            session,
            job.name,
            lambda seen: bar.update(description=f"{title}: {seen['ProcessingJobStatus']}"),
        )
    return processing.channels(context.config, job.output)
