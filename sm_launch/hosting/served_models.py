"""Which model is served: the one that is named, that of job.yaml, or a trained one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.hosting import endpoints
from sm_launch.job.base_model import find_model
from sm_launch.job.hub_models import SCHEME, HubModel, look_up, of_environment
from sm_launch.target.context import JobContext
from sm_launch.target.reach import NOWHERE

FIELD = "endpoint.model"
# Time enough for most models, where nobody has told the size.
UNKNOWN_BYTES = 60_000_000_000


@dataclass(frozen=True)
class ServedModel:
    """A model as CreateModel takes it.

    Attributes:
        uri: of its artefact, or hf://OWNER/NAME[@REVISION].
        size: bytes that a container downloads; None where the artefact tells.
        warnings: what is good to know.
    """

    uri: str
    size: int | None = None
    warnings: tuple[str, ...] = ()


def model_of_container(container: Mapping[str, Any]) -> str:
    """URI of the model in a container's definition: hf:// where it is of the Hub, and empty where
    nothing says."""
    if "ModelDataUrl" in container:
        return str(container["ModelDataUrl"])
    if "ModelDataSource" in container:
        return str(container["ModelDataSource"]["S3DataSource"]["S3Uri"])
    model = of_environment(container.get("Environment", {}))
    return model.uri if model else ""


def example(context: JobContext, *, job: str | None, model_data: str | None) -> str:
    """A URI of the form that the model's will have, as far as its name tells; nothing is asked."""
    named = model_data or (None if job else context.config.endpoint.model) or ""
    if named.startswith("s3://"):
        return named
    if named and context.config.path(named).is_dir():
        return f"{NOWHERE}/{Path(named).name}/"
    return f"{NOWHERE}/model.tar.gz"


def find(
    context: JobContext, *, job: str | None, model_data: str | None, upload: bool
) -> ServedModel:
    """The model of a deployment.

    Args:
        context: the job and where it is deployed.
        job: a training job's model; goes before job.yaml's.
        model_data: an artefact's URI or path, or hf://…; likewise.
        upload: on SageMaker send a directory that endpoint.model names; False only names its place.

    Raises:
        UserInputError, LaunchError: there is no such model or job.
    """
    named = context.config.endpoint.model
    if model_data and model_data.startswith(SCHEME):
        return _of_hub(HubModel.of(model_data, "--model-data"))
    if job or model_data or named is None:
        uri = endpoints.artefact_of(context.session, context.config, job, model_data)
        option = "--job" if job and not model_data else "--model-data"
        message = f"{FIELD} ({named}) is passed over: {option} names another model"
        return ServedModel(uri, warnings=(message,) if named else ())
    if named.startswith(SCHEME):
        return _of_hub(HubModel.of(named, FIELD))
    source = find_model(context.config, named, FIELD)
    if source.job is not None:
        return ServedModel(endpoints.artefact_of(context.session, context.config, source.job))
    if source.hub_id is not None:
        return _of_hub(HubModel.of(source.hub_id, FIELD))
    return ServedModel(_staged(context, str(source.location), upload=upload))


def _staged(context: JobContext, location: str, *, upload: bool) -> str:
    """A prefix, with a slash at its end, that the target can read."""
    if location.endswith(".tar.gz"):
        return location
    if not location.startswith("s3://") and not (Path(location) / "config.json").is_file():
        raise UserInputError(
            "holds no Hugging Face model (no config.json)",
            field=FIELD,
            value=location,
            fix="correct the path; relative paths start at the directory of job.yaml",
        )
    uri = context.stage(upload=upload).channel("endpoint-model", location)
    return uri if uri.endswith("/") else f"{uri}/"


def _of_hub(model: HubModel) -> ServedModel:
    looked = look_up(model)
    size = looked.weights or UNKNOWN_BYTES
    if looked.model.pinned:
        return ServedModel(looked.model.uri, size)
    message = (
        f"{FIELD}: {model.uri} is not pinned, as the Hub was not asked ({looked.problem}): each "
        "container takes what the revision is at its start; name a commit behind @ to keep it"
    )
    return ServedModel(model.uri, size, (message,))
