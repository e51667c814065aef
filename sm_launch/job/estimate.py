"""How much GPU memory a training needs, which instance fits, and what it may cost.

The arithmetic is shown, because it is a rule of thumb: weights, gradients and optimizer are exact,
activations are not.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job.base_model import resolve_model
from sm_launch.job.config import HyperparameterValue, JobConfig
from sm_launch.job.instances import (
    SPOT_FACTOR,
    Instance,
    Prices,
)

GIB = 2.0**30
# Share of a GPU's memory that is left for tensors: CUDA's context and fragmentation take the rest.
USABLE = 0.9
# Activations with checkpointing, in bytes a parameter and row of 1024 tokens; from the usual
# 34·s·h bytes a layer against 12·h² parameters, for h around 2,000 to 4,000.
ACTIVATION_BYTES = 0.35
# The same of a model that only looks: one layer's at a time.
LOOKING_BYTES = 0.03
# Models beside the one that is trained, by the hyperparameter that names them; they are loaded in
# the type of their files, which is half precision in all but old ones.
OTHER_MODELS = {
    "teacher_model_name_or_path": "teacher",
    "reward_model_name_or_path": "rewards",
}
# LoRA of rank 16 on every linear layer adds about so many of the base model's parameters.
LORA_SHARE = 0.01
FULL_PRECISION_BYTES, HALF_PRECISION_BYTES = 4.0, 2.0
# Quantised weights with their scales, and what stays in half precision (embeddings, head).
EIGHT_BIT_BYTES, FOUR_BIT_BYTES = 1.1, 0.55
# Methods that compare with the base model; TRL's default for GRPO is without (beta 0).
_WITH_REFERENCE = ("dpo", "kto", "grpo", "rloo")
# Gradients 4, AdamW's two moments 8 bytes a trained parameter.
TRAINED_BYTES = 12.0
_SIZE = re.compile(r"(?<![a-z0-9])(\d+(?:[._]\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)
_ENCODERS = {
    "distilbert": 66e6,
    "minilm": 22e6,
    "bert-base": 110e6,
    "bert-large": 340e6,
    "roberta-base": 125e6,
    "roberta-large": 355e6,
    "deberta-v3-base": 184e6,
    "modernbert-base": 149e6,
    "modernbert-large": 395e6,
}


@dataclass(frozen=True)
class Memory:
    """GPU memory of a training, in GiB, with the lines of its arithmetic."""

    total_gib: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What a job may cost at most, in US dollars, with the line of its arithmetic."""

    dollars: float
    line: str


@dataclass(frozen=True)
class Estimate:
    """What a training needs and may cost.

    Attributes:
        parameters: of the model.
        memory: of its GPUs.
        suggestion: the cheapest instance that fits.
        cost: of job.yaml's instances; None where the price is unknown.
        prices: of which region and day the prices are, in words.
        million: what a million requests cost by instance type, in lines.
    """

    parameters: float
    memory: Memory
    suggestion: Instance
    cost: Cost | None
    prices: str
    million: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate(
    config: JobConfig,
    prices: Prices,
    parameters: float | None = None,
    hosted_on: Sequence[str] = (),
) -> Estimate:
    """The GPU memory of a job's training, the cheapest instance that fits, and the price.

    Where an evaluation has measured requests a second, also what a million of them cost.

    Args:
        config: the job.
        prices: what instances cost.
        parameters: size of the model, where its name or files do not tell.
        hosted_on: instance types to price a million requests on; default: job.yaml's.

    Raises:
        UserInputError: the size is unknown, or an instance type.
        LaunchError: no single instance fits.
    """
    location = resolve_model(config).location
    local = Path(location) if location and "://" not in location else None
    count = parameters or parameter_count(config.training.model, local)
    if count is None:
        raise UserInputError(
            "the size of this model is unknown",
            field="--parameters",
            value=config.training.model,
            fix="give the number of parameters, such as --parameters 7e9",
        )
    settings = {"method": config.training.method, **config.training.hyperparameters}
    needed = memory(count, settings, other_models(config))
    suggestion = suggest(needed.total_gib, prices)
    _require_prices(hosted_on, prices)
    million = million_lines(measured_rate(config), hosted_on or load_types(config), prices)
    trained = cost(config, prices)
    return Estimate(count, needed, suggestion, trained, str(prices), tuple(million))


