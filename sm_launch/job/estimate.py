"""How large a model is, how much GPU memory its training needs, and which instance fits."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import model_size
from sm_launch.job.config import JobConfig
from sm_launch.job.costs import Cost, billed, cost
from sm_launch.job.instances import Instance, Prices
from sm_launch.job.matrices import Size
from sm_launch.job.memory import Memory, memory

# Share of a GPU's memory that is left for tensors: CUDA's context and fragmentation take the rest.
USABLE = 0.9
# Models beside the one that is trained, by the hyperparameter that names them; they are loaded in
# the type of their files, which is half precision in all but old ones.
OTHER_MODELS = {
    "teacher_model_name_or_path": "teacher",
    "reward_model_name_or_path": "rewards",
}
_SIZE = re.compile(r"(?<![a-z0-9])(\d+(?:[._]\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)
# Mixtures say how many experts of what size, which share everything else.
_EXPERTS = re.compile(r"(?<![a-z0-9])\d+x\d", re.IGNORECASE)
# By what their names hold, the longest part first; a test counts each by its config.
NAMED = {
    "distilbert": 67e6,
    "distilroberta": 82e6,
    "minilm": 22e6,
    "bert-base": 110e6,
    "bert-large": 335e6,
    "roberta-base": 125e6,
    "roberta-large": 355e6,
    "xlm-roberta-base": 278e6,
    "xlm-roberta-large": 560e6,
    "albert-base": 11.7e6,
    "albert-large": 17.7e6,
    "albert-xlarge": 58.7e6,
    "albert-xxlarge": 223e6,
    "deberta-v3-xsmall": 71e6,
    "deberta-v3-small": 142e6,
    "deberta-v3-base": 184e6,
    "deberta-v3-large": 435e6,
    "mdeberta-v3-base": 279e6,
    "modernbert-base": 150e6,
    "modernbert-large": 396e6,
    "t5-small": 60.5e6,
    "t5-base": 223e6,
    "t5-large": 738e6,
    "mixtral-8x7b": 46.7e9,
    "mixtral-8x22b": 140.6e9,
    "distilgpt2": 82e6,
    "gpt2-medium": 355e6,
    "gpt2-large": 774e6,
    "gpt2-xl": 1558e6,
    "gpt2": 124e6,
}


@dataclass(frozen=True)
class Verdict:
    """Whether job.yaml's own instances hold the training; None where their memory is not known."""

    instance: Instance
    fits: bool | None
    line: str


@dataclass(frozen=True)
class Estimate:
    """What a training needs and may cost.

    Attributes:
        parameters: of the model.
        counted: by what they are known.
        memory: of its GPUs.
        suggestion: the cheapest instance that fits; None where no single one does.
        advice: what the suggestion takes, or what to do where there is none; may be empty.
        own: whether job.yaml's own instances fit.
        cost: of job.yaml's instances; None where the price is unknown.
        prices: of which region and day the prices are, in words.
        million: what a million requests cost, in lines.
    """

    parameters: float
    counted: str
    memory: Memory
    suggestion: Instance | None
    advice: str
    own: Verdict
    cost: Cost | None
    prices: str
    million: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Described:
    """What was found out of a base model.

    Attributes:
        config: its config.json; None where it was not read.
        directory: its files on this machine.
        problem: why the config was not read; may be empty.
    """

    config: Mapping[str, Any] | None = None
    directory: Path | None = None
    problem: str = ""


def estimate(
    config: JobConfig,
    prices: Prices,
    parameters: float | None = None,
    described: Described | None = None,
) -> Estimate:
    """The GPU memory of a job's training, the cheapest instance that fits, and the price.

    Args:
        config: the job.
        prices: what instances cost.
        parameters: size of the model, where neither its files nor its name tell.
        described: what is known of the model.

    Raises:
        UserInputError: the size is unknown.
    """
    described = described or Described()
    # A size that is given is another model's: the shape of this one tells nothing of it.
    size = model_size.count(described.config) if described.config and not parameters else None
    total, counted = _parameters(config.training.model, parameters, described, size)
    settings = {"method": config.training.method, **config.training.hyperparameters}
    needed = memory(total, settings, other_models(config), size)
    count = billed(config).count
    suggestion, advice = _suggestion(total, settings, other_models(config), size, prices)
    own = judge(needed, prices.instance(billed(config).machines[0][0]), count)
    return Estimate(
        total, counted, needed, suggestion, advice, own, cost(config, prices), str(prices)
    )


