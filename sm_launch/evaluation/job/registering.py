"""`sm-launch register`: a trained model, with what is known of it, as a version of a group."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.data.write import DATA_CARD, MANIFEST
from sm_launch.errors import LaunchError, QualityGateError, UserInputError
from sm_launch.evaluation import model_card, model_quality
from sm_launch.evaluation.job import mlflow_registry
from sm_launch.evaluation.result import SCHEMA_VERSION
from sm_launch.hosting import endpoints, registry
from sm_launch.images.checkout import git, is_dirty
from sm_launch.job.naming import Request as AwsRequest
from sm_launch.job.registry import Approval
from sm_launch.jobs import training
from sm_launch.redaction import redact
from sm_launch.target.context import JobContext
from sm_launch.version import launcher_version

STATISTICS, CONSTRAINTS = "model_quality_statistics.json", "model_quality_constraints.json"
EVALUATION, REPORT = "evaluation.json", "report.html"
JSON = "application/json"


@dataclass(frozen=True)
class Request:
    """What to register.

    Attributes:
        job: a training job's model; default: the newest that completed.
        model_data: an artefact instead.
        group: of the registry; default: job.yaml's.
        evaluation: evaluation.json of this model; default: where `sm-launch evaluate` writes it.
        without_evaluation: register a model that nobody has measured.
        approval: its status; default: job.yaml's.
    """

    job: str | None = None
    model_data: str | None = None
    group: str | None = None
    evaluation: Path | None = None
    without_evaluation: bool = False
    approval: Approval | None = None


@dataclass(frozen=True)
class Registration:
    """The requests of a registration; none of them is sent yet.

    Attributes:
        group: CreateModelPackageGroup, sent where there is no such group yet.
        package: CreateModelPackage.
        evaluation: evaluation.json of the model, if it was measured.
    """

    group: AwsRequest
    package: AwsRequest
    evaluation: Mapping[str, Any] | None = None

    @property
    def group_name(self) -> str:
        """The group's name."""
        return str(self.group["ModelPackageGroupName"])

    def by_method(self) -> dict[str, AwsRequest]:
        """Each request with the client's method that takes it."""
        return {
            "create_model_package_group": self.group,
            "create_model_package": self.package,
        }


def prepare(context: JobContext, request: Request, *, upload: bool = True) -> Registration:
    """What a registration will ask for.

    Args:
        context: the job, on SageMaker.
        request: what to register.
        upload: send evaluation and data card to S3; False only names their place.

    Raises:
        UserInputError: there is no such model, or no evaluation of it.
        QualityGateError: it is to be approved, and its evaluation missed a gate.
    """
    registry.require_registry(context, "register")
    config = context.config
    approval = request.approval or config.registry.approval
    group = registry.group_of(config, request.group)
    job = _job(context, request)
    model_data = endpoints.artefact_of(
        context.session, config, job["TrainingJobName"] if job else None, request.model_data
    )
    _require_remote(model_data)
    document = _evaluation(context, request, model_data, job, approval)
    _tell(context)
    files = _files(context, request, document)
    uris = _upload(context, files, upload=upload)
    inputs = registry.PackageInputs(
        model_data=model_data,
        image=context.serving_image,
        approval=approval,
        description=_description(config.name, document),
        lineage=_lineage(config.directory, job),
        properties=_properties(context, job, document),
        metrics=_metrics(uris, files),
        card=model_card.content(
            artefact=model_data,
            training=job,
            evaluation=document,
            details={**_properties(context, job, document), **_places(uris)},
        ),
    )
    registration = Registration(
        registry.group_request(config, group),
        registry.package_request(config, group, inputs),
        document,
    )
    context.check(
        ("CreateModelPackageGroup", registration.group),
        ("CreateModelPackage", registration.package),
    )
    return registration


