"""Fields of SageMaker's requests that job.yaml has no key of its own for: `sagemaker` in job.yaml.

They are merged into the requests last, and checked against the service model of the installed
botocore: a field that a newer one knows works without a new release of this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar

from pydantic import ValidationInfo, field_validator

from sm_launch.aws.service_model import service_model
from sm_launch.job import limits
from sm_launch.job.section import Section

Fields = dict[str, Any]


class Passthrough(Section):
    """Any field of SageMaker's own requests, by SageMaker's names; null takes one out."""

    training: Fields = {}
    """CreateTrainingJob, and the trainings of a sweep."""
    tuning: Fields = {}
    """CreateHyperParameterTuningJob."""
    model: Fields = {}
    """CreateModel."""
    endpoint_config: Fields = {}
    """CreateEndpointConfig."""
    endpoint: Fields = {}
    """CreateEndpoint."""
    component: Fields = {}
    """CreateInferenceComponent of the model; what of it UpdateInferenceComponent has, too."""
    transform: Fields = {}
    """CreateTransformJob."""
    processing: Fields = {}
    """CreateProcessingJob."""
    model_package: Fields = {}
    """CreateModelPackage."""

    OPERATIONS: ClassVar[Mapping[str, str]] = {
        "training": "CreateTrainingJob",
        "tuning": "CreateHyperParameterTuningJob",
        "model": "CreateModel",
        "endpoint_config": "CreateEndpointConfig",
        "endpoint": "CreateEndpoint",
        "component": "CreateInferenceComponent",
        "transform": "CreateTransformJob",
        "processing": "CreateProcessingJob",
        "model_package": "CreateModelPackage",
    }

    @field_validator("*")
    @classmethod
    def _known(cls, fields: Fields, info: ValidationInfo) -> Fields:
        if fields:
            problems = list(_problems(cls.OPERATIONS[str(info.field_name)], fields))
            if problems:
                raise ValueError("; ".join(problems))
        return fields

    def names(self, section: str) -> list[str]:
        """The fields that a section gives, each with its place in job.yaml."""
        return [f"sagemaker.{section}.{name}" for name in getattr(self, section)]


_OWNED = (
    "TrainingJobName", "ModelName", "EndpointConfigName", "EndpointName", "TransformJobName",
    "ProcessingJobName", "ModelPackageName", "ModelPackageGroupName", "HyperParameterTuningJobName",
    "InferenceComponentName",
)  # fmt: skip
"""Names by which the launcher finds again what it has made."""
_NAMES = ("ChannelName", "VariantName", "InputName", "OutputName", "InstanceGroupName", "Key",
          "Name")  # fmt: skip
"""By what the entries of a list are told apart."""


def _problems(operation: str, fields: Fields) -> Iterator[str]:
    for name in _OWNED:
        if name in fields:
            yield f"the launcher gives {name}: set name, endpoint.name or registry.group"
    if operation == "CreateHyperParameterTuningJob":
        yield from _dearer(fields)
    tags = fields.get("Tags", [])
    ours = tags is None or any(
        isinstance(tag, dict) and tag.get("Key") == limits.TAG_KEY for tag in tags
    )
    if ours:
        yield f"the launcher finds its own things by the tag {limits.TAG_KEY}: leave Tags its own"
    shape = service_model("sagemaker").operation_model(operation).input_shape
    yield from _unfit(shape, fields, "")


def _dearer(fields: Fields) -> Iterator[str]:
    """What a sweep's price follows from has its keys elsewhere, which the price is reckoned by."""
    for name in ("TrainingJobDefinition", "TrainingJobDefinitions"):
        if name in fields:
            yield f"give what {name} is to have in sagemaker.training"
    search = fields.get("HyperParameterTuningJobConfig")
    bounds = search.get("ResourceLimits") if isinstance(search, dict) else None
    if isinstance(bounds, dict) and "MaxNumberOfTrainingJobs" in bounds:
        yield "set sweep.max_jobs in place of MaxNumberOfTrainingJobs"


def members(structure: str) -> frozenset[str]:
    """The fields of a structure of SageMaker's service model."""
    shape: Any = service_model("sagemaker").shape_for(structure)
    return frozenset(shape.members)


_KINDS: Mapping[str, tuple[type, ...]] = {
    "structure": (dict,), "map": (dict,), "list": (list,), "string": (str,), "boolean": (bool,),
    "integer": (int,), "long": (int,), "float": (int, float), "double": (int, float),
}  # fmt: skip


def _unfit(shape: Any, value: Any, where: str) -> Iterator[str]:
    """What the service model does not know, or has as another type. None takes a field out."""
    if value is None:
        return
    kinds: tuple[Any, ...] = _KINDS.get(shape.type_name, (object,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        yield f"field {where} must be of the type {shape.type_name}"
    elif shape.type_name == "structure":
        for name, member in value.items():
            place = f"{where}.{name}".lstrip(".")
            if name in shape.members:
                yield from _unfit(shape.members[name], member, place)
            else:
                yield f"there is no field {place}{_suggestion(name, shape.members)}"
    elif shape.type_name == "list":
        for index, member in enumerate(value):
            yield from _unfit(shape.member, member, f"{where}.{index}")
    elif shape.type_name == "map":
        for key, member in value.items():
            yield from _unfit(shape.value, member, f"{where}.{key}")


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    folded = {each.lower().replace("_", ""): each for each in known}
    near = get_close_matches(name.lower().replace("_", ""), folded, n=1)
    return f"; did you mean {folded[near[0]]}?" if near else f"; known are {', '.join(known)}"


def merged(request: Fields, fields: Fields) -> Fields:
    """A request with the fields of job.yaml in it: structures field by field, null takes out.

    Entries of a list are told apart by their names (ChannelName, VariantName, Key, …); one without
    a name holds for every entry. Other lists take the place of the request's.
    """
    result = dict(request)
    for name, value in fields.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged_value(result.get(name), value)
    return result


def _merged_value(before: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return merged(before if isinstance(before, dict) else {}, value)
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return _merged_list(before if isinstance(before, list) else [], value)
    return value


def _merged_list(before: list[Any], value: list[Fields]) -> list[Any]:
    named = (name for name in _NAMES if before and all(name in each for each in before))
    key = next(named, None)
    if key is None:
        return [merged({}, each) for each in value]
    result = list(before)
    for entry in value:
        places = [
            at for at, each in enumerate(result) if key not in entry or each[key] == entry[key]
        ]
        for at in places:
            result[at] = merged(result[at], entry)
        if not places:
            result.append(merged({}, entry))
    return result
