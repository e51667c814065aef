"""What TRL's command line takes beside a method's config: data sets, launch settings, flags.

`trl sft --config sft.yaml` works here with the same file: what has a meaning keeps it, the rest is
named in a warning.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sm_train.contract import read_text
from sm_train.errors import UserError
from sm_train.settings.decoding import unquote
from sm_train.settings.parallelism import zero_config

# Keys of TRL's scripts and of `accelerate launch` that have no say here, and why.
_RANKS = "hosts and ranks come from resourceconfig.json, processes from num_processes"
IGNORED = {
    "dataset_streaming": "streaming says it, of the channels too",
    "ignore_bias_buffers": "it is a debug setting of TRL's script",
    "config_file": "use accelerate_config",
    "num_machines": _RANKS,
    "machine_rank": _RANKS,
    "main_process_ip": _RANKS,
    "main_process_port": _RANKS,
    "same_network": _RANKS,
    "rdzv_backend": _RANKS,
    "gpu_ids": _RANKS,
    "multi_gpu": _RANKS,
    "mixed_precision": "bf16 and fp16 say it",
    "dynamo_backend": "torch_compile says it",
    "overwrite_output_dir": "a job resumes from its last whole checkpoint",
    "resume_from_checkpoint": "a job resumes from its last whole checkpoint",
    "save_safetensors": "models are always saved as safetensors",
    "logging_dir": "TensorBoard's files go to output/data/tensorboard",
}


def plain_key(key: str) -> str:
    """`--learning-rate` and `learning-rate` mean learning_rate."""
    return key.strip().lstrip("-").replace("-", "_")


def yaml_config(
    raw: Any, channel: Path | None, besides: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The YAML config that the `config` hyperparameter or the `config` channel brings.

    `besides`: names of files there that are something else, such as an accelerate config.
    """
    name = unquote(raw)
    text, source = None, "config"
    if isinstance(name, str) and re.search(r"[:\n]", name):
        text = name
    elif channel is not None:
        files = sorted(p for p in channel.iterdir() if p.suffix in {".yaml", ".yml"})
        wanted = [p for p in files if p.name == name or not (name or p.name in besides)]
        if not wanted and not name:
            return {}
        if len(wanted) != 1:
            raise UserError(
                f"names one file of the config channel, which has {[p.name for p in files]}",
                field="config",
                value=name,
                fix="set the hyperparameter config to one of them",
            )
        text, source = read_text(wanted[0], "config"), wanted[0].name
    elif name:
        raise UserError(
            "is neither YAML text nor a file of a `config` channel", field="config", value=name
        )
    return _parse_yaml(text, source) if text is not None else {}


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"is not valid YAML: {error}", field=source) from error
    if not isinstance(values, dict):
        raise UserError("must hold a YAML mapping of settings", field=source)
    return {plain_key(str(key)): value for key, value in values.items()}


def environment(raw: Any) -> dict[str, str]:
    """The `env` of a TRL config: variables to set before training."""
    values = unquote(raw) or {}
    if not isinstance(values, dict):
        raise UserError("must be a mapping of variables to values", field="env", value=raw)
    return {str(key): str(value) for key, value in values.items()}


def without_flags(values: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """`no_packing` as argparse has it means packing false."""
    plain = {}
    for key, value in values.items():
        name = key.removeprefix("no_")
        if key not in schema or key == name or name not in schema:
            plain[key] = value
            continue
        if str(value).strip().strip('"').lower() not in {"", "true", "1", "yes"}:
            raise UserError("is a switch", field=key, value=value, fix=f"set {name} instead")
        if name in values:
            raise UserError(f"contradicts {name}", field=key, value=value, fix="set only one")
        plain[name] = False
    return plain


def distribution(name: str, channel: Path | None) -> dict[str, Any]:
    """Trainer settings that stand for an accelerate config: a file of `config`, or TRL's by name.

    Raises UserError when there is no such file or it asks for something unknown.
    """
    profile = _profile(name, channel)
    kind = str(profile.get("distributed_type", "NO")).upper()
    if kind == "FSDP":
        options = profile.get("fsdp_config") or {}
        plain = {str(key).removeprefix("fsdp_"): value for key, value in options.items()}
        return {"fsdp": True, "fsdp_config": plain}
    if kind == "DEEPSPEED":
        options = profile.get("deepspeed_config") or {}
        return {"deepspeed": _deepspeed(options)} if has_deepspeed() else _fsdp_for(options)
    if kind in {"NO", "MULTI_GPU", "MULTI_CPU"}:
        return {}
    raise UserError(
        f"asks for {kind}, which this image does not run",
        field="accelerate_config",
        value=name,
        fix="use single_gpu, multi_gpu, fsdp2, zero2 or zero3",
    )


def has_deepspeed() -> bool:
    """Whether the package is installed; it compiles with nvcc, so our images do without it."""
    return importlib.util.find_spec("deepspeed") is not None


def _fsdp_for(options: Mapping[str, Any]) -> dict[str, Any]:
    """FSDP2 in ZeRO's place: stage 3 gives parameters back after each use, 1 and 2 keep them."""
    settings: dict[str, Any] = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
    settings["reshard_after_forward"] = int(options.get("zero_stage", 2)) == 3
    settings["cpu_ram_efficient_loading"] = True
    offloaded = (options.get(f"offload_{part}_device", "none") for part in ("optimizer", "param"))
    settings["offload_params"] = any(device != "none" for device in offloaded)
    return {"fsdp": True, "fsdp_config": settings}


def _profile(name: str, channel: Path | None) -> dict[str, Any]:
    import yaml

    package = importlib.util.find_spec("trl")
    folders = package.submodule_search_locations if package else None
    shipped = Path(next(iter(folders or ()), "")) / "accelerate_configs"
    places = [shipped / f"{name}.yaml", *([channel / name] if channel else [])]
    path = next((place for place in places if place.is_file()), None)
    try:
        profile = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        profile = None
    if isinstance(profile, dict):
        return profile
    raise UserError(
        "is neither an accelerate config of TRL's nor a YAML file of the `config` channel",
        field="accelerate_config",
        value=name,
        fix=f"use one of {', '.join(sorted(p.stem for p in shipped.glob('*.yaml')))}",
    )


def _deepspeed(options: Mapping[str, Any]) -> dict[str, Any]:
    """DeepSpeed's own settings; `auto` takes the trainer's."""
    settings = zero_config(int(options.get("zero_stage", 2)))
    for part in ("optimizer", "param"):
        device = options.get(f"offload_{part}_device", "none")
        if device != "none":
            settings["zero_optimization"][f"offload_{part}"] = {"device": device}
    return settings