def load_types(config: JobConfig) -> list[str]:
    """The instance types that job.yaml asks a million requests' price of."""
    return config.evaluation.load.instance_types or [config.endpoint.instances.type]


def parameter_count(model: str | None, directory: Path | None = None) -> float | None:
    """Number of parameters: counted in local safetensors files, else read off the name.

    Args:
        model: Hub id, URI or path.
        directory: the model's local directory, if it has one.
    """
    if directory is not None and (files := sorted(directory.glob("*.safetensors"))):
        return float(sum(_count(file) for file in files))
    name = (model or "").rsplit("/", 1)[-1].lower()
    if match := _SIZE.search(name):
        return float(match[1].replace("_", ".")) * (1e9 if match[2].lower() == "b" else 1e6)
    return next((size for part, size in _ENCODERS.items() if part in name), None)


def other_models(config: JobConfig) -> dict[str, float | None]:
    """Parameters of a teacher and a reward model that the job names; None where not known."""
    sizes: dict[str, float | None] = {}
    for setting, name in OTHER_MODELS.items():
        named = str(config.training.hyperparameters.get(setting) or "").strip('"')
        if named:
            channel = config.training.channels.get(named.removeprefix("channel:"), named)
            location = str(channel).removeprefix("file://")
            directory = config.path(location) if "://" not in location else None
            sizes[name] = parameter_count(location, directory)
    return sizes


