"""How a model is asked, as its training wrote it into `task_specific_params` of config.json."""

from __future__ import annotations

from typing import Any


def learnt_parameters(config: Any, method: str) -> dict[str, Any]:
    """What stands there for a training method; nothing where a config of others has another form.

    `config`: of a model, or what a config.json holds.
    """
    key = "task_specific_params"
    told = config.get(key) if isinstance(config, dict) else getattr(config, key, None)
    own = told.get(method) if isinstance(told, dict) else None
    return own if isinstance(own, dict) else {}