def start(
    context: JobContext, registration: Registration, *, adopt: bool = False
) -> dict[str, Any]:
    """Send what `prepare` made, to MLflow too where the job tracks; DescribeModelPackage's answer.

    Raises:
        LaunchError: the group is another job's, and `adopt` does not take it over.
    """
    session: Any = context.session
    group = registration.group_name
    if not registry.exists(session, group):
        session.create_model_package_group(**registration.group)
    elif adopt:
        registry.adopt(context, group)
    else:
        registry.require_own(context, group, consent="take it over with --adopt")
    made = session.create_model_package(**registration.package)
    described: dict[str, Any] = session.describe_model_package(
        ModelPackageName=made["ModelPackageArn"]
    )
    if mlflow_registry.wanted(context):
        version = mlflow_registry.register(context, group, described, registration.evaluation)
        context.notify(f"registered in MLflow: {version}")
    return described


def _job(context: JobContext, request: Request) -> dict[str, Any] | None:
    """DescribeTrainingJob's answer; None where an artefact is named instead."""
    if request.job and request.model_data:
        raise UserInputError("give --job or --model-data, not both", field="--job")
    if request.model_data:
        return None
    session = context.session
    if not request.job:
        return training.latest_completed(session, context.config)
    job = session.describe_training_job(TrainingJobName=request.job)
    if job["TrainingJobStatus"] != "Completed":
        raise LaunchError(
            f"has no model: it is {job['TrainingJobStatus']}",
            field="--job",
            value=request.job,
            fix="name a job that is Completed, or wait for its end",
        )
    return job


def _require_remote(model_data: str) -> None:
    if not model_data.startswith("s3://"):
        raise UserInputError(
            "the registry takes models that are on S3",
            field="--model-data",
            value=model_data,
            fix="copy it there first: aws s3 cp MODEL s3://…",
        )


def _evaluation(
    context: JobContext,
    request: Request,
    model_data: str,
    job: Mapping[str, Any] | None,
    approval: Approval,
) -> dict[str, Any] | None:
    """evaluation.json, which must be of this model."""
    if request.without_evaluation:
        return None
    path = request.evaluation or context.config.work_path / "report" / EVALUATION
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = document["schema_version"]
    except FileNotFoundError:
        raise _no_evaluation("there is no evaluation of this model", path) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_evaluation(f"is no evaluation ({error!r})", path) from error
    if version != SCHEMA_VERSION:
        raise _no_evaluation(f"has the layout {version}, not {SCHEMA_VERSION}", path)
    _require_of(document, path, model_data, str(job["TrainingJobName"]) if job else "")
    missed = [each["metric"] for each in document.get("gates", []) if not each["passed"]]
    if missed and approval == "approved":
        raise QualityGateError(
            f"the evaluation missed its gates: {', '.join(missed)}",
            field="--approval",
            value=approval,
            fix="register it as pending, and let someone decide",
        )
    if missed:
        context.warn(f"the evaluation missed its gates: {', '.join(missed)}")
    return document


def _no_evaluation(problem: str, path: Path) -> UserInputError:
    return UserInputError(
        problem,
        field="--evaluation",
        value=str(path),
        fix="run `sm-launch evaluate` on this model's endpoint first, name its evaluation.json, "
        "or give --without-evaluation",
    )


def _require_of(document: Mapping[str, Any], path: Path, model_data: str, job: str) -> None:
    """Refuse the evaluation of another model: the one that lies here may be of an older job."""
    run = document.get("run", {})
    measured = str(run.get("artefact") or "")
    trained = str(run.get("training_job") or "")
    if measured == model_data or (not measured and job and trained == job):
        return
    told = measured or trained or "a model that it does not name"
    raise _no_evaluation(f"is of {told}, and {model_data} is to be registered", path)


def _tell(context: JobContext) -> None:
    secret = registry.unregistered(context.config)
    if secret:
        context.warn(
            f"endpoint.environment: {', '.join(secret)} name secrets, which are not registered; "
            "`deploy --registered` takes them from job.yaml"
        )