def _parameters(
    model: str | None, given: float | None, described: Described, size: Size | None
) -> tuple[float, str]:
    if given:
        return given, "--parameters"
    if described.directory and (weights := count_files(described.directory)):
        return weights, "counted in its files"
    if size:
        return size.parameters, "by its config.json"
    if named := parameter_count(model):
        return named, "by its name"
    kind = (described.config or {}).get("model_type")
    why = described.problem or (f"its type {kind!r} is not known here" if kind else "")
    raise UserInputError(
        f"the size of this model is unknown{': ' * bool(why)}{why}",
        field="--parameters",
        value=model,
        fix="give the number of parameters, such as --parameters 7e9",
    )


def parameter_count(model: str | None, directory: Path | None = None) -> float | None:
    """Number of parameters: counted in local files, else read off the name.

    Args:
        model: Hub id, URI or path.
        directory: the model's local directory, if it has one.
    """
    if directory is not None and (weights := count_files(directory)):
        return weights
    name = (model or "").rstrip("/").rsplit("/", 1)[-1].lower()
    parts = sorted((part for part in NAMED if part in name), key=len, reverse=True)
    if parts:
        return NAMED[parts[0]]
    if (match := _SIZE.search(name)) and not _EXPERTS.search(name):
        return float(match[1].replace("_", ".")) * (1e9 if match[2].lower() == "b" else 1e6)
    return None


def count_files(directory: Path) -> float | None:
    """Elements of the tensors in a model's safetensors files; None where there are none to count.

    Adapters are no model, and packed weights have fewer elements than parameters.
    """
    files = sorted(directory.glob("model*.safetensors")) or [
        file for file in sorted(directory.glob("*.safetensors")) if "adapter" not in file.name
    ]
    config = read_config(directory / "config.json") or {}
    if not files or config.get("quantization_config"):
        return None
    try:
        return float(sum(_count(file) for file in files))
    except (OSError, ValueError, KeyError, TypeError, struct.error):  # a part of a file, or none
        return None


def read_config(file: Path) -> dict[str, Any] | None:
    """A config.json; None where there is none, or it is no JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def other_models(config: JobConfig) -> dict[str, float | None]:
    """Parameters of a teacher and a reward model that the job names; None where not known."""
    sizes: dict[str, float | None] = {}
    for setting, name in OTHER_MODELS.items():
        named = str(config.training.hyperparameters.get(setting) or "").strip('"')
        if named:
            channel = config.training.channels.get(named.removeprefix("channel:"), named)
            location = str(channel).removeprefix("file://")
            directory = config.path(location) if "://" not in location else None
            described = read_config(directory / "config.json") if directory else None
            size = model_size.count(described) if described else None
            counted = parameter_count(location, directory)
            sizes[name] = counted or (float(size.parameters) if size else None)
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


def _fits(needed: Memory, instance: Instance, count: int = 1) -> bool:
    return needed.on(instance.gpus * count) <= instance.gpu_memory_gib * USABLE


def suggest(needed: Memory, prices: Prices) -> Instance:
    """The cheapest instance whose GPUs each hold what they must.

    With DDP, the default, each GPU holds a copy of everything.

    Raises:
        LaunchError: no single instance is large enough.
    """
    fitting = [each for each in prices.instances() if _fits(needed, each)]
    if not fitting:
        raise LaunchError(
            f"no single instance has {needed.total_gib:.0f} GiB of memory on each GPU",
            fix="use_peft: true, load_in_4bit: true, or parallelism: fsdp on several GPUs",
        )
    return min(fitting, key=lambda instance: instance.price or 0.0)


def _suggestion(
    total: float,
    settings: Mapping[str, Any],
    others: Mapping[str, float | None],
    size: Size | None,
    prices: Prices,
) -> tuple[Instance | None, str]:
    """The cheapest that fits as the job is, else sharded; and what has to be changed for it."""
    problem = None
    for change in ({}, {"parallelism": "fsdp"}):
        if change and (settings.get("fsdp") or settings.get("deepspeed")):
            continue
        needed = memory(total, {**settings, **change}, others, size)
        try:
            return suggest(needed, prices), "with parallelism: fsdp" if change else ""
        except LaunchError as error:
            problem = problem or error
    return None, f"{problem.message}; {problem.fix}" if problem else ""


def judge(needed: Memory, instance: Instance, count: int = 1) -> Verdict:
    """Whether instances of a type hold a training."""
    kind = instance.type
    if not instance.gpus:
        line = f"{kind} has no NVIDIA GPU: the training runs in its main memory, on the CPU"
        return Verdict(instance, None, line)
    fits = _fits(needed, instance, count)
    least, has = needed.on(instance.gpus * count), instance.gpu_memory_gib * USABLE
    line = (
        f"{kind} {'fits' if fits else 'is too small'}: each of {instance.gpus} GPU(s) must hold "
        f"{least:.1f} GiB, and {has:.1f} of {instance.gpu_memory_gib:g} GiB can be used"
    )
    return Verdict(instance, fits, line)