def _count(file: Path) -> int:
    """Elements of all tensors; the header (a length, then JSON) is all that is read."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            elements = 1
            for size in tensor["shape"]:
                elements *= size
            total += elements
    return total


def memory(
    parameters: float,
    hyperparameters: dict[str, HyperparameterValue],
    others: Mapping[str, float | None] | None = None,
) -> Memory:
    """What the training holds in GPU memory.

    Args:
        parameters: of the base model.
        hyperparameters: method, use_peft, load_in_4bit, load_in_8bit, dtype,
            per_device_train_batch_size, max_length; as values or as text.
        others: parameters of each of OTHER_MODELS that the job has; None: not known, which a line
            says.
    """
    peft = _is_on(hyperparameters, "use_peft")
    width, kind = _weight_bytes(hyperparameters, peft)
    trained = parameters * LORA_SHARE if peft else parameters
    batch = float(str(hyperparameters.get("per_device_train_batch_size") or 8))
    length = float(str(hyperparameters.get("max_length") or 1024))
    parts = {
        f"weights      {_short(parameters)} x {width:g} bytes{kind}": parameters * width,
        f"training     {_short(trained)} x {TRAINED_BYTES:g} bytes (gradients, AdamW)"
        + (" (LoRA)" if peft else ""): trained * TRAINED_BYTES,
        f"activations  {_short(parameters)} x {batch:g} rows x {length:g}/1024 x "
        f"{ACTIVATION_BYTES:g} bytes": parameters * batch * length / 1024 * ACTIVATION_BYTES,
    }
    if _has_reference(hyperparameters, peft):
        # The adapter is switched off for it; a model that trains in full needs a copy.
        parts[f"reference    {_short(parameters)} x {width:g} bytes"] = parameters * width
    for name, count in (others or {}).items():
        size = (count or 0) * (HALF_PRECISION_BYTES + batch * length / 1024 * LOOKING_BYTES)
        said = "size unknown, so it is not counted"
        if count:
            said = f"{_short(count)} x {HALF_PRECISION_BYTES:g} bytes, and one layer's activations"
        parts[f"{name:<12} {said}"] = size
    total = sum(parts.values()) / GIB
    lines = [f"{text:<62} {size / GIB:8.1f} GiB" for text, size in parts.items()]
    return Memory(total, (*lines, f"{'together':<62} {total:8.1f} GiB"))


def _is_on(hyperparameters: dict[str, HyperparameterValue], name: str) -> bool:
    """A flag as the container reads it: it arrives as text there."""
    return str(hyperparameters.get(name)).strip().strip('"').lower() in {"true", "1", "yes", "on"}


def _weight_bytes(hyperparameters: dict[str, HyperparameterValue], peft: bool) -> tuple[float, str]:
    """Bytes a parameter of the base model, as it is loaded on a GPU, and why."""
    if _is_on(hyperparameters, "load_in_4bit"):
        return FOUR_BIT_BYTES, " (4 bits)"
    if _is_on(hyperparameters, "load_in_8bit"):
        return EIGHT_BIT_BYTES, " (8 bits)"
    asked = str(hyperparameters.get("dtype") or "").strip('"')
    if asked in {"bfloat16", "float16", "auto"} or (peft and asked != "float32"):
        return HALF_PRECISION_BYTES, " (half precision)"
    return FULL_PRECISION_BYTES, ""


def _has_reference(hyperparameters: dict[str, HyperparameterValue], peft: bool) -> bool:
    """Whether a frozen copy of the base model is in memory beside the one that is trained."""
    method = str(hyperparameters.get("method") or "").strip('"').lower()
    if peft or method not in _WITH_REFERENCE:
        return False
    if method in {"grpo", "rloo"}:
        beta = hyperparameters.get("beta")
        return float(str(beta)) > 0 if beta is not None else method == "rloo"
    return not _is_on(hyperparameters, "precompute_ref_log_probs")


def suggest(needed_gib: float, prices: Prices) -> Instance:
    """The cheapest GPU instance of which one GPU holds the training, else all GPUs together.

    Raises:
        LaunchError: no single instance is large enough.
    """
    gpus = [instance for instance in prices.instances() if instance.gpus]
    single = [candidate for candidate in gpus if candidate.gpu_memory_gib * USABLE >= needed_gib]
    shared = [
        candidate
        for candidate in gpus
        if candidate.gpus * candidate.gpu_memory_gib * USABLE >= needed_gib
    ]
    fitting = single or shared
    if not fitting:
        raise LaunchError(
            f"no single instance has {needed_gib:.0f} GiB of GPU memory",
            fix="use_peft: true, load_in_4bit: true or several instances",
        )
    return min(fitting, key=lambda instance: instance.price)


def cost(config: JobConfig, prices: Prices, jobs: int = 1) -> Cost | None:
    """What training can cost at most; None where the price of the instance type is unknown.

    Args:
        config: instance type, count, spot and maximum runtime.
        prices: what instances cost.
        jobs: how many such jobs.
    """
    training = config.training
    price = prices.training.get(training.instances.type)
    if price is None:
        return None
    hours = training.max_runtime_seconds / 3600
    factor = SPOT_FACTOR if training.spot else 1.0
    dollars = price * training.instances.count * hours * factor * jobs
    terms = [f"${price:.3f}/h", f"{training.instances.count} instance(s)", f"{hours:.1f} h"]
    terms += [f"{SPOT_FACTOR:g} (spot, careful)"] if training.spot else []
    terms += [f"{jobs} jobs"] if jobs > 1 else []
    line = f"{' x '.join(terms)} = ${dollars:.2f} at most (list price of {prices})"
    return Cost(dollars, line)


def hosting_cost(config: JobConfig, prices: Prices) -> Cost | None:
    """What the endpoint costs an hour; None where serverless, or where a price is unknown."""
    endpoint = config.endpoint
    if endpoint.serverless:
        return None
    wanted = [(endpoint.instances.type, endpoint.instances.count)]
    wanted += [
        (variant.instance_type or endpoint.instances.type, variant.instance_count)
        for variant in endpoint.variants
    ]
    if any(kind not in prices.hosting for kind, _ in wanted):
        return None
    dollars = sum(prices.hosting[kind] * count for kind, count in wanted)
    terms = " + ".join(f"{count} x {kind}" for kind, count in wanted)
    line = f"{terms} = ${dollars:.2f} an hour until deleted (list price of {prices})"
    return Cost(dollars, line)


@dataclass(frozen=True)
class Rate:
    """Requests a second that an evaluation measured, and what it measured them on, in words."""

    requests_per_s: float
    measured_on: str


def measured_rate(config: JobConfig) -> Rate | None:
    """What `sm-launch evaluate --load` last wrote into the job's report; None where it did not."""
    path = config.work_path / "report" / "evaluation.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rate = float(document["load"]["best"]["requests_per_s"])
        run = document["run"]
        place = f"{run['endpoint']} ({run['target']}), {document['started_at'][:10]}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Rate(rate, place)


