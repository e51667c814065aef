"""What LoRA adapts, checked on the loaded model before anything is trained."""

from __future__ import annotations

import re
from typing import Any

from sm_train.errors import UserError
from sm_train.settings.arguments import ModelArguments

LABELLED_TASKS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
"""PEFT's tasks of encoders with a head: their adapters need a config.json that describes it."""


def lora_targets(options: ModelArguments) -> Any:
    targets = options.lora_target_modules
    if not targets:
        return None if options.lora_target_parameters else "all-linear"
    alone = len(targets) == 1 and (targets[0] == "all-linear" or _is_pattern(targets[0]))
    return targets[0] if alone else targets


def _is_pattern(target: str) -> bool:
    """PEFT takes a single text for a regular expression of whole names; a plain name is none."""
    return re.search(r"[*+?^$|()\[\]\\]", target) is not None


def check_lora_targets(model: Any, options: ModelArguments) -> None:
    """Raise UserError when LoRA would find nothing to adapt, naming what there is."""
    if not options.use_peft:
        return
    _check_target_parameters(model, options.lora_target_parameters or [])
    targets = lora_targets(options)
    if targets in (None, "all-linear"):
        return
    names = [name for name, module in model.named_modules() if name and not list(module.children())]
    wanted = [targets] if isinstance(targets, str) else targets
    missing = [t for t in wanted if not any(_hits(t, name, targets) for name in names)]
    if missing:
        present = sorted({name.rsplit(".", 1)[-1] for name in names if "layers" in name} or names)
        raise UserError(
            f"the base model has no module {', '.join(missing)}",
            field="lora_target_modules",
            value=targets,
            fix=f"use all-linear, or names such as {', '.join(present[:12])}",
        )


def _check_target_parameters(model: Any, targets: list[str]) -> None:
    """PEFT would train nothing for a name that is not there, and takes matrices only."""
    parameters = dict(model.named_parameters())
    for target in targets:
        matches = [p for name, p in parameters.items() if f".{name}".endswith(f".{target}")]
        if matches and all(p.dim() in (2, 3) for p in matches):
            continue
        matrices = {n.split(".", 3)[-1] for n, p in parameters.items() if p.dim() in (2, 3)}
        raise UserError(
            f"{target} is no matrix" if matches else f"the base model has no parameter {target}",
            field="lora_target_parameters",
            value=targets,
            fix=f"use names such as {', '.join(sorted(matrices)[:12])}",
        )


def _hits(target: str, name: str, targets: Any) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(target, name) is not None
    return name == target or name.endswith(f".{target}")


def check_mergeable(model: Any, options: ModelArguments, export: str) -> None:
    """Raise UserError for LoRA that cannot be merged, where it is to be.

    Weights that two modules share: the adapter changes one of them, and the merged weights would
    change both. Weights that are quantised in the files already: there are no others to merge into.
    """
    if not options.use_peft or export == "adapter":
        return
    if is_quantised(model) and not (options.load_in_4bit or options.load_in_8bit):
        raise quantised_files(export)
    targets, saved = lora_targets(options), options.lora_modules_to_save or []
    for names in _tied_modules(model):
        plain = [name.rsplit(".", 1)[0] for name in names]
        wanted = [targets] if isinstance(targets, str) else targets or []
        hit = {
            "lora_target_modules": [t for t in wanted if any(_hits(t, n, targets) for n in plain)],
            "lora_modules_to_save": [t for t in saved if any(n.endswith(t) for n in plain)],
            "lora_target_parameters": [
                t
                for t in options.lora_target_parameters or []
                if any(f".{n}".endswith(f".{t}") for n in names)
            ],
        }
        for field, matches in hit.items():
            if matches:
                raise UserError(
                    f"{' and '.join(plain)} share their weights, which cannot be merged when one "
                    "of them is trained apart",
                    field=field,
                    value=matches,
                    fix="leave them out, or set export to adapter",
                )


def quantised_files(export: str) -> UserError:
    """Why an adapter cannot be merged into a base model whose files are quantised already."""
    return UserError(
        "cannot be merged: the base model's files hold quantised weights",
        field="export",
        value=export,
        fix="set export to adapter, or use the base model that is not quantised (with "
        "load_in_4bit it takes as little memory)",
    )


def _tied_modules(model: Any) -> list[list[str]]:
    """Names of the parameters that are one and the same, in groups of two and more."""
    groups: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(weight), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def is_quantised(model: Any) -> bool:
    """Whether the loaded weights are packed in fewer bits, by the settings or in their files."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return bool(getattr(base, "is_quantized", False))


def tied_names(model: Any) -> list[str]:
    """Names of the weights that are another one's, by which they are loaded."""
    return list(getattr(model, "all_tied_weights_keys", None) or ())
