"""What a loaded classifier lacks: its files may hold a model without a head, or another task's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sm_serve.artefact.adapter_head import has_another_head, saved_names
from sm_serve.artefact.artefact import Artefact
from sm_serve.errors import StartupError
from sm_serve.tasks import heads


def gaps_of(model: Any, artefact: Artefact, loading_info: Mapping[str, Any]) -> frozenset[str]:
    """The head's parameters that nothing fills; `loading_info` is from_pretrained's.

    They are random. StartupError where no adapter to choose from can bring them, as nonsense would
    answer.
    """
    task = artefact.task
    if task not in heads():
        return frozenset()
    body = f"{model.base_model_prefix}."
    head = {name for name, _ in model.named_parameters() if not name.startswith(body)}
    missing = {*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])}
    if has_another_head(artefact.config, task):
        missing |= head
    gaps = {name for name in missing if name in head or ".pooler." in name}
    if artefact.is_adapter:
        gaps -= saved_names(artefact.path)
    if gaps and not artefact.adapters:
        who = "neither the adapter nor its base model has" if artefact.is_adapter else "it lacks"
        raise StartupError(
            f"{artefact.path}: {who} {min(gaps)}, which {task} needs: fine-tune it for this task"
            " (an adapter with modules_to_save naming the whole head), or correct HF_TASK"
        )
    return frozenset(gaps)
