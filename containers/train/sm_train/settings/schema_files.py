"""The schemas of the methods' hyperparameters, as `sm_train.methods.schema` wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "schemas"


PROCESSORS = "processors.json"


def wants_torchvision(model_type: str) -> bool:
    """Whether a kind of model has a processor that takes videos, which torchvision reads."""
    kinds = json.loads((FOLDER / PROCESSORS).read_text(encoding="utf-8"))["torchvision"]
    return model_type in kinds


def load_schema(method: str) -> dict[str, Any]:
    """The schema that was generated for a method."""
    schema: dict[str, Any] = json.loads((FOLDER / f"{method}.json").read_text(encoding="utf-8"))
    return schema
