"""Files of a model directory that are read before torch is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sm_serve.errors import StartupError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of the model directory; StartupError says which file is bad and why."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StartupError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise StartupError(f"{path} must hold a JSON object, not a {type(value).__name__}")
    return value