def million_dollars(requests_per_s: float, dollars_an_hour: float) -> float:
    """What a million requests cost at full load."""
    return dollars_an_hour * 1e6 / (3600 * requests_per_s)


def million_lines(rate: Rate | None, types: Sequence[str], prices: Prices) -> list[str]:
    """What a million requests cost on each instance type, at a rate that was measured."""
    if rate is None:
        return [
            "a million requests: not known before `sm-launch evaluate --load` has measured "
            "requests a second"
        ]
    lines = []
    for kind in types:
        hourly = prices.hosting.get(kind)
        if hourly is None:
            lines.append(f"a million requests on {kind}: no price is known ({prices})")
            continue
        dollars = million_dollars(rate.requests_per_s, hourly)
        lines.append(
            f"a million requests on {kind}: ${dollars:.2f} (${hourly:.3f}/h at "
            f"{rate.requests_per_s:.1f} requests/s as measured on {rate.measured_on}, all hours "
            "full)"
        )
    return lines


def _require_prices(types: Sequence[str], prices: Prices) -> None:
    for kind in types:
        if kind not in prices.hosting:
            raise UserInputError(
                f"is not in the table of prices ({prices})",
                field="--hosted-on",
                value=kind,
                fix=f"name one of {', '.join(sorted(prices.hosting)[:12])}, …",
            )


def require_cost(
    config: JobConfig, prices: Prices, limit: float | None, jobs: int = 1
) -> Cost | None:
    """Refuse a job that could cost more than `limit` US dollars.

    Raises:
        UserInputError: it could, or nobody knows.
    """
    estimated = cost(config, prices, jobs)
    if limit is None:
        return estimated
    if estimated is None:
        raise UserInputError(
            f"this instance type is not in the table of prices ({prices}), so no limit can be kept",
            field="training.instances.type",
            value=config.training.instances.type,
            fix="take another type, or leave out --max-cost",
        )
    if estimated.dollars > limit:
        raise UserInputError(
            f"the job could cost more than ${limit:.2f}: {estimated.line}",
            field="--max-cost",
            fix="lower training.max_runtime_seconds, take a cheaper instance, or spot: true",
        )
    return estimated


def require_cost_of_all(configs: list[JobConfig], prices: Prices, limit: float | None) -> str:
    """Refuse several jobs that could together cost more than `limit`; the line of the sum.

    Raises:
        UserInputError: they could, or nobody knows.
    """
    costs = [require_cost(config, prices, limit) for config in configs]
    known = [cost.dollars for cost in costs if cost]
    total, unknown = sum(known), len(costs) - len(known)
    line = f"{len(known)} jobs = ${total:.2f} at most (list prices of {prices})"
    if unknown:
        line += f", and {unknown} of an instance type without a known price"
    if limit is not None and total > limit:
        raise UserInputError(
            f"the jobs together could cost more than ${limit:.2f}: {line}",
            field="--max-cost",
            fix="fewer combinations, a lower training.max_runtime_seconds, or spot: true",
        )
    return line


def _short(count: float) -> str:
    return f"{count / 1e9:.2f}e9" if count >= 1e9 else f"{count / 1e6:.1f}e6"