def _files(
    context: JobContext, request: Request, document: dict[str, Any] | None
) -> dict[str, bytes]:
    """What goes to S3 with the model, by file name."""
    prepared = context.config.prepared_path
    beside = (request.evaluation or context.config.work_path / "report" / EVALUATION).parent
    files = {}
    if document is not None:
        files[EVALUATION] = _json(document)
        files[STATISTICS] = _json(model_quality.statistics(document))
        if limits := model_quality.constraints(document):
            files[CONSTRAINTS] = _json(limits)
        if (beside / REPORT).is_file():
            files[REPORT] = (beside / REPORT).read_bytes()
    for name in (MANIFEST, DATA_CARD):
        if (prepared / name).is_file():
            files[name] = (prepared / name).read_bytes()
    if MANIFEST not in files:
        context.warn(f"no data card: {prepared} holds no {MANIFEST} of `sm-launch data prepare`")
    return files


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _upload(context: JobContext, files: Mapping[str, bytes], *, upload: bool) -> dict[str, str]:
    """File name to its URI; the place bears a digest of the content, and is written once."""
    if not files:
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "registry"
        directory.mkdir()
        for name, content in files.items():
            (directory / name).write_bytes(content)
        place = context.stage(upload=upload).channel("registry", str(directory))
    return {name: f"{place.rstrip('/')}/{name}" for name in files}


def _metrics(uris: Mapping[str, str], files: Mapping[str, bytes]) -> dict[str, Any]:
    """ModelMetrics."""
    kinds = {"Statistics": STATISTICS, "Constraints": CONSTRAINTS}
    sources = {
        kind: {
            "ContentType": JSON,
            "ContentDigest": f"sha256:{hashlib.sha256(files[name]).hexdigest()}",
            "S3Uri": uris[name],
        }
        for kind, name in kinds.items()
        if name in files
    }
    return {"ModelQuality": sources} if sources else {}


def _places(uris: Mapping[str, str]) -> dict[str, str]:
    """Where report and data card lie, for the model card."""
    names = {"evaluation": EVALUATION, "report": REPORT, "data_card": DATA_CARD,
             "data_manifest": MANIFEST}  # fmt: skip
    return {key: uris[name] for key, name in names.items() if name in uris}


def _description(name: str, document: Mapping[str, Any] | None) -> str:
    if document is None:
        return f"{name}, not evaluated"
    main = document["main_metric"]
    value = document["metrics"].get(main)
    shown = f"{main} {value:.4f}" if value is not None else "no metric"
    return f"{name}: {shown} on {document['rows']['evaluated']} held-out rows"


def _lineage(directory: Path, job: Mapping[str, Any] | None) -> dict[str, str]:
    """MetadataProperties: the job that trained it, and the code that job.yaml lies in."""
    told = {"GeneratedBy": str(job["TrainingJobArn"]) if job else ""}
    told["CommitId"] = git(directory, "rev-parse", "HEAD")
    if told["CommitId"]:
        told["Repository"] = redact(git(directory, "config", "--get", "remote.origin.url"))
    return {key: value[:1024] for key, value in told.items() if value}


def _properties(
    context: JobContext, job: Mapping[str, Any] | None, document: Mapping[str, Any] | None
) -> dict[str, str]:
    """CustomerMetadataProperties: what one looks for in a list of versions."""
    config = context.config
    told = {
        "sm-launch:job": config.name,
        "sm-launch:version": launcher_version(),
        "method": config.training.method,
        "base-model": config.training.model or "",
        "training-job": str(job["TrainingJobName"]) if job else "",
        "code": "changed since the commit" if is_dirty(config.directory) else "",
        "data-sha256": _data_digest(config.prepared_path / MANIFEST),
        **(_of_evaluation(document) if document else {"evaluation": "none"}),
    }
    return {key: value for key, value in told.items() if value}


def _of_evaluation(document: Mapping[str, Any]) -> dict[str, str]:
    main = document["main_metric"]
    gates = document.get("gates", [])
    passed = all(each["passed"] for each in gates)
    value = document["metrics"].get(main)
    return {
        "task": str(document["task"]),
        "evaluated-at": str(document["started_at"]),
        "main-metric": str(main),
        "main-metric-value": "" if value is None else f"{value:.6g}",
        "gates": ("passed" if passed else "missed") if gates else "none",
    }


def _data_digest(manifest: Path) -> str:
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""
