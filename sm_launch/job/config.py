"""`job.yaml`, typed: the one file that drives every command.

Unknown keys, wrong types and contradictions are refused here, in milliseconds, with the key's full
name and a suggestion. Relative paths are relative to the file that names them.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from sm_launch.errors import UserInputError
from sm_launch.job import limits
from sm_launch.job.data import DataConfig
from sm_launch.job.defaults import with_defaults
from sm_launch.job.evaluation import Evaluation
from sm_launch.job.file import apply_override, read_document
from sm_launch.job.hosting import (
    Asynchronous,
    Autoscaling,
    Components,
    DataCapture,
    HostFallback,
    Serverless,
    Transform,
    Update,
    Variant,
)
from sm_launch.job.hyperparameters import with_switches
from sm_launch.job.instances import has_gpu
from sm_launch.job.monitoring import Monitoring
from sm_launch.job.optimization import Optimization
from sm_launch.job.passthrough import Passthrough
from sm_launch.job.registry import Registry
from sm_launch.job.section import Section
from sm_launch.job.sweep import Matrix, Sweep
from sm_launch.job.tasks import follow_method, misfit
from sm_launch.job.training import Instances, Network, Training

Target = Literal["process", "docker", "sagemaker"]


class Endpoint(Section):
    """How the model is served."""

    name: str | None = None
    """Endpoint name; default: the job's name."""
    model: str | None = None
    """A base model to serve in place of a trained one, as the baseline: a Hub id with @REVISION
    behind it if wanted, a directory, an s3:// URI, package:NAME/PATH or job:NAME."""
    image: str | None = None
    """URI of the serving image; needed for the target sagemaker. Default with docker: what `make
    build` built on this machine."""
    instances: Instances = Instances()
    fallback: Annotated[list[HostFallback], Field(max_length=4)] = []
    """Other instance types, in their order, for when AWS has none of instances.type: SageMaker
    itself takes the first that it has, when the endpoint starts and when it scales."""
    environment: dict[str, str] = {}
    """Environment variables of the serving container; env: and secret: as in training."""
    startup_timeout_seconds: Annotated[int, Field(ge=60, le=3600)] | None = None
    """How long the model may take to load before the endpoint counts as failed; default: from the
    model's size."""
    inference_ami_version: str | None = None
    """Host image of GPU endpoints; its driver must fit the image's CUDA. Default: the one for
    CUDA 13, which our GPU image is built for."""
    network: Network = Network()
    serverless: Serverless | None = None
    """Containers on demand instead of instances."""
    asynchronous: Asynchronous | None = None
    """Requests and answers as S3 objects."""
    components: Components | None = None
    """Inference components: adapters, and real-time endpoints that scale to zero."""
    autoscaling: Autoscaling | None = None
    """Instances (or copies of components) by load and by the clock."""
    data_capture: DataCapture | None = None
    """Keep requests and answers."""
    update: Update | None = None
    """How a new model takes over."""
    variants: list[Variant] = []
    """More models behind the endpoint, each with its weight."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Share of the requests of the main model, against the variants' weights."""

    @field_validator("name")
    @classmethod
    def _endpoint_name(cls, name: str | None) -> str | None:
        return name if name is None else limits.require_name(name)

    @property
    def instance_types(self) -> list[str]:
        """Every instance type that the main model may run on, the wanted one first."""
        return [self.instances.type, *(each.type for each in self.fallback)]

    @field_validator("variants")
    @classmethod
    def _told_apart(cls, variants: list[Variant]) -> list[Variant]:
        names = [limits.MAIN_VARIANT, *(each.name for each in variants)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the name {twice} is of two variants ({limits.MAIN_VARIANT} is the "
                             "main model's)")  # fmt: skip
        return variants

    @model_validator(mode="after")
    def _fallback_fits(self) -> Endpoint:
        if len(set(self.instance_types)) < len(self.instance_types):
            raise ValueError("fallback: names a type twice, or that of instances")
        if self.fallback and len({has_gpu(kind) for kind in self.instance_types}) > 1:
            raise ValueError(
                f"fallback: of {', '.join(self.instance_types)} some have GPUs and some not: image "
                "and host image are made for one of both"
            )
        return self

    @model_validator(mode="after")
    def _possible(self) -> Endpoint:
        if self.serverless:
            others = ("asynchronous", "data_capture", "variants", "inference_ami_version", "update",
                      "fallback")  # fmt: skip
            clashing = [name for name in others if getattr(self, name)]
            clashing += ["network"] if self.network != Network() else []
            if clashing:
                raise ValueError(f"serverless cannot have: {', '.join(clashing)}")
            if self.autoscaling and not self.serverless.provisioned_concurrency:
                raise ValueError("autoscaling of serverless needs provisioned_concurrency")
        if self.components:
            # The guide says nothing of captured data of components: refused until it was seen.
            excluded = ("serverless", "asynchronous", "data_capture", "variants")
            clashing = [name for name in excluded if getattr(self, name)]
            if clashing:
                raise ValueError(f"components cannot have: {', '.join(clashing)}")
            if self.update and self.update.strategy != "rolling":
                raise ValueError("update.strategy: components are updated rolling only")
        if self.autoscaling and not (self.asynchronous or self.components):
            smallest = [self.autoscaling.min, *(item.min for item in self.autoscaling.schedule)]
            if 0 in smallest:
                raise ValueError(
                    "autoscaling.min: 0 needs an asynchronous endpoint (asynchronous: {}), whose "
                    "requests wait in a queue while there is no instance, or components: {}"
                )
        return self


class Aws(Section):
    """Where on AWS; used by the target sagemaker only."""

    region: Annotated[str, Field(pattern=limits.REGION)] | None = None
    """Region; default: what the AWS configuration says."""
    training_role: str | None = None
    """ARN of the execution role of training jobs."""
    hosting_role: str | None = None
    """ARN of the execution role of endpoints; default: training_role."""
    scheduler_role: str | None = None
    """ARN of the role by which `sm-launch schedule` has jobs started; `setup` makes one."""
    pipeline_role: str | None = None
    """ARN of the role that a pipeline starts its jobs with; `setup` makes one. Default:
    training_role, which then must be allowed to start them."""
    bucket: Annotated[str, Field(pattern=limits.BUCKET)] | None = None
    """S3 bucket for data, models and checkpoints."""
    prefix: str = "sm-launch"
    """Key prefix inside the bucket."""
    s3_endpoint_url: Annotated[str, Field(pattern=r"^https?://[^/]+")] | None = None
    """URL of an S3-compatible store that local targets read s3:// inputs from; default: AWS's."""
    bucket_owners: dict[str, Annotated[str, Field(pattern=r"^\d{12}$")]] = {}
    """Account of each bucket that belongs to another account than the credentials; every call to
    S3 names the owner that it expects, and S3 refuses it where that is another one."""
    kms_key: str | None = None
    """KMS key for volumes and outputs. The local NVMe storage of g and p instances is encrypted by
    its own hardware: for it SageMaker takes no key."""
    tags: dict[str, str] = {}
    """Tags of everything that is created."""

    @field_validator("tags")
    @classmethod
    def _own_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        reserved = [key for key in tags if key.lower().startswith(limits.RESERVED_TAG_PREFIX)]
        if reserved:
            raise ValueError(f"{reserved[0]!r}: tags that begin with aws: are AWS's own")
        if limits.TAG_KEY in tags:
            raise ValueError(f"{limits.TAG_KEY!r}: the launcher finds its own things by this tag")
        return tags

    @field_validator("prefix")
    @classmethod
    def _some_prefix(cls, prefix: str) -> str:
        folders = prefix.strip("/")
        if not folders or "//" in folders:
            raise ValueError("needs the name of a folder: the roles reach what is below it alone")
        return folders


class JobConfig(Section):
    """One job.yaml."""

    name: str
    """Base name: training jobs are NAME-<time>, the endpoint is NAME."""
    target: Target | None = None
    """process, docker or sagemaker; default: sagemaker where AWS credentials are configured."""
    work_dir: str = "build"
    """Where prepared data, models and reports are written, relative to this file."""
    data: DataConfig | None = None
    training: Training = Training()
    sweep: Sweep | None = None
    """What `sm-launch sweep` varies."""
    matrix: Matrix | None = None
    """Several trainings from this file: `sm-launch train` runs one for each combination."""
    endpoint: Endpoint = Endpoint()
    transform: Transform = Transform()
    """How `sm-launch transform` runs a model over files."""
    evaluation: Evaluation = Evaluation()
    optimization: Optimization = Optimization()
    """What `sm-launch optimize` makes of a trained model."""
    monitoring: Monitoring = Monitoring()
    registry: Registry = Registry()
    aws: Aws = Aws()
    sagemaker: Passthrough = Passthrough()
    """Any other field of SageMaker's requests, by SageMaker's own names."""

    _directory: Path = PrivateAttr(default=Path())
    _defaults: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_absent(cls, document: Any) -> Any:
        """A section whose keys are all commented out reads as null."""
        if not isinstance(document, dict):
            return document
        given = {key: value for key, value in document.items() if value is not None}
        return follow_method(with_switches(given))

    @model_validator(mode="after")
    def _one_job_alone_is_tried_again(self) -> JobConfig:
        again = [name for name in ("fallback", "restarts") if getattr(self.training, name)]
        if again and self.matrix:
            raise ValueError(f"matrix: its jobs have no training.{again[0]}; leave out one of both")
        return self

    @model_validator(mode="after")
    def _task_fits_method(self) -> JobConfig:
        if self.data is not None and "method" in self.training.model_fields_set:
            problem = misfit(self.data.task, self.training.method, self.training.hyperparameters)
            if problem and not self.training.channels:
                raise ValueError(problem)
        return self

    @field_validator("name")
    @classmethod
    def _job_name(cls, name: str) -> str:
        # Leaves room for "-YYYYMMDD-HHMMSS-mmm" within SageMaker's 63 characters.
        if not limits.NAME_PATTERN.fullmatch(name) or len(name) > 42:
            raise ValueError("letters, digits and single hyphens only, 42 characters at most")
        return name

    @property
    def default_notes(self) -> tuple[str, ...]:
        """Which keys the organisation's defaults gave, a line for each file."""
        return self._defaults

    @property
    def directory(self) -> Path:
        """Where the file is; relative paths start here."""
        return self._directory

    @directory.setter
    def directory(self, directory: Path) -> None:
        self._directory = directory

    def path(self, value: str) -> Path:
        """A path that job.yaml names, made absolute from the file's own directory."""
        return (self.directory / Path(value).expanduser()).resolve()

    @property
    def work_path(self) -> Path:
        return self.path(self.work_dir) / self.name

    @property
    def prepared_path(self) -> Path:
        """Where `data prepare` writes the channels."""
        return self.work_path / "data"

    @property
    def endpoint_name(self) -> str:
        return self.endpoint.name or self.name


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> JobConfig:
    """Read job.yaml, apply `key=value` overrides and check everything.

    Args:
        path: the file.
        overrides: dotted keys with YAML values, such as `training.hyperparameters.seed=1`.

    Raises:
        UserInputError: naming the key, its value and the fix.
    """
    config = _with_defaults(read_document(path), overrides, path)
    config.directory = path.resolve().parent
    return config


def no_job(name: str, overrides: tuple[str, ...] = ()) -> JobConfig:
    """What holds where there is no job.yaml: the organisation's defaults, and overrides.

    Raises:
        UserInputError: as `load_config`.
    """
    return _with_defaults({"name": name}, overrides, Path("job.yaml"))


def _with_defaults(document: dict[str, Any], overrides: tuple[str, ...], path: Path) -> JobConfig:
    for override in overrides:
        apply_override(document, override)
    merged, notes = with_defaults(document)
    config = _checked(merged, (), path)
    config._defaults = notes
    return config


def with_overrides(config: JobConfig, overrides: tuple[str, ...]) -> JobConfig:
    """Another job with some keys changed, checked as a whole again.

    Raises:
        UserInputError: as `load_config`.
    """
    document = config.model_dump(exclude_unset=True)
    changed = _checked(document, overrides, config.directory / "job.yaml")
    changed.directory = config.directory
    return changed


def _checked(document: dict[str, Any], overrides: tuple[str, ...], path: Path) -> JobConfig:
    for override in overrides:
        apply_override(document, override)
    try:
        return JobConfig.model_validate(document)
    except ValidationError as error:
        raise _explain(error, path) from None


def _explain(error: ValidationError, path: Path) -> UserInputError:
    lines = [_explain_one(dict(detail)) for detail in error.errors()]
    return UserInputError(f"{path} has {len(lines)} problem(s):\n" + "\n".join(lines))


def _explain_one(detail: dict[str, Any]) -> str:
    location = tuple(detail["loc"])
    key = ".".join(str(part) for part in location) or "job.yaml"
    if detail["type"] == "extra_forbidden":
        return f"  {key}: unknown key{_suggestion(location)}"
    if detail["type"] == "missing":
        return f"  {key}: is required"
    message = str(detail["msg"]).removeprefix("Value error, ")
    message = limits.FORMS.get(detail.get("ctx", {}).get("pattern", ""), message)
    value = detail.get("input")
    shown = f" (got {value!r})" if not isinstance(value, dict | list) else ""
    return f"  {key}: {message[:1].lower()}{message[1:]}{shown}"


def _suggestion(location: tuple[Any, ...]) -> str:
    model: Any = JobConfig
    for part in location[:-1]:
        model = _section_of(model, str(part))
        if model is None:
            return ""
    names = list(model.model_fields)
    close = get_close_matches(str(location[-1]), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known keys: {', '.join(names)}"


def _section_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = model.model_fields.get(name)
    if field is None:
        return None
    candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
