"""Settings that need a package which the image may lack: refused before torch is imported."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sm_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sm_train.settings.settings import Config


@dataclass(frozen=True)
class Need:
    """What one setting needs.

    Attributes:
        key: the hyperparameter.
        values: regular expression of those of its values that need the package, as text.
        modules: of packages any of which will do, as they are imported.
        fix: what to do instead.
        in_images: whether a training image can have it. If not, the launcher refuses it, too.
        lacks: what it needs, where that is no package: nothing here can have it.
    """

    key: str
    values: str
    modules: tuple[str, ...]
    fix: str
    in_images: bool = False
    lacks: str = ""


_OPTIMIZER = "choose another optimizer, such as adamw_torch_fused"
_DEEPSPEED = "set parallelism to fsdp"
# The training image has no vLLM: 0.33 wants a transformers below 5.20, TRL 1.16 knows vLLM up to
# 0.31, and with it the image would be twice as large.
_VLLM = "leave it out; use_transformers_continuous_batching samples fast without it"
_TRACKER = "remove it: TensorBoard's files are always written"
MLFLOW = "mlflow"
# What transformers calls each tracker, and the package that it imports.
TRACKERS = {
    "azure_ml": "azureml", "clearml": "clearml", "codecarbon": "codecarbon", "comet_ml": "comet_ml",
    "dagshub": "dagshub", "dvclive": "dvclive", "flyte": "flytekit", MLFLOW: "mlflow",
    "neptune": "neptune", "swanlab": "swanlab", "trackio": "trackio", "wandb": "wandb",
}  # fmt: skip
KUBEFLOW = "kubeflow"
NEEDS = (
    Need("use_vllm", "true", ("vllm",), _VLLM),
    Need("deepspeed", r".+", ("deepspeed",), _DEEPSPEED),
    Need("parallelism", "zero[23]", ("deepspeed",), _DEEPSPEED),
    Need("optim", "galore_.*", ("galore_torch",), _OPTIMIZER),
    Need("optim", "apollo_.*", ("apollo_torch",), _OPTIMIZER),
    Need("optim", "(ada)?lomo", ("lomo_optim",), _OPTIMIZER),
    Need("optim", "grokadamw", ("grokadamw",), _OPTIMIZER),
    Need("optim", "schedule_free_.*", ("schedulefree",), _OPTIMIZER),
    Need("optim", "stable_adamw", ("optimi",), _OPTIMIZER),
    Need("optim", "adamw_torch_[48]bit", ("torchao",), _OPTIMIZER),
    Need("optim", "adamw_apex_fused", ("apex",), _OPTIMIZER),
    Need("optim", "adamw_anyprecision", ("torchdistx",), _OPTIMIZER),
    Need("optim", ".*bnb.*|(adamw|lion)_8bit|lion_32bit|paged_.*|ademamix.*", ("bitsandbytes",),
         f"{_OPTIMIZER}, or the image's GPU flavour", in_images=True),
    Need("use_liger_kernel", "true", ("liger_kernel",), "leave it out, or use the GPU flavour",
         in_images=True),
    Need("attn_implementation", "flash_attention_2", ("flash_attn", "kernels"),
         "leave it out: the best that is there is taken", in_images=True),
    Need("attn_implementation", "flash_attention_3", ("flash_attn_interface", "kernels"),
         "leave it out: the best that is there is taken", in_images=True),
    Need("attn_implementation", "flash_attention_4", ("flash_attn.cute", "kernels"),
         "leave it out: the best that is there is taken", in_images=True),
    *(Need("report_to", rf"(.*\W)?{name}(\W.*)?", (package,), _TRACKER, in_images=name == MLFLOW)
      for name, package in TRACKERS.items()),
    Need("report_to", rf"(.*\W)?{KUBEFLOW}(\W.*)?", (), _TRACKER,
         lacks="the server of a Kubeflow TrainJob"),
)  # fmt: skip


def check_packages(config: Config) -> None:
    """Refuse a setting whose package is not installed. Raises UserError with what to do instead."""
    settings = {
        **config.training,
        "parallelism": config.job.parallelism,
        "attn_implementation": config.model.attn_implementation,
    }
    for need in NEEDS:
        if wanted(need, settings) and not any(map(installed, need.modules)):
            raise _refused(need, settings[need.key])


def _refused(need: Need, value: Any) -> UserError:
    message, fix = f"needs {need.lacks}, which no job here has", need.fix
    if not need.lacks:
        package = need.modules[0].partition(".")[0]
        message = f"needs the package {package}, which is not installed"
        fix = f"{need.fix}; or add it to an image made from this one"
    return UserError(message, field=need.key, value=value, fix=fix)


def wanted(need: Need, settings: Mapping[str, Any]) -> bool:
    """Whether the settings ask for the package."""
    value = settings.get(need.key)
    if value is None or value is False:
        return False
    text = value if isinstance(value, str) else json.dumps(value)
    return re.fullmatch(need.values, text, re.DOTALL) is not None


def installed(module: str) -> bool:
    """Whether a module can be imported; nothing of it is, but for the packages that hold it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that would hold it
        return False


def missing_in_images() -> list[dict[str, Any]]:
    """The needs that no training image meets, for the launcher, which refuses them earlier."""
    return [
        {key: value for key, value in asdict(need).items() if key != "in_images"}
        for need in NEEDS
        if not need.in_images
    ]
